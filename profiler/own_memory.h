// Which memory of the process is ours: what a leak check must not take for a root, though it is writable.
//
// Ranges are entered and taken out by single atomic operations. Nothing is entered until somebody wants to know: a
// process that never checks for leaks pays a load and a branch per mapping.
//
// Context: any thread, signal-safe, no locks, no allocation. Must not: be asked for memory that is handed to the
// program.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/os.h"

namespace tidemark::own_memory {

// Ranges are remembered from now on. The process has one thread.
void Start();

// As os::Map and os::Unmap, for memory of ours.
void* Map(size_t bytes, int protection = PROT_READ | PROT_WRITE);
void Unmap(void* memory, size_t bytes);
// For what was mapped otherwise.
void Remember(const void* memory, size_t bytes);
void Forget(const void* memory);

// More ranges than can be remembered: some of our memory is not known.
bool IsIncomplete();

struct Range {
  uint64_t start, end;
};
// Copies the ranges, unordered, at most `capacity`; how many.
size_t Ranges(Range* out, size_t capacity);
inline constexpr size_t kMaxRanges = 32768;

}  // namespace tidemark::own_memory
