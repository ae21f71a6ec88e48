// Which traces make one run: FILE, and beside it FILE.PID of children and earlier images (profiler/trace_names.h).
// Must not: open a trace.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tidemark {

// Files beside `path` that are named like traces of its run, by name. They may be of another run: see RunMembership.
std::vector<std::string> SiblingTraces(const std::string& path);

// A file of this name that an earlier recording left behind began before this run did. A run begins with the first
// image of its first process; FILE may be a later one.
class RunMembership {
 public:
  explicit RunMembership(const nlohmann::json& info);
  // Call with all siblings, before Has() is asked.
  void Learn(const nlohmann::json& sibling_info);
  bool Has(const nlohmann::json& sibling_info) const;

 private:
  uint64_t pid_, image_, start_ns_;
};

}  // namespace tidemark
