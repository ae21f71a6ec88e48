// What a request takes in mimalloc 2.0.9: the block size of its class, or whole pages. The trace has requested sizes
// only; the difference is internal fragmentation. Blocks with an alignment of their own may take more.
// tests/preload/reclaim_test.py compares this with malloc_usable_size.
#pragma once

#include <cstdint>

#include "profiler/trace_format.h"

namespace tidemark {

inline uint64_t UsableBytes(uint64_t requested) {
  constexpr uint64_t kKi = 1024, kMi = kKi * kKi;
  constexpr uint64_t kLargestClassed = 128 * kKi;
  if (requested <= kLargestClassed) return BlockUnits(SizeClassOf(requested)) * 16;
  const uint64_t step = requested <= 512 * kKi  ? 64 * kKi
                        : requested <= 8 * kMi  ? 512 * kKi
                        : requested <= 32 * kMi ? kMi
                                                : 4 * kMi;
  if (requested > UINT64_MAX - step) return requested;
  return (requested + step - 1) / step * step;
}

}  // namespace tidemark
