// Does a series rise, how fast, and what does that make of an allocation site?
//
//   Mann-Kendall  is there a trend at all? S = (pairs that rise) - (pairs that fall); under no trend S has mean 0 and a
//                 known variance, corrected for ties. No assumption on the shape of the series or its noise.
//   Theil-Sen     how steep? The median of the slopes of all pairs; its interval are two of those slopes, chosen by the
//                 variance of S (Sen 1968). A third of the points may be anything without changing it much.
//
// A rise alone proves no leak: caches fill, programs work themselves up. So a verdict also asks what is released.
// Must not: know where the numbers come from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tidemark {

struct MannKendall {
  int64_t s = 0;
  double variance = 0;
  double z = 0;        // with the correction for continuity; 0 when the variance is
  double p_value = 1;  // that a series without trend gives such an |S| or a larger one
};
MannKendall TestTrend(std::span<const double> values);

struct TheilSen {
  double slope = 0, low = 0, high = 0;
  double intercept = 0;  // median of the values - slope * median of the places
};
// Values at places; places need not be in order, equal ones give no slope. `confidence`: of [low, high], such as 0.95.
// All zero when no two places differ. Takes the square of the number of points.
TheilSen FitTrend(std::span<const double> places, std::span<const double> values, double confidence);

enum class Growth {
  kLeaked,     // proved: a leak check found blocks of it lost
  kUnbounded,  // rises to the end, and next to nothing is released
  kCacheLike,  // rises, but releases as well, or has stopped rising
  kSteady,     // does not rise
  kUndecided,  // too little is known
};
const char* NameOf(Growth growth);

// One site over a run.
struct GrowthSeries {
  std::vector<double> clock;                     // bytes that the process had allocated
  std::vector<double> live;                      // bytes of the site that were alive then
  double allocated_late = 0, released_late = 0;  // bytes of the site in the last third of the clock
  uint64_t samples = 0;                          // blocks that were seen
  bool sampled = false;
  double lost_bytes = 0;  // found lost by a leak check
};

struct GrowthVerdict {
  Growth growth = Growth::kUndecided;
  MannKendall trend;
  TheilSen line;              // bytes live per byte allocated by the process
  double released_share = 0;  // of what was allocated late
};
inline constexpr size_t kLeastGrowthPoints = 12;
inline constexpr uint64_t kLeastGrowthSamples = 30;  // in sampled traces: fewer say nothing of a shape
GrowthVerdict JudgeGrowth(const GrowthSeries& series);

}  // namespace tidemark
