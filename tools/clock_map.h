// TSC ticks -> nanoseconds of CLOCK_MONOTONIC, by interpolation between the clock samples of a trace.
//
// Must not: overflow on samples that a damaged trace invents; results saturate.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/trace_writer.h"

namespace tidemark {

class ClockMap {
 public:
  // Samples in any order. Those that would let time stand still or run backwards are left out.
  explicit ClockMap(std::vector<TraceClock> samples);

  // With one sample or none a tick counts as a nanosecond; this is false then.
  bool knows_rate() const { return samples_.size() >= 2; }
  // Nanoseconds since the first sample.
  int64_t TimeNs(uint64_t tsc) const;
  uint64_t origin_monotonic_ns() const { return samples_.empty() ? 0 : samples_.front().monotonic_ns; }

 private:
  std::vector<TraceClock> samples_;  // strictly ascending in tsc and monotonic_ns
};

}  // namespace tidemark
