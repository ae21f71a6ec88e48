// What the fast paths look at: a range, mimalloc's functions, one thread-local countdown.
//
// All of it is constant-initialised such that every call takes the slow path until start-up has finished: the
// countdown is 0, so every allocation is "due"; the range is empty, so no pointer is "ours".
//
// Context: any thread, signal-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark {

struct alignas(64) HotState {
  // Pointers in [base, base + length) are freed without a further look: the heap's range, or nothing (length 0) while
  // every free must be recorded or forwarded.
  uintptr_t base;
  uintptr_t length;
  void* (*malloc)(size_t);
  void* (*zalloc)(size_t);
  void* (*realloc)(void*, size_t);
  void (*free)(void*);
  size_t (*usable_size)(const void*);
  // The heap's range is [base, base + heap_length) in every mode.
  uintptr_t heap_length;
  // Complete mode, and events are taken: the ordinary case of the slow functions.
  bool records_all;
};
extern HotState hot __attribute__((visibility("hidden")));  // said here, or the fast paths go through the GOT

// Bytes until this thread's next sample. An allocation of this many bytes or more takes the slow path. 0: always (a new
// thread, complete mode).
extern __thread uint64_t countdown __attribute__((tls_model("initial-exec"), visibility("hidden")));

// mimalloc aligns blocks of up to 8 bytes to 8; every block of ours is aligned to 16, as glibc's are.
inline constexpr size_t kSmallest = 16, kLargestMisaligned = 8;
inline size_t AtLeastSmallest(size_t size) { return size < kSmallest ? kSmallest : size; }

}  // namespace tidemark
