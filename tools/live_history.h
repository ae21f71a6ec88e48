// Live bytes and blocks at equally spaced moments of a trace, and at its peak: what viewers draw over time.
//
// Sampled traces give estimates. The last point is the end. Must not: know who held what.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/model/heap_model.h"

namespace tidemark {

struct LivePoint {
  int64_t time_ns = 0;  // since the first event
  double bytes = 0, blocks = 0;
  bool peak = false;
};

// Reads the trace once more. Up to `points` + 1 points, ordered by time; one of them is the peak if there was any.
std::vector<LivePoint> LiveHistory(TraceReader& reader, const HeapModel& model, size_t points);

}  // namespace tidemark
