// A part of the run's time, for every number there is: what was allocated, released and reached within it, and what
// was alive at its end. Blocks from before the window are alive in it and were not allocated in it.
#pragma once

#include <cstdint>
#include <optional>

namespace tidemark {

// [from, to), in nanoseconds as TraceReader::TimeNs; an end that is not said is the run's.
struct TimeWindow {
  std::optional<int64_t> from_ns, to_ns;
  bool whole() const { return !from_ns && !to_ns; }
};

}  // namespace tidemark
