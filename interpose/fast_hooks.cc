// The exported functions that programs call millions of times a second: count down, forward, done.
//
// Each is a compare, a subtraction and a jump; whatever is not the ordinary case jumps on to slow_hooks.cc. The jumps
// are tail calls: the slow function sees the application's return address as its own, and no frame of ours stands on
// the stack. This file is compiled without frame pointers and without stack protector for that reason.
//
// Instructions are counted here (bench/instructions.json): malloc adds 7 to mimalloc's own, free 5. Of malloc's, one
// finds the thread-local, three count down, two keep tiny blocks aligned, one jumps on.
//
// Context: any thread, any time, also before the constructor and in signal handlers.
#include <cstddef>
#include <cstdint>

#include "interpose/hot_state.h"
#include "interpose/slow_hooks.h"

#define TIDEMARK_EXPORT __attribute__((visibility("default")))
#define LIKELY(condition) __builtin_expect(static_cast<bool>(condition), 1)

namespace tidemark {
namespace {

// Takes `size` off the countdown if that leaves something. The barrier makes the compiler compare and subtract in
// memory, two instructions less than by way of a register.
inline bool CountDown(size_t size) {
  if (!LIKELY(size < countdown)) return false;
  asm volatile("" ::: "memory");
  countdown -= size;
  return true;
}

inline bool InHotRange(const void* block) { return reinterpret_cast<uintptr_t>(block) - hot.base < hot.length; }

}  // namespace

extern "C" {

TIDEMARK_EXPORT void* malloc(size_t size) {
  if (!LIKELY(CountDown(size))) return SlowMalloc(size);
  return LIKELY(size > kLargestMisaligned) ? hot.malloc(size) : hot.malloc(kSmallest);
}

TIDEMARK_EXPORT void* calloc(size_t count, size_t size) {
  size_t bytes;
  if (LIKELY(!__builtin_mul_overflow(count, size, &bytes)) && LIKELY(CountDown(bytes))) {
    return hot.zalloc(AtLeastSmallest(bytes));
  }
  return SlowCalloc(count, size);
}

TIDEMARK_EXPORT void* realloc(void* block, size_t size) {
  if (LIKELY(size != 0 && InHotRange(block)) && LIKELY(CountDown(size))) {
    return hot.realloc(block, AtLeastSmallest(size));
  }
  return SlowRealloc(block, size);
}

TIDEMARK_EXPORT void free(void* block) {
  if (LIKELY(InHotRange(block))) return hot.free(block);
  return SlowFree(block);
}

TIDEMARK_EXPORT size_t malloc_usable_size(void* block) {
  if (LIKELY(InHotRange(block))) return hot.usable_size(block);
  return SlowUsableSize(block);
}

// The sizes are hints that callers get wrong (blocks that were reallocated): never trusted.
TIDEMARK_EXPORT void free_sized(void* block, size_t) {
  if (LIKELY(InHotRange(block))) return hot.free(block);
  return SlowFree(block);
}
TIDEMARK_EXPORT void free_aligned_sized(void* block, size_t, size_t) {
  if (LIKELY(InHotRange(block))) return hot.free(block);
  return SlowFree(block);
}
TIDEMARK_EXPORT void cfree(void* block) {
  if (LIKELY(InHotRange(block))) return hot.free(block);
  return SlowFree(block);
}

}  // extern "C"
}  // namespace tidemark
