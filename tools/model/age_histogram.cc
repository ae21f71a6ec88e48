// See age_histogram.h.
#include "tools/model/age_histogram.h"

#include <algorithm>
#include <cmath>

namespace tidemark {

uint64_t AgeBucketLow(uint32_t bucket) {
  constexpr uint32_t kSubs = 1u << kAgeSubBits;
  if (bucket < kSubs) return bucket;
  const uint32_t shift = (bucket >> kAgeSubBits) - 1;
  return (uint64_t{kSubs} | (bucket & (kSubs - 1))) << shift;
}

SurvivalCurve AgeHistogram::Survival(Unit unit) const {
  const auto u = static_cast<size_t>(unit);
  SurvivalCurve curve;
  curve.survival_.resize(kAgeBuckets + 1);
  curve.died_variance_.resize(kAgeBuckets + 1);
  double survival = 1, at_risk = 0;
  for (uint32_t i = 0; i < kAgeBuckets; ++i) {
    curve.survival_[i] = survival;
    const Bucket& bucket = buckets_[i];
    curve.died_variance_[i + 1] = curve.died_variance_[i] + bucket.died_variance[u];
    curve.entered_ += bucket.entered[u];
    const double in = bucket.entered[u], out = bucket.censored[u], died = bucket.died[u];
    const double risk = i == 0 ? in : at_risk + (in - out) / 2;
    if (died > 0) survival *= risk > died ? 1 - died / risk : 0;
    at_risk = std::max(0.0, at_risk + in - out - died);
  }
  curve.survival_[kAgeBuckets] = survival;
  curve.variance_ = variance_[u];
  return curve;
}

double SurvivalCurve::AtLeast(uint64_t age) const {
  if (empty()) return 1;
  const uint32_t bucket = AgeBucketOf(age);
  const uint64_t low = AgeBucketLow(bucket);
  const double here = survival_[bucket];
  if (age == low) return here;
  // Within a bucket deaths are taken as spread evenly.
  const double width = static_cast<double>(AgeBucketLow(std::min(bucket + 1, kAgeBuckets - 1)) - low);
  const double part = width > 0 ? static_cast<double>(age - low) / width : 1;
  return here + (survival_[bucket + 1] - here) * std::min(1.0, part);
}

Interval SurvivalCurve::DiedBefore95(uint64_t age) const {
  const double dead = DiedBefore(age);
  if (!(variance_ > 0) || empty()) return {dead, dead};
  // Horvitz and Thompson's estimate of a share: of sum w (1 if it died, else 0) / sum w.
  const double of_dead = died_variance_[AgeBucketOf(age)];
  const double of_others = std::max(0.0, variance_ - of_dead);
  const double spread = ((1 - dead) * (1 - dead) * of_dead + dead * dead * of_others) / (entered_ * entered_);
  const double effective = spread > 0 ? dead * (1 - dead) / spread : 0;
  const double at_most = entered_ * entered_ / variance_;
  return WilsonInterval95(dead, effective > 0 ? effective : at_most);
}

uint64_t SurvivalCurve::Quantile(double dead) const {
  if (empty()) return UINT64_MAX;
  for (uint32_t i = 1; i <= kAgeBuckets; ++i) {
    if (1 - survival_[i] >= dead - 1e-12) return i == kAgeBuckets ? UINT64_MAX : AgeBucketLow(i) - 1;
  }
  return UINT64_MAX;
}

Interval WilsonInterval95(double share, double effective) {
  if (!(effective > 0)) return {0, 1};
  constexpr double kZ = 1.959964, kZ2 = kZ * kZ;
  const double centre = (share + kZ2 / (2 * effective)) / (1 + kZ2 / effective);
  const double half = kZ / (1 + kZ2 / effective) *
                      std::sqrt(std::max(0.0, share * (1 - share) / effective + kZ2 / (4 * effective * effective)));
  return {std::clamp(centre - half, 0.0, 1.0), std::clamp(centre + half, 0.0, 1.0)};
}

}  // namespace tidemark
