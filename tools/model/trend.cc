// See trend.h. Mann, Econometrica 13 (1945); Kendall, Rank Correlation Methods (1975); Sen, JASA 63 (1968).
#include "tools/model/trend.h"

#include <algorithm>
#include <cmath>

namespace tidemark {
namespace {

// Rises are taken for real at this level, and lines are told at the other.
constexpr double kTrendLevel = 0.01, kLineConfidence = 0.95;
// Released of what was allocated late: below the first nothing comes back, above the second most does.
constexpr double kNothingReleased = 0.1, kMuchReleased = 0.5;
// A slope below this part of the whole series' has stopped.
constexpr double kStopped = 0.1;

double Median(std::vector<double>* values) {
  if (values->empty()) return 0;
  const auto middle = values->begin() + static_cast<ptrdiff_t>(values->size() / 2);
  std::nth_element(values->begin(), middle, values->end());
  if (values->size() % 2 != 0) return *middle;
  return (*middle + *std::max_element(values->begin(), middle)) / 2;
}

double TieTerm(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (size_t i = 0; i < values.size();) {
    size_t end = i;
    while (end < values.size() && values[end] == values[i]) ++end;
    const auto t = static_cast<double>(end - i);
    sum += t * (t - 1) * (2 * t + 5);
    i = end;
  }
  return sum;
}

double VarianceOfS(size_t count, double ties) {
  const auto n = static_cast<double>(count);
  return (n * (n - 1) * (2 * n + 5) - ties) / 18;
}

double NormalQuantile(double probability) {
  double low = -40, high = 40;
  for (int i = 0; i < 100; ++i) {
    const double mid = (low + high) / 2;
    (0.5 * std::erfc(-mid / std::sqrt(2.0)) < probability ? low : high) = mid;
  }
  return (low + high) / 2;
}

bool Rises(const MannKendall& trend, const TheilSen& line) {
  return trend.z > 0 && trend.p_value < kTrendLevel && line.low > 0;
}

}  // namespace

MannKendall TestTrend(std::span<const double> values) {
  MannKendall test;
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = i + 1; j < values.size(); ++j) test.s += (values[j] > values[i]) - (values[j] < values[i]);
  }
  if (values.size() < 2) return test;
  test.variance = VarianceOfS(values.size(), TieTerm({values.begin(), values.end()}));
  if (test.variance > 0 && test.s != 0) {
    test.z = static_cast<double>(test.s > 0 ? test.s - 1 : test.s + 1) / std::sqrt(test.variance);
    test.p_value = std::erfc(std::fabs(test.z) / std::sqrt(2.0));
  }
  return test;
}

TheilSen FitTrend(std::span<const double> places, std::span<const double> values, double confidence) {
  TheilSen line;
  const size_t count = std::min(places.size(), values.size());
  std::vector<double> slopes;
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = i + 1; j < count; ++j) {
      const double distance = places[j] - places[i];
      if (distance != 0) slopes.push_back((values[j] - values[i]) / distance);
    }
  }
  if (slopes.empty()) return line;
  std::sort(slopes.begin(), slopes.end());
  line.slope = Median(&slopes);
  std::sort(slopes.begin(), slopes.end());
  std::vector<double> x(places.begin(), places.begin() + static_cast<ptrdiff_t>(count));
  std::vector<double> y(values.begin(), values.begin() + static_cast<ptrdiff_t>(count));
  const double variance = VarianceOfS(count, TieTerm(x) + TieTerm(y));
  line.intercept = Median(&y) - line.slope * Median(&x);
  const auto number = static_cast<double>(slopes.size());
  const double reach = NormalQuantile(0.5 + confidence / 2) * std::sqrt(std::max(variance, 0.0));
  const double last = number - 1;
  const double low = std::clamp(std::round((number - reach) / 2) - 1, 0.0, last);
  const double high = std::clamp(std::round((number + reach) / 2), 0.0, last);
  line.low = slopes[static_cast<size_t>(low)];
  line.high = slopes[static_cast<size_t>(high)];
  return line;
}

const char* NameOf(Growth growth) {
  switch (growth) {
    case Growth::kLeaked:
      return "leaked";
    case Growth::kUnbounded:
      return "unbounded growth";
    case Growth::kCacheLike:
      return "cache-like";
    case Growth::kSteady:
      return "steady";
    case Growth::kUndecided:
      break;
  }
  return "undecided";
}

GrowthVerdict JudgeGrowth(const GrowthSeries& series) {
  GrowthVerdict verdict;
  verdict.trend = TestTrend(series.live);
  verdict.line = FitTrend(series.clock, series.live, kLineConfidence);
  if (series.allocated_late > 0) verdict.released_share = series.released_late / series.allocated_late;
  if (series.lost_bytes > 0) {
    verdict.growth = Growth::kLeaked;
    return verdict;
  }
  const size_t count = std::min(series.clock.size(), series.live.size());
  if (count < kLeastGrowthPoints || (series.sampled && series.samples < kLeastGrowthSamples)) return verdict;
  if (!Rises(verdict.trend, verdict.line)) {
    verdict.growth = Growth::kSteady;
    return verdict;
  }
  const size_t half = count / 2;
  const std::span<const double> late_clock(series.clock.data() + half, count - half);
  const std::span<const double> late_live(series.live.data() + half, count - half);
  const TheilSen late = FitTrend(late_clock, late_live, kLineConfidence);
  if (late.slope < verdict.line.slope * kStopped || verdict.released_share >= kMuchReleased) {
    verdict.growth = Growth::kCacheLike;
  } else if (verdict.released_share < kNothingReleased) {
    verdict.growth = Growth::kUnbounded;
  }
  return verdict;
}

}  // namespace tidemark
