// A random source for the workloads: the same numbers on every machine, two instructions each.
//
// The standard library's distributions differ between implementations, and a benchmark whose work depends on them
// cannot be compared. Must not: be used for anything that needs good randomness.
#pragma once

#include <cstdint>

class RandomSource {
 public:
  explicit RandomSource(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}

  uint64_t Next() {  // SplitMix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  uint64_t Below(uint64_t limit) { return static_cast<uint64_t>((static_cast<__uint128_t>(Next()) * limit) >> 64); }

 private:
  uint64_t state_;
};
