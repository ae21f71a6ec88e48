// From samples to totals: what a sampled block stands for, and how sure we are of a sum of such blocks.
//
// A block of s bytes is sampled with probability p = 1 - exp(-s/T), whatever else happens (the sampler's countdown has
// no memory). Each sample is a block that was *seen*, and it also stands for (1-p)/p blocks of its kind that were not:
//
//   bytes  = sum s   + sum s(1-p)/p          variance of bytes  = sum s^2 (1-p)/p^2
//   blocks = sum 1   + sum  (1-p)/p          variance of blocks = sum     (1-p)/p^2
//            seen      unseen
//
// Kept apart because "seen" is certain: no interval may reach below it, and in full mode (p = 1) it is everything.
// The interval is docs/metrics.md, "Intervals": a gamma distribution with the variance above for the unseen part.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace tidemark {

// What one sample of `size` bytes stands for beyond itself. All zero in full mode.
struct SampleWeight {
  double unseen_bytes = 0, bytes_variance = 0;
  double unseen_blocks = 0, blocks_variance = 0;
  double bytes = 0, blocks = 0;  // s/p and 1/p
};
SampleWeight WeightOfSample(uint64_t size_bytes, uint64_t sample_bytes);

struct Interval {
  double low = 0, high = 0;
};

// The nearest unsigned number: 0 for what is below or no number, the largest for what is above. (A plain conversion of
// these is undefined, and numbers that are made of a hostile trace may be anything.)
inline uint64_t Saturated(double value) {
  constexpr double kBeyond = 18446744073709551616.0;  // 2^64
  if (!(value >= 0.5)) return 0;
  return value >= kBeyond ? std::numeric_limits<uint64_t>::max() : static_cast<uint64_t>(std::round(value));
}

// A sum over samples; additive. Units: bytes or blocks.
struct Amount {
  uint64_t seen = 0;
  double unseen = 0;
  double variance = 0;
  double heaviest = 0;  // the largest s/p (bytes) or 1/p (blocks) that ever went in

  double value() const { return static_cast<double>(seen) + unseen; }
  // Rounded to a whole unit; exact in full mode (no detour over a double).
  uint64_t Rounded() const { return seen + Saturated(unseen); }
  // 95 %. Equal ends when nothing was left to chance (full mode).
  Interval Interval95() const;

  Amount& operator+=(const Amount& other) {
    seen += other.seen;
    unseen += other.unseen;
    variance += other.variance;
    if (other.heaviest > heaviest) heaviest = other.heaviest;
    return *this;
  }
};

// Below which a total lies with 95 % confidence when not one sample was taken: -ln(0.05) draws.
double NoSampleBoundBytes(uint64_t sample_bytes);

// Quantile of the gamma distribution with scale 1. `shape` > 0, 0 < `probability` < 1; relative error below 1e-9.
double GammaQuantile(double shape, double probability);

}  // namespace tidemark
