// Stacks whose live bytes rise over the run: what a leak looks like while everything can still be reached.
//
// The numbers are HeapHistory's, the judgement is tools/model/trend.h's; here they meet the leak check, which may have
// proved blocks of the stack lost. Takes a pass over the events. Must not: make a verdict fail; growth proves nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/leak_verdict.h"
#include "tools/model/trend.h"

namespace tidemark {

struct LeakGrowth {
  uint32_t process = 0;  // index into LeakVerdict::processes
  std::vector<LeakFrame> stack;
  GrowthVerdict verdict;
  double live_bytes = 0;  // at the end
};

// Those that are leaked, of unbounded growth or cache-like; worst verdict first, then heaviest; `most` of them.
std::vector<LeakGrowth> FindGrowth(LoadedTrace& trace, uint32_t process, size_t most);

}  // namespace tidemark
