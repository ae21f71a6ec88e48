// What this machine and this user's rights offer of what recording needs; one finding per property.
//
// Must not: leave anything behind (files, processes, sockets), print.
#pragma once

#include <string>
#include <vector>

namespace tidemark {

struct Finding {
  enum class Outcome { kGood, kBad, kUnknown };
  std::string name;  // stable, for --json
  Outcome outcome = Outcome::kGood;
  std::string detail;  // a clause; for a bad one also what to do
};

// glibc, shared memory, seals, pidfd, MADV_WIPEONFORK, sockets.
std::vector<Finding> ProbeMachine();
// The library: found, its dependencies load, and a test program really attaches through it.
std::vector<Finding> ProbeLibrary();

// "" when every library that `library` needs can be loaded; else which one cannot, and what to do.
std::string WhyLibraryDoesNotLoad(const std::string& library);

}  // namespace tidemark
