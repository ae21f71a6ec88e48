// Suppression files applied to a verdict: who hides what, which rules nobody needs, which hide too much; and, the other
// way round, a rule that would hide one leak and little else.
//
// A rule that fits any program (it matches main, or what starts it) is refused: it would pass every leak there is. One
// that matches more than half of all stacks is used and told. Must not: read files.
#pragma once

#include <string>
#include <vector>

#include "tools/leak_verdict.h"
#include "tools/suppressions.h"

namespace tidemark {

struct SuppressionSource {
  Suppressions rules;
  bool is_default = false;  // the built-in file: its unused rules are nothing to tell
};

struct SuppressionOutcome {
  struct Used {
    std::string rule, where;  // where: "FILE:LINE"
    uint64_t leaks = 0;
    Usage amount;
  };
  std::vector<Used> used;             // in the order of the files
  std::vector<std::string> warnings;  // one sentence each: unused, refused, wide, not understood
};

// Sets suppressed_by and suppressed_in of leaks. What an indirectly lost block is charged to decides for it, too: it is
// suppressed when it matches, or when all its leaders are. `allow_wide`: refuse nothing.
SuppressionOutcome ApplySuppressions(std::vector<SuppressionSource>* sources, bool allow_wide, LeakVerdict* verdict);

// "leak:^make_list$", or an entry for Valgrind in several lines when no function is known. Matches the leak; "" without
// a stack.
std::string SuggestedRule(const Leak& leak);
// The same as an entry that Valgrind reads, frame by frame.
std::string ValgrindEntry(const Leak& leak);

// The file with what libraries keep by design: tools/default.supp, which is part of the program.
std::string_view DefaultSuppressions();

}  // namespace tidemark
