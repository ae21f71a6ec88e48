// Interpolation of times; see clock_map.h. Must not: divide by a difference that was not checked.
#include "tools/clock_map.h"

#include <algorithm>
#include <limits>

namespace tidemark {

ClockMap::ClockMap(std::vector<TraceClock> samples) {
  std::sort(samples.begin(), samples.end(), [](const TraceClock& a, const TraceClock& b) { return a.tsc < b.tsc; });
  for (const TraceClock& sample : samples) {
    if (samples_.empty() || (sample.tsc > samples_.back().tsc && sample.monotonic_ns > samples_.back().monotonic_ns)) {
      samples_.push_back(sample);
    }
  }
}

int64_t ClockMap::TimeNs(uint64_t tsc) const {
  __extension__ typedef __int128 Wide;
  const auto saturated = [](Wide value) {
    constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = std::numeric_limits<int64_t>::max();
    return value < kMin ? kMin : value > kMax ? kMax : static_cast<int64_t>(value);
  };
  if (samples_.empty()) return saturated(Wide{tsc});
  const uint64_t origin = samples_.front().monotonic_ns;
  if (samples_.size() == 1) return saturated(Wide{tsc} - Wide{samples_.front().tsc});
  // The segment that holds tsc; the first and the last one reach beyond their ends.
  auto right = std::upper_bound(samples_.begin() + 1, samples_.end() - 1, tsc,
                                [](uint64_t value, const TraceClock& sample) { return value < sample.tsc; });
  const TraceClock& a = *(right - 1);
  const TraceClock& b = *right;
  // Ticks times nanoseconds may exceed 128 bits with invented samples. 64 bits of mantissa are exact to the
  // nanosecond for segments of centuries.
  const Wide ticks = Wide{tsc} - Wide{a.tsc};
  const long double rate =
      static_cast<long double>(b.monotonic_ns - a.monotonic_ns) / static_cast<long double>(b.tsc - a.tsc);
  const long double ns = static_cast<long double>(ticks) * rate;
  constexpr long double kLimit = 9.0e18L;
  const Wide offset = ns > kLimit    ? Wide{std::numeric_limits<int64_t>::max()}
                      : ns < -kLimit ? Wide{std::numeric_limits<int64_t>::min()}
                                     : static_cast<Wide>(ns);
  return saturated(Wide{a.monotonic_ns} - Wide{origin} + offset);
}

}  // namespace tidemark
