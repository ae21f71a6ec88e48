// What is allowed: from a verdict with suppressions and baseline applied to an exit status and the reasons for it.
//
//   without budgets   every leak of a class in `fail_on` that is neither suppressed nor known to the baseline fails
//   with budgets      those leaks are summed, and only a sum that is beyond its budget fails
//   a process that could not be checked: kCouldNotCheck, unless a leak fails anyway
//
// An estimate is beyond a budget when the lower end of its interval is: nobody fails by chance. Must not: print.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/leak_verdict.h"
#include "tools/result.h"

namespace tidemark {

struct LeakBudget {
  uint64_t bytes = 0;
  uint32_t kinds = 0;  // 0: those of fail_on
};

struct LeakPolicy {
  uint32_t fail_on = kLeakDefinite;
  std::vector<LeakBudget> budgets;
  std::optional<uint64_t> max_per_site, max_blocks;
  bool fail_unchecked = true;
  bool has_budgets() const { return !budgets.empty() || max_per_site || max_blocks; }
};

struct LeakDecision {
  ExitStatus status = ExitStatus::kOk;
  std::vector<std::string> reasons;  // sentences, worst first; one also when all is well
  size_t failing = 0;                // leaks
};

// Sets Leak::fails and Leak::rule.
LeakDecision Judge(const LeakPolicy& policy, LeakVerdict* verdict);

// "4096", "64K", "1M:possible".
std::optional<LeakBudget> ParseBudget(const std::string& text);

}  // namespace tidemark
