// The allocator behind the hooks: mimalloc, confined to one reserved address range.
//
// libmimalloc is opened with RTLD_LOCAL instead of being linked: it exports malloc, operator new and more, and as a
// dependency it would stand before libstdc++ in the global scope of every program that reaches libstdc++ through a
// library of its own, taking over operator new with a version that aborts instead of throwing.
//
// The heap lives in one range reserved at start and handed to mimalloc as its only arena (limit_os_alloc). So "is this
// pointer ours" is one comparison, foreign pointers cost nothing to detect, and freeing needs no lookup. When nothing
// can be reserved (small RLIMIT_AS) the process keeps glibc's heap and is not recorded.
//
// Context: any thread after Start(); may call mmap-like system calls. This is the only file that knows mimalloc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "interpose/hot_state.h"

namespace tidemark::heap {

// Loads mimalloc, reserves the range, fills in the functions and the heap's range of `hot`; the range of the fast paths
// stays empty. False: stay on glibc's heap.
bool Start();

inline bool Owns(const void* block) { return reinterpret_cast<uintptr_t>(block) - hot.base < hot.heap_length; }

// Null and errno = ENOMEM on failure; errno is otherwise unspecified (callers keep it).
void* Allocate(size_t size, bool zero);
// `alignment`: power of two, at most kLargestAlignment.
void* AllocateAligned(size_t size, size_t alignment, bool zero);
void* Reallocate(void* block, size_t size);
void Free(void* block);
size_t UsableSize(const void* block);
// What the heap has obtained from the system, now and at most, and what of it mimalloc tells the calling thread of: its
// own pages.
struct Usage {
  size_t committed, peak_committed;
  size_t committed_by_thread, used_by_thread;
};
Usage CurrentUsage();
// Gives unused memory of the calling thread, and of threads that have ended, back to the system. True: there was some.
bool Trim();

// mimalloc 2.0.9 crashes on alignments of tens of megabytes; the caller serves larger ones itself.
inline constexpr size_t kLargestAlignment = size_t{8} << 20;
// What is larger may only be asked for here, not of `hot`'s functions: mimalloc does not notice when the system refuses
// memory for it.
inline constexpr size_t kLargestUnchecked = size_t{8} << 20;

}  // namespace tidemark::heap
