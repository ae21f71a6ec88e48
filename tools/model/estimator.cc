// See estimator.h; the choice of interval and its measured coverage are in docs/metrics.md.
#include "tools/model/estimator.h"

#include <algorithm>
#include <cmath>

namespace tidemark {
namespace {

// Lower regularized incomplete gamma function P(a, x): series for x < a + 1, continued fraction (Lentz) beyond.
double GammaCdf(double a, double x) {
  if (x <= 0) return 0;
  const double log_front = a * std::log(x) - x - std::lgamma(a);
  // Both expansions need some sqrt(a) terms near x = a.
  const int max_terms = 200 + static_cast<int>(20 * std::sqrt(a));
  if (x < a + 1) {
    double term = 1 / a, sum = term;
    for (int i = 1; i < max_terms && term > sum * 1e-15; ++i) {
      term *= x / (a + i);
      sum += term;
    }
    return std::min(1.0, sum * std::exp(log_front));
  }
  constexpr double kTiny = 1e-300;
  double b = x + 1 - a, c = 1 / kTiny, d = 1 / b, h = d;
  for (int i = 1; i < max_terms; ++i) {
    const double an = -i * (i - a);
    b += 2;
    d = an * d + b;
    if (std::fabs(d) < kTiny) d = kTiny;
    c = b + an / c;
    if (std::fabs(c) < kTiny) c = kTiny;
    d = 1 / d;
    h *= d * c;
    if (std::fabs(d * c - 1) < 1e-15) break;
  }
  return 1 - std::exp(log_front) * h;
}

// Above this shape the Wilson-Hilferty cube is exact to far more digits than we print, and bisection would be slow.
constexpr double kLargeShape = 1e4;

double WilsonHilferty(double shape, double z) {
  const double root = 1 - 1 / (9 * shape) + z / (3 * std::sqrt(shape));
  return shape * root * root * root;
}

// Normal quantile by bisection over erfc: called with two constants only.
double NormalQuantile(double probability) {
  double low = -40, high = 40;
  for (int i = 0; i < 100; ++i) {
    const double mid = (low + high) / 2;
    (0.5 * std::erfc(-mid / std::sqrt(2.0)) < probability ? low : high) = mid;
  }
  return (low + high) / 2;
}

// A gamma distribution with given moments, at one of its quantiles.
double GammaAt(double mean, double variance, double probability) {
  const double scale = variance / mean;
  return scale * GammaQuantile(mean / scale, probability);
}

}  // namespace

SampleWeight WeightOfSample(uint64_t size_bytes, uint64_t sample_bytes) {
  SampleWeight weight;
  if (sample_bytes == 0) return weight;
  const double s = static_cast<double>(std::max<uint64_t>(size_bytes, 1));
  const double p = -std::expm1(-s / static_cast<double>(sample_bytes));
  const double q = std::exp(-s / static_cast<double>(sample_bytes));
  weight.unseen_blocks = q / p;
  weight.blocks_variance = q / (p * p);
  weight.unseen_bytes = s * weight.unseen_blocks;
  weight.bytes_variance = s * s * weight.blocks_variance;
  weight.bytes = s / p;
  weight.blocks = 1 / p;
  return weight;
}

Interval Amount::Interval95() const {
  const double certain = static_cast<double>(seen);
  if (!(unseen > 0) || !(variance > 0)) return {certain, certain};
  // Half an event is added, as Jeffreys' prior does for a Poisson count: an average one at the low end, the heaviest
  // one at the high end (Fay & Feuer's correction for sums whose terms differ: the kind that was missed may be that
  // one).
  const double average = variance / unseen;
  const double heavy = std::max(heaviest, average);
  Interval interval;
  interval.low = certain + GammaAt(unseen + average / 2, variance + average * average / 2, 0.025);
  interval.high = certain + GammaAt(unseen + heavy / 2, variance + heavy * heavy / 2, 0.975);
  // Large blocks: when it is likely that none went unseen, "seen" is inside the interval, which a gamma cannot say.
  const double p = certain / value();
  const double log_slope = p < 1 ? std::log(p) / (1 - p) : -1;  // its limit, where p rounds to 1
  const double log_none_unseen = unseen * unseen / variance * log_slope;
  if (log_none_unseen > std::log(0.025)) interval.low = certain;
  return interval;
}

double NoSampleBoundBytes(uint64_t sample_bytes) { return -std::log(0.05) * static_cast<double>(sample_bytes); }

double GammaQuantile(double shape, double probability) {
  if (shape > kLargeShape) return WilsonHilferty(shape, NormalQuantile(probability));
  double low = 0, high = std::max(shape, 1.0);
  while (GammaCdf(shape, high) < probability) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-10 * high; ++i) {
    const double mid = (low + high) / 2;
    (GammaCdf(shape, mid) < probability ? low : high) = mid;
  }
  return (low + high) / 2;
}

}  // namespace tidemark
