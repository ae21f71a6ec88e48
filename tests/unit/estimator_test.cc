// The estimator against simulated sampling with fixed seeds: unbiased, and its 95 % intervals cover the truth in 93-97
// % of the cases, for sites of very different size mixes.
#include "tools/model/estimator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

namespace tidemark {
namespace {

constexpr uint64_t kSampleBytes = 512 << 10;

struct Sizes {
  uint64_t size, blocks;
};
struct Site {
  const char* name;
  std::vector<Sizes> sizes;
};
// The sites of one process, each above 1 % of its bytes; the smallest get some half a dozen samples.
const std::vector<Site> kSites = {
    {"strings", {{16, 600000}, {24, 300000}, {48, 200000}}},
    {"nodes of one size", {{64, 1000000}}},
    {"few small blocks", {{32, 120000}}},
    {"pages", {{4096, 3000}}},
    {"buffers", {{65536, 300}}},
    {"blocks about as large as the interval", {{400 << 10, 40}, {600 << 10, 40}}},
    {"small and huge", {{32, 100000}, {1 << 20, 60}}},
    {"growing vectors", {{256, 8000}, {512, 8000}, {1024, 8000}, {2048, 4000}, {4096, 2000}, {8192, 1000}}},
    {"mixed", {{128, 100000}, {1024, 20000}, {65536, 300}, {1 << 20, 20}}},
    {"single large", {{192 << 10, 60}}},
};

double TrueBytes(const Site& site) {
  double sum = 0;
  for (const Sizes& it : site.sizes) sum += static_cast<double>(it.size) * static_cast<double>(it.blocks);
  return sum;
}
double TrueBlocks(const Site& site) {
  double sum = 0;
  for (const Sizes& it : site.sizes) sum += static_cast<double>(it.blocks);
  return sum;
}

struct Estimate {
  Amount bytes, blocks;
};

// Blocks of one size are sampled independently of each other: a binomial number of them.
Estimate Sample(const Site& site, std::mt19937_64& random) {
  Estimate estimate;
  for (const Sizes& it : site.sizes) {
    const double p = -std::expm1(-static_cast<double>(it.size) / static_cast<double>(kSampleBytes));
    const uint64_t n = std::binomial_distribution<uint64_t>(it.blocks, p)(random);
    if (n == 0) continue;
    const SampleWeight weight = WeightOfSample(it.size, kSampleBytes);
    const double count = static_cast<double>(n);
    estimate.bytes += {n * it.size, count * weight.unseen_bytes, count * weight.bytes_variance, weight.bytes};
    estimate.blocks += {n, count * weight.unseen_blocks, count * weight.blocks_variance, weight.blocks};
  }
  return estimate;
}

TEST(Estimator, SitesAreAboveOnePercent) {
  double all = 0;
  for (const Site& site : kSites) all += TrueBytes(site);
  for (const Site& site : kSites) EXPECT_GT(TrueBytes(site), all / 100) << site.name;
}

TEST(Estimator, IsUnbiasedOver200Seeds) {
  constexpr int kSeeds = 200;
  for (const Site& site : kSites) {
    SCOPED_TRACE(site.name);
    double sum = 0, squares = 0, blocks = 0, block_squares = 0;
    for (int seed = 1; seed <= kSeeds; ++seed) {
      std::mt19937_64 random(static_cast<uint64_t>(seed) * 1000003);
      const Estimate estimate = Sample(site, random);
      sum += estimate.bytes.value();
      squares += estimate.bytes.value() * estimate.bytes.value();
      blocks += estimate.blocks.value();
      block_squares += estimate.blocks.value() * estimate.blocks.value();
    }
    auto check = [&](double total, double total_squares, double truth) {
      const double mean = total / kSeeds;
      const double standard_error = std::sqrt((total_squares / kSeeds - mean * mean) / (kSeeds - 1));
      EXPECT_LE(std::fabs(mean - truth), 3 * standard_error) << "mean " << mean << ", truth " << truth;
    };
    check(sum, squares, TrueBytes(site));
    check(blocks, block_squares, TrueBlocks(site));
  }
}

TEST(Estimator, VarianceIsThatOfTheEstimates) {
  for (const Site& site : kSites) {
    SCOPED_TRACE(site.name);
    std::mt19937_64 random(7);
    double sum = 0, squares = 0, stated = 0;
    constexpr int kRuns = 4000;
    for (int i = 0; i < kRuns; ++i) {
      const Estimate estimate = Sample(site, random);
      sum += estimate.bytes.value();
      squares += estimate.bytes.value() * estimate.bytes.value();
      stated += estimate.bytes.variance;
    }
    const double observed = squares / kRuns - sum / kRuns * (sum / kRuns);
    EXPECT_NEAR(stated / kRuns / observed, 1, 0.12);
  }
}

TEST(Estimator, IntervalsCoverTheTruth) {
  constexpr int kRuns = 2000;
  int all_bytes = 0, all_blocks = 0;
  for (const Site& site : kSites) {
    SCOPED_TRACE(site.name);
    std::mt19937_64 random(42);
    int bytes = 0, blocks = 0;
    for (int i = 0; i < kRuns; ++i) {
      const Estimate estimate = Sample(site, random);
      const Interval of_bytes = estimate.bytes.Interval95(), of_blocks = estimate.blocks.Interval95();
      bytes += of_bytes.low <= TrueBytes(site) && TrueBytes(site) <= of_bytes.high;
      blocks += of_blocks.low <= TrueBlocks(site) && TrueBlocks(site) <= of_blocks.high;
      EXPECT_GE(of_bytes.low, static_cast<double>(estimate.bytes.seen));
    }
    const double bytes_coverage = static_cast<double>(bytes) / kRuns,
                 blocks_coverage = static_cast<double>(blocks) / kRuns;
    EXPECT_GE(bytes_coverage, 0.925);
    EXPECT_LE(bytes_coverage, 0.975);
    EXPECT_GE(blocks_coverage, 0.92);
    EXPECT_LE(blocks_coverage, 0.98);
    std::printf("%-40s bytes %.3f blocks %.3f\n", site.name, bytes_coverage, blocks_coverage);
    all_bytes += bytes;
    all_blocks += blocks;
  }
  const double cases = kRuns * static_cast<double>(kSites.size());
  EXPECT_GE(all_bytes / cases, 0.93);
  EXPECT_LE(all_bytes / cases, 0.97);
  EXPECT_GE(all_blocks / cases, 0.93);
  EXPECT_LE(all_blocks / cases, 0.97);
}

// Whoever counts everything needs no interval.
TEST(Estimator, FullModeIsCertain) {
  const SampleWeight weight = WeightOfSample(100, 0);
  EXPECT_EQ(weight.unseen_bytes, 0);
  EXPECT_EQ(weight.blocks_variance, 0);
  const Amount amount{12345, 0, 0, 0};
  EXPECT_EQ(amount.Interval95().low, 12345);
  EXPECT_EQ(amount.Interval95().high, 12345);
  EXPECT_EQ(amount.Rounded(), 12345u);
}

TEST(Estimator, SaturatesWhereNoIntegerIsLeft) {
  EXPECT_EQ(Saturated(0), 0u);
  EXPECT_EQ(Saturated(0.49), 0u);
  EXPECT_EQ(Saturated(2.5), 3u);
  EXPECT_EQ(Saturated(-1e300), 0u);
  EXPECT_EQ(Saturated(std::numeric_limits<double>::quiet_NaN()), 0u);
  EXPECT_EQ(Saturated(18446744073709549568.0), 18446744073709549568u);  // the largest double below 2^64
  EXPECT_EQ(Saturated(18446744073709551616.0), ~uint64_t{0});
  EXPECT_EQ(Saturated(std::numeric_limits<double>::infinity()), ~uint64_t{0});
}

TEST(Estimator, LargeBlocksHaveNextToNoInterval) {
  const SampleWeight weight = WeightOfSample(uint64_t{1} << 30, kSampleBytes);
  EXPECT_LT(weight.unseen_bytes, 1e-100);
  EXPECT_EQ(WeightOfSample(UINT64_MAX, 1).unseen_blocks, 0);
}

// What is left of the unseen part after adding and subtracting may be less than the seen one's last bit.
TEST(Estimator, LowEndIsWhatWasSeenWhereNothingElseIsLikely) {
  Amount amount;
  amount.seen = 1048584;
  amount.unseen = 1e-12;
  amount.variance = 1e-6;
  amount.heaviest = 1048584;
  EXPECT_EQ(amount.Interval95().low, 1048584);
  EXPECT_GE(amount.Interval95().high, 1048584);
}

TEST(Estimator, GammaQuantilesAgreeWithTables) {
  // Chi-square tables: quantile(k/2) * 2.
  EXPECT_NEAR(2 * GammaQuantile(0.5, 0.95), 3.841458820694124, 1e-8);
  EXPECT_NEAR(2 * GammaQuantile(0.5, 0.025), 0.000982069117175, 1e-11);
  EXPECT_NEAR(2 * GammaQuantile(5, 0.975), 20.483177350807, 1e-7);
  EXPECT_NEAR(2 * GammaQuantile(50, 0.025), 74.221927474923, 1e-7);
  EXPECT_NEAR(GammaQuantile(1, 0.95), -std::log(0.05), 1e-9);
  // Across the switch of methods.
  EXPECT_NEAR(GammaQuantile(9999, 0.975) / 9999, GammaQuantile(10001, 0.975) / 10001, 1e-5);
}

TEST(Estimator, NoSampleStillSaysSomething) { EXPECT_NEAR(NoSampleBoundBytes(kSampleBytes), 2.9957 * 524288, 100); }

}  // namespace
}  // namespace tidemark
