// Mann-Kendall and Theil-Sen against published examples, against their definitions on random series, and the verdicts
// on series of known making.
#include "tools/model/trend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

namespace tidemark {
namespace {

// Annual flow of the Nile at Aswan, 1871 to 1970 (Cobb, Biometrika 65, 1978).
const std::vector<double> kNile = {
    1120, 1160, 963,  1210, 1160, 1160, 813,  1230, 1370, 1140, 995,  935,  1110, 994, 1020, 960,  1180,
    799,  958,  1140, 1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774,  840,  874, 694,  940,  833,
    701,  916,  692,  1020, 1050, 969,  831,  726,  456,  824,  702,  1120, 1100, 832, 764,  821,  768,
    845,  864,  862,  698,  845,  744,  796,  1040, 759,  781,  865,  845,  944,  984, 897,  822,  1010,
    771,  676,  649,  846,  812,  742,  801,  1040, 860,  874,  848,  890,  744,  749, 838,  1050, 918,
    986,  797,  923,  975,  815,  1020, 906,  901,  1170, 912,  746,  919,  718,  714, 740};

std::vector<double> Places(size_t count) {
  std::vector<double> places(count);
  for (size_t i = 0; i < count; ++i) places[i] = static_cast<double>(i);
  return places;
}

TEST(MannKendall, SmallSeriesByHand) {
  const std::vector<double> rising = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  const MannKendall up = TestTrend(rising);
  EXPECT_EQ(up.s, 45);
  EXPECT_DOUBLE_EQ(up.variance, 125);
  EXPECT_NEAR(up.z, 44 / std::sqrt(125.0), 1e-12);
  EXPECT_NEAR(up.p_value, 8.303e-5, 5e-8);
  const std::vector<double> tied = {1, 1, 1, 2, 2, 3};
  const MannKendall with_ties = TestTrend(tied);
  EXPECT_EQ(with_ties.s, 11);
  EXPECT_DOUBLE_EQ(with_ties.variance, (6.0 * 5 * 17 - 3.0 * 2 * 11 - 2.0 * 1 * 9) / 18);
  const std::vector<double> flat(20, 7.0);
  EXPECT_EQ(TestTrend(flat).p_value, 1);
  EXPECT_EQ(TestTrend({}).s, 0);
}

TEST(MannKendall, TheNile) {
  const MannKendall test = TestTrend(kNile);
  EXPECT_EQ(test.s, -1387);
  EXPECT_NEAR(test.variance, 112728.33333333333, 1e-3);
  EXPECT_NEAR(test.z, -4.128066522844101, 1e-6);
  EXPECT_NEAR(test.p_value, 3.658262921657496e-05, 1e-9);
}

// Sen 1968, page 1385: 93 % confidence.
TEST(TheilSen, ExampleOfSen) {
  const std::vector<double> places = {1, 2, 3, 4, 10, 12, 18}, values = {9, 15, 19, 20, 45, 55, 78};
  const TheilSen line = FitTrend(places, values, 0.93);
  EXPECT_DOUBLE_EQ(line.slope, 4);
  EXPECT_DOUBLE_EQ(line.intercept, 4);
  EXPECT_NEAR(line.low, 3.71, 0.01);
  EXPECT_NEAR(line.high, 4.38, 0.01);
}

TEST(TheilSen, TheNile) {
  const TheilSen line = FitTrend(Places(kNile.size()), kNile, 0.95);
  EXPECT_NEAR(line.slope, -2.6, 1e-9);
  EXPECT_NEAR(line.low, -3.627906976744186, 1e-9);
  EXPECT_NEAR(line.high, -1.4285714285714286, 1e-9);
}

TEST(TheilSen, AThirdOfThePointsMayBeAnything) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<double> places = Places(30), values(30);
    for (size_t i = 0; i < 30; ++i) values[i] = 3 * places[i] + 1;
    for (size_t i = 0; i < 8; ++i) values[random() % 30] = static_cast<double>(random() % 100000);
    const TheilSen line = FitTrend(places, values, 0.95);
    EXPECT_NEAR(line.slope, 3, 0.01);
  }
  const std::vector<double> one_place(5, 2.0), values = {1, 2, 3, 4, 5};
  EXPECT_EQ(FitTrend(one_place, values, 0.95).slope, 0);
}

// The interval holds the slope about as often as it says.
TEST(TheilSen, CoverageIsWhatItSays) {
  std::mt19937_64 random(2);
  std::normal_distribution<double> noise(0, 50);
  int inside = 0;
  constexpr int kRounds = 1000;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> places = Places(24), values(24);
    for (size_t i = 0; i < 24; ++i) values[i] = 5 * places[i] + noise(random);
    const TheilSen line = FitTrend(places, values, 0.95);
    inside += line.low <= 5 && 5 <= line.high;
  }
  EXPECT_GE(inside, 930);
  EXPECT_LE(inside, 985);
}

GrowthSeries Series(const std::function<double(size_t)>& live, double released_share, size_t points = 24) {
  GrowthSeries series;
  for (size_t i = 0; i < points; ++i) {
    series.clock.push_back(static_cast<double>(i) * 1e6);
    series.live.push_back(live(i));
  }
  series.allocated_late = 1000;
  series.released_late = 1000 * released_share;
  series.samples = 1000;
  return series;
}

TEST(Growth, VerdictsOnSeriesOfKnownMaking) {
  const auto line = [](size_t i) { return 1000.0 * static_cast<double>(i); };
  const auto plateau = [](size_t i) { return 1000.0 * static_cast<double>(std::min<size_t>(i, 10)); };
  const auto saw = [](size_t i) { return 1000.0 * static_cast<double>(i % 4); };
  const auto flat = [](size_t) { return 4096.0; };
  EXPECT_EQ(JudgeGrowth(Series(line, 0)).growth, Growth::kUnbounded);
  EXPECT_EQ(JudgeGrowth(Series(line, 0.8)).growth, Growth::kCacheLike);
  EXPECT_EQ(JudgeGrowth(Series(line, 0.3)).growth, Growth::kUndecided);
  EXPECT_EQ(JudgeGrowth(Series(plateau, 0)).growth, Growth::kCacheLike);
  EXPECT_EQ(JudgeGrowth(Series(saw, 1)).growth, Growth::kSteady);
  EXPECT_EQ(JudgeGrowth(Series(flat, 0)).growth, Growth::kSteady);
  EXPECT_EQ(JudgeGrowth(Series(line, 0, 11)).growth, Growth::kUndecided) << "fewer points than it takes";
  GrowthSeries few = Series(line, 0);
  few.sampled = true;
  few.samples = 29;
  EXPECT_EQ(JudgeGrowth(few).growth, Growth::kUndecided);
  GrowthSeries proved = Series(flat, 0);
  proved.lost_bytes = 16;
  EXPECT_EQ(JudgeGrowth(proved).growth, Growth::kLeaked);
  EXPECT_STREQ(NameOf(Growth::kLeaked), "leaked");
}

TEST(Growth, NoiseIsRarelyARise) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> noise(100000, 10000);
  int rises = 0;
  for (int round = 0; round < 1000; ++round) {
    rises += JudgeGrowth(Series([&](size_t) { return noise(random); }, 0)).growth != Growth::kSteady;
  }
  EXPECT_LE(rises, 15) << "half of one percent is expected";
}

}  // namespace
}  // namespace tidemark
