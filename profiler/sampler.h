// Poisson sampling over bytes: which allocations are looked at.
//
// Every allocated byte is a sampling point with probability 1/T; an allocation is sampled when it contains one. The
// distance to the next point is exponential with mean T and memoryless, so the hot path only counts down:
//     if (size >= countdown) sample(); else countdown -= size;
// P(sampled) = 1 - exp(-size/T) for every size, and sums of size/P are unbiased (Horvitz-Thompson). Worked numbers:
// T = 512 KiB; a 64-byte block is sampled once in 8192 times and then stands for 8192.5 blocks; a 4 MiB block is
// sampled with probability 0.99966. A site with n samples of small blocks is known to +-196/sqrt(n) % (95 %).
//
// Context: one thread, signal-safe, no allocation, no libm.
#pragma once

#include <cstdint>

namespace tidemark {

class Sampler {
 public:
  void Seed(uint64_t seed) {
    // splitmix64 spreads any seed over the state (Steele, Lea, Flood 2014).
    for (uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15u;
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      word = z ^ (z >> 31);
    }
  }

  // Bytes until the next sampling point, at least 1. `mean`: T in bytes.
  uint64_t DrawBytes(uint64_t mean) {
    // u in (0, 1], 53 bits: -ln(u) is 0..36.7.
    const double u = static_cast<double>((Next() >> 11) + 1) * 0x1p-53;
    const double bytes = -NaturalLog(u) * static_cast<double>(mean);
    return static_cast<uint64_t>(bytes) + 1;
  }

  // One in `n`, n >= 1.
  bool OneIn(uint32_t n) { return (Next() >> 32) * n >> 32 == 0; }

  // ln(x) for positive normal x, error below 1e-9: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), and
  // ln m = 2 atanh((m-1)/(m+1)) as a series.
  static double NaturalLog(double x) {
    uint64_t bits;
    __builtin_memcpy(&bits, &x, 8);
    int exponent = static_cast<int>(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    __builtin_memcpy(&m, &bits, 8);
    if (m > 1.4142135623730951) {
      m *= 0.5;
      exponent++;
    }
    const double z = (m - 1) / (m + 1), z2 = z * z;
    double sum = 1.0 / 13;
    for (int k = 11; k >= 1; k -= 2) sum = sum * z2 + 1.0 / k;
    return 2 * z * sum + exponent * 0.6931471805599453;
  }

 private:
  // xoshiro256+ (Blackman, Vigna 2018).
  uint64_t Next() {
    const uint64_t result = state_[0] + state_[3];
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = state_[3] << 45 | state_[3] >> 19;
    return result;
  }
  uint64_t state_[4];
};

}  // namespace tidemark
