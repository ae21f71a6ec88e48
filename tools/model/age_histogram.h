// How old blocks get: a histogram of ages at death, and the survival curve that follows from it.
//
// Ages are ticks or bytes allocated since birth; buckets have 1/16 of their age as width, so that any range fits and
// the edges hold every power of two. A block counts by its bytes and as one block, in samples times 1/p.
//
// Survival is Kaplan and Meier's: a block that is alive at the end is no short life, it leaves the risk set at its age
// (censored); one that is older than the window enters it at its age then (truncated). Per bucket
//
//   at risk = entered before - died before - censored before + (entered within - censored within) / 2
//   S       = product over the buckets below the age of (1 - died / at risk)
//
// Births enter at age 0, in full. The half is what the width of a bucket costs; powers of two cost nothing more.
// Must not: know what a tick is.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tools/model/estimator.h"

namespace tidemark {

enum class Unit { kBytes = 0, kBlocks = 1 };

inline constexpr uint32_t kAgeSubBits = 4, kAgeBuckets = (64 - kAgeSubBits + 1) << kAgeSubBits;
inline uint32_t AgeBucketOf(uint64_t age) {
  if (age >> kAgeSubBits == 0) return static_cast<uint32_t>(age);
  const auto top = static_cast<uint32_t>(63 - __builtin_clzll(age));
  return (top - kAgeSubBits + 1) << kAgeSubBits | (age >> (top - kAgeSubBits) & ((1u << kAgeSubBits) - 1));
}
uint64_t AgeBucketLow(uint32_t bucket);  // the youngest age in it

class SurvivalCurve;

class AgeHistogram {
 public:
  AgeHistogram() : buckets_(kAgeBuckets) {}
  // A block of `size` bytes; `weight`: null in full mode.
  void Enter(uint64_t age, uint64_t size, const SampleWeight* weight) {
    Add(&buckets_[AgeBucketOf(age)].entered, size, weight);
    variance_[0] += weight != nullptr ? weight->bytes_variance : 0;
    variance_[1] += weight != nullptr ? weight->blocks_variance : 0;
  }
  void Die(uint64_t age, uint64_t size, const SampleWeight* weight) {
    Bucket& bucket = buckets_[AgeBucketOf(age)];
    Add(&bucket.died, size, weight);
    if (weight != nullptr) {
      bucket.died_variance[0] += weight->bytes_variance;
      bucket.died_variance[1] += weight->blocks_variance;
    }
  }
  void Censor(uint64_t age, uint64_t size, const SampleWeight* weight) {
    Add(&buckets_[AgeBucketOf(age)].censored, size, weight);
  }

  SurvivalCurve Survival(Unit unit) const;
  double Died(uint32_t bucket, Unit unit) const { return buckets_[bucket].died[static_cast<size_t>(unit)]; }

 private:
  using Pair = std::array<double, 2>;  // by Unit
  struct Bucket {
    Pair died{}, died_variance{}, entered{}, censored{};
  };
  static void Add(Pair* pair, uint64_t size, const SampleWeight* weight) {
    (*pair)[0] += weight != nullptr ? weight->bytes : static_cast<double>(size);
    (*pair)[1] += weight != nullptr ? weight->blocks : 1.0;
  }

  std::vector<Bucket> buckets_;
  Pair variance_{};
};

class SurvivalCurve {
 public:
  // S(age): the share that gets older than `age`, or as old (a release at that very age has not happened yet).
  double AtLeast(uint64_t age) const;
  // 1 - S: died younger than `age`.
  double DiedBefore(uint64_t age) const { return 1 - AtLeast(age); }
  // 95 %, from the variance of sampling; equal ends in full mode.
  Interval DiedBefore95(uint64_t age) const;
  // The age that a share of `dead` (0 to 1) does not reach; UINT64_MAX: so many never died as far as was seen.
  uint64_t Quantile(double dead) const;
  bool empty() const { return entered_ <= 0; }

 private:
  friend class AgeHistogram;
  std::vector<double> survival_;       // [i]: at AgeBucketLow(i)
  std::vector<double> died_variance_;  // [i]: of all that died below AgeBucketLow(i)
  double entered_ = 0, variance_ = 0;
};

// Wilson's interval of a share of which `effective` independent observations tell.
Interval WilsonInterval95(double share, double effective);

}  // namespace tidemark
