/* tidemark's in-application interface. All functions are weak: a program that uses them links and runs without the
 * library, in which case they are null pointers; call them through the TIDEMARK_* macros, which check.
 *
 *   cc app.c $(pkg-config --cflags tidemark)                 # no link dependency
 *   tidemark record -- ./app
 *
 * All functions are thread-safe and async-signal-safe and leave errno alone. */
#ifndef TIDEMARK_H
#define TIDEMARK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 1 while this process's heap is being recorded, else 0. */
__attribute__((weak)) int tidemark_is_recording(void);

/* Puts a named mark (at most 256 bytes of UTF-8 are kept) at this moment of this thread into the trace. */
__attribute__((weak)) void tidemark_mark(const char* text);

/* The library's version, for example "0.1.0". Static storage. */
__attribute__((weak)) const char* tidemark_version(void);

/* What a leak check has found. In complete mode all blocks, in sampled mode those that were sampled, not scaled up. */
struct tidemark_leak_counts {
  uint64_t definite_blocks, definite_bytes;   /* nothing points there */
  uint64_t indirect_blocks, indirect_bytes;   /* only lost blocks do */
  uint64_t possible_blocks, possible_bytes;   /* only a pointer into the middle does */
  uint64_t reachable_blocks, reachable_bytes; /* the rest of what is live */
  uint32_t threads_not_stopped;               /* all of their stacks were taken for used */
  uint32_t reserved;
};

/* Looks for leaks now: stops the other threads, follows all pointers, lets them go on. The verdict goes into the trace,
 * and its sums to *counts (which may be null). 1: done. 0: not done, *counts is all zero; leak checks are off (they are
 * on under `tidemark record --leak-check`), or another thread's check is under way. Threads that sleep in poll, select,
 * epoll_wait or nanosleep see EINTR. Not to be called in a child of vfork. */
__attribute__((weak)) int tidemark_leak_check(struct tidemark_leak_counts* counts);

/* The block is lost by design: it counts as reachable from now on, with all that it points to. 1: noted. 0: not; leak
 * checks are off, or more than 16384 blocks are. */
__attribute__((weak)) int tidemark_ignore_leak(const void* block);

/* Words from `start` on hold pointers, though a check would not look there: memory of a device, a pool that is mapped
 * twice. At most 256 such ranges. It must be readable until it is unregistered, with the same numbers. 1: noted. */
__attribute__((weak)) int tidemark_register_root(const void* start, size_t bytes);
__attribute__((weak)) int tidemark_unregister_root(const void* start, size_t bytes);

#define TIDEMARK_IS_RECORDING() (tidemark_is_recording ? tidemark_is_recording() : 0)
#define TIDEMARK_MARK(text) (tidemark_mark ? tidemark_mark(text) : (void)0)
#define TIDEMARK_LEAK_CHECK(counts) (tidemark_leak_check ? tidemark_leak_check(counts) : 0)
#define TIDEMARK_IGNORE_LEAK(block) (tidemark_ignore_leak ? tidemark_ignore_leak(block) : 0)
#define TIDEMARK_REGISTER_ROOT(start, bytes) (tidemark_register_root ? tidemark_register_root(start, bytes) : 0)
#define TIDEMARK_UNREGISTER_ROOT(start, bytes) (tidemark_unregister_root ? tidemark_unregister_root(start, bytes) : 0)

#ifdef __cplusplus
}
#endif
#endif
