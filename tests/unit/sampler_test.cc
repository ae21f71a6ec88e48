// The sampler's mathematics: its logarithm, the exponential draw, and the promise P(sampled) = 1 - exp(-size/T).
//
// All seeds are fixed, so nothing here is a matter of luck; the bounds are those of the statistic all the same (a
// chi-square beyond its 99.9 % point would have been a wrong generator, not bad luck with these seeds).
#include "profiler/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace tidemark {
namespace {

TEST(NaturalLog, StaysWithinItsBound) {
  double worst = 0;
  const auto check = [&](double x) { worst = std::max(worst, std::abs(Sampler::NaturalLog(x) - std::log(x))); };
  for (int i = 1; i <= 200000; i++) check(i / 200000.0);  // where draws lie
  for (int e = -53; e <= 0; e++) {                        // every power of two of u, and its neighbours
    for (double m : {1.0, 1.0000001, 1.41421356, 1.41421357, 1.9999999}) check(std::ldexp(m, e));
  }
  check(0x1p-53);
  EXPECT_LT(worst, 1e-9);
  EXPECT_EQ(Sampler::NaturalLog(1.0), 0.0);
}

TEST(DrawBytes, IsExponential) {
  constexpr uint64_t kMean = 512 << 10;
  constexpr int kDraws = 1000000;
  Sampler sampler;
  sampler.Seed(1);
  double sum = 0, squares = 0;
  // Twenty bins of equal probability; the 99.9 % point of chi-square with 19 degrees of freedom is 43.8.
  constexpr int kBins = 20;
  std::vector<int> bins(kBins);
  for (int i = 0; i < kDraws; i++) {
    const uint64_t bytes = sampler.DrawBytes(kMean);
    ASSERT_GE(bytes, 1u);
    ASSERT_LE(bytes, 37 * kMean);  // -ln(2^-53) = 36.7
    const double x = static_cast<double>(bytes) - 0.5;
    sum += x;
    squares += x * x;
    bins[std::min(kBins - 1, static_cast<int>(kBins * -std::expm1(-x / kMean)))]++;
  }
  const double mean = sum / kDraws, variance = squares / kDraws - mean * mean;
  EXPECT_NEAR(mean / kMean, 1, 4.0 / std::sqrt(kDraws));
  EXPECT_NEAR(variance / (static_cast<double>(kMean) * kMean), 1, 4 * std::sqrt(8.0 / kDraws));
  double chi_square = 0;
  for (int n : bins) chi_square += std::pow(n - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_LT(chi_square, 43.8);
}

TEST(DrawBytes, OfATinyMeanIsAtLeastOne) {
  Sampler sampler;
  sampler.Seed(2);
  uint64_t largest = 0;
  for (int i = 0; i < 1000; i++) {
    const uint64_t bytes = sampler.DrawBytes(1);
    ASSERT_GE(bytes, 1u);
    largest = std::max(largest, bytes);
  }
  EXPECT_LT(largest, 40u);
}

// The hot path as the hooks run it: does a block of `size` get sampled as often as the estimator believes?
TEST(Sampling, ProbabilityIsWhatTheEstimatorDividesBy) {
  constexpr uint64_t kMean = 4096;
  double chi_square = 0;
  int sizes = 0;
  for (const uint64_t size : {1, 8, 16, 100, 1000, 4096, 10000, 20000}) {
    Sampler sampler;
    sampler.Seed(size);
    const double p = -std::expm1(-static_cast<double>(size) / kMean);
    const int trials = static_cast<int>(std::min(20000000.0, 20000 / p));
    uint64_t countdown = sampler.DrawBytes(kMean);
    int sampled = 0;
    for (int i = 0; i < trials; i++) {
      if (size >= countdown) {
        sampled++;
        countdown = sampler.DrawBytes(kMean);
      } else {
        countdown -= size;
      }
    }
    const double expected = p * trials;
    chi_square += std::pow(sampled - expected, 2) / (expected * (1 - p));
    sizes++;
    EXPECT_NEAR(sampled / expected, 1, 0.03) << "size " << size;
  }
  EXPECT_EQ(sizes, 8);
  EXPECT_LT(chi_square, 26.1);  // 99.9 % point, 8 degrees of freedom
}

// Sizes that take turns must not disturb each other, as they do with a sampler that counts allocations.
TEST(Sampling, EstimateOfMixedSizesIsUnbiased) {
  constexpr uint64_t kMean = 8192;
  constexpr uint64_t kSizes[] = {24, 48, 4096, 65536};
  constexpr int kRounds = 300000;
  Sampler sampler;
  sampler.Seed(3);
  double estimated[4] = {};
  uint64_t countdown = sampler.DrawBytes(kMean);
  for (int i = 0; i < kRounds; i++) {
    for (int k = 0; k < 4; k++) {
      if (kSizes[k] < countdown) {
        countdown -= kSizes[k];
        continue;
      }
      countdown = sampler.DrawBytes(kMean);
      estimated[k] += 1 / -std::expm1(-static_cast<double>(kSizes[k]) / kMean);
    }
  }
  for (int k = 0; k < 4; k++) {
    const double p = -std::expm1(-static_cast<double>(kSizes[k]) / kMean);
    EXPECT_NEAR(estimated[k] / kRounds, 1, 4 * std::sqrt((1 - p) / (p * kRounds)) + 1e-9) << "size " << kSizes[k];
  }
}

TEST(OneIn, IsOneInN) {
  Sampler sampler;
  sampler.Seed(4);
  for (const uint32_t n : {1u, 2u, 3u, 50u, 1000u}) {
    const int trials = static_cast<int>(n) * 10000;
    int hits = 0;
    for (int i = 0; i < trials; i++) hits += sampler.OneIn(n);
    if (n == 1) {
      EXPECT_EQ(hits, trials);
    } else {
      EXPECT_NEAR(hits, 10000, 4 * std::sqrt(10000.0)) << n;
    }
  }
  int hits = 0;
  for (int i = 0; i < 1000; i++) hits += sampler.OneIn(0xffffffff);
  EXPECT_EQ(hits, 0);
}

TEST(Seed, RepeatsAndDiffers) {
  Sampler a, b, c;
  a.Seed(0);
  b.Seed(0);
  c.Seed(1);
  int equal = 0;
  for (int i = 0; i < 100; i++) {
    const uint64_t drawn = a.DrawBytes(1 << 20);
    ASSERT_EQ(drawn, b.DrawBytes(1 << 20));
    equal += drawn == c.DrawBytes(1 << 20);
  }
  EXPECT_LE(equal, 1);
}

}  // namespace
}  // namespace tidemark
