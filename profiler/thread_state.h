// What one thread keeps while it records: its place in the ring, its previous stack, its sampler.
//
// Lives in mapped memory of our own, one per thread slot, and is handed to the next thread that takes the slot: there
// is no destructor, no pthread key, nothing to tear down at thread exit.
//
// Context: owned by one thread; the thread's own signal handlers may re-enter (see busy_sp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/sampler.h"
#include "profiler/session.h"
#include "profiler/stack_reader.h"

namespace tidemark {

// One frame of a walked stack. (ip, sp, bp) is the machine state in the frame: ip the return address into it, sp the
// stack pointer right after that return, bp rbp's value there.
struct StackFrame {
  uintptr_t ip, sp, bp;
  // Where the step to the caller read rbp from; 0: it did not. The return address was read from caller.sp - 8.
  uintptr_t bp_slot;
  uint32_t node;   // in the stack table; names this frame with everything towards the root
  uint32_t flags;  // NodeFlags of this frame | kFrameOpaque
};
inline constexpr uint32_t kFrameOpaque = 1u << 31;  // the step from here read other words: it cannot be revalidated

// The previous stack of the thread, root first, and room for the frames of the current walk, leaf first.
struct StackMemory {
  StackFrame* previous = nullptr;
  StackFrame* walked = nullptr;
  uint32_t capacity = 0;  // of each
  uint32_t previous_count = 0;
  uint32_t base_node = 0;   // parent of previous[0]: 0, or a truncation mark
  uint64_t generation = 0;  // loader generation and table epoch that the previous stack was taken under
  uint32_t epoch = 0;
};

struct ThreadState {
  // --- Ring position. Invariant: chunk == nullptr or cursor <= limit, both inside the chunk.
  uint64_t* cursor;
  uint64_t* limit;
  uint64_t* base;
  ChunkHeader* chunk;
  uint64_t last_tsc;
  uint64_t last_tick;
  bool one_shot;  // too many threads for the pool: give the chunk back after every event
  bool stalled;   // the last wait for a chunk timed out; do not wait again until one is free

  ThreadSlot* slot;
  uint32_t slot_index, serial, tid, next_sequence;
  uint64_t gap_count[kKindCount], gap_bytes[kKindCount];  // lost since the last record that went through

  // Stack pointer of the hook that is recording now; 0: none. A nested hook (signal handler) sees it and stays out; a
  // hook whose stack pointer is above it knows that the older one was left by longjmp.
  uintptr_t busy_sp;

  StackReader stack;
  StackMemory frames;
  Sampler sampler;
  uint64_t drawn_bytes;  // sampled mode: the countdown's value when it was drawn
};

}  // namespace tidemark
