// Time between two moments of a trace. Clocks of a damaged trace may leap anywhere: the answer is never negative, and
// so far below the largest number that sums of a few do not overflow.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tidemark {

inline int64_t ElapsedNs(int64_t from_ns, int64_t to_ns) {
  constexpr int64_t kLongest = int64_t{1} << 60;  // 36 years
  int64_t elapsed = 0;
  if (__builtin_sub_overflow(to_ns, from_ns, &elapsed)) return to_ns < from_ns ? 0 : kLongest;
  return std::clamp<int64_t>(elapsed, 0, kLongest);
}

}  // namespace tidemark
