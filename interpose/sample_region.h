// Where sampled blocks live: one reserved address range, so that free() knows them by their address alone.
//
//   slab zone    blocks of up to 2 KiB, packed in 64 KiB slabs of one size class (no page per sample)
//   guard zone   64 guarded slots, which guard_slots.h hands out and takes back
//   run zone     everything larger or aligned to more than 16 bytes, in whole pages
//
// Lock-free throughout (bitmaps and tagged stacks), so a fork in the middle leaves nothing locked in the child.
// Metadata lies beside the range, never in or next to a block: an overflowing program cannot damage it and what
// malloc_usable_size reports can be used to the last byte.
//
// Context: any thread, signal-safe; system calls when fresh memory is committed and large runs are given back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark::region {

// kUnsampled: lies here only because the heap cannot align it; nobody was told of it.
enum class Placement { kPacked, kUnsampled };

// Reserves the range. False: no address space; then nothing is ever placed here.
bool Start();
bool Contains(const void* block);
// Bytes of the range that have become accessible, and those in live blocks (with what they were rounded up by). The
// second is found by a look at all of them: for reports.
size_t CommittedBytes();
size_t UsedBytes();

// A block of `size` bytes aligned to `alignment` (power of two >= 16), zeroed when asked. nullptr: no room; the caller
// uses the heap and counts it.
void* Allocate(size_t size, size_t alignment, bool zero, Placement placement);

// True while `block` is the start of a live block of the region.
bool IsLive(const void* block);
// True when the live block was not placed as kUnsampled.
bool IsSampled(const void* block);
// Releases a live block; false when another thread was faster (double free).
bool Release(void* block);

// The range, 0..0 without one.
void Bounds(uint64_t* start, uint64_t* end);
// The first live block at *from or above; *from becomes where to look for the next one. False: there is none. For when
// nothing else runs.
bool NextLive(uint64_t* from, uint64_t* block, uint64_t* size, bool* sampled);

// Sizes of a live block, in bytes.
size_t RequestedSize(const void* block);
size_t UsableSize(const void* block);

}  // namespace tidemark::region
