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

// The frames from the root to one frame.
struct StackPath {
  uint32_t node = 0;  // names them, in the stack table; 0: none (before the root), or no number could be had
  uint64_t hash = 0;  // of their addresses and flags
};

// One frame of a walked stack. (ip, sp, bp) is the machine state in the frame: ip the return address into it, sp the
// stack pointer right after that return, bp rbp's value there.
struct StackFrame {
  uintptr_t ip, sp, bp;
  // Where the step to the caller read rbp from; 0: it did not. The return address was read from caller.sp - 8.
  uintptr_t bp_slot;
  uint64_t hash;   // of the path from the root to this frame (stack_table.h), and
  uint32_t node;   // its number
  uint32_t flags;  // NodeFlags of this frame | FrameFlags
  // In previous[]: how many words the steps of this frame and of all towards the root have read (StackMemory::words).
  // In walked[], of an evaluated frame: how many in the walker's store of evaluated words, up to and with its own.
  uint32_t words;
};
enum FrameFlags : uint32_t {
  kFrameUsesBp = 1u << 31,     // the step computes from bp
  kFrameNeedsBp = 1u << 30,    // so does this step, or one towards the root that gets bp from here unchanged
  kFrameEvaluated = 1u << 29,  // the step read what its expressions said
  kFrameOpaque = 1u << 28,     // the step read more words than are kept: it must be taken anew each time
};

// A number that the stack table has given for (parent, ip): most stacks end in frames that were seen a moment ago.
struct KnownNode {
  uint64_t ip;
  uint32_t parent, node;  // node 0: empty
};

// The previous stack of the thread, root first, and room for the frames of the current walk, leaf first.
struct StackMemory {
  StackFrame* previous = nullptr;  // previous[-1] is a sentinel with the highest sp
  StackFrame* walked = nullptr;
  StackWord* words = nullptr;  // that the steps of previous[] have read, root first
  KnownNode* known = nullptr;  // 1 << known_bits, direct-mapped; nullptr: none (sampled mode)
  uint32_t known_bits = 0, known_misses = 0;
  // Room for a few frames, beside the thread's state: threads with short stacks need no more.
  void* first_room = nullptr;
  uint32_t first_room_bytes = 0;
  uint32_t capacity = 0;  // of previous and walked
  uint32_t previous_count = 0;
  StackPath base;             // below which previous[0] lies: empty, or a truncation mark
  uint32_t epoch = 0;         // of the stack table, that `known` and the nodes of previous[] belong to
  uint64_t generation = 0;    // of the loader, that the previous stack was taken under
  uint32_t moves = 0;         // of the StackReader, when it had all of words[] in its interval
  bool settled = false;       // it had
  bool all_trusted = false;   // all of words[] lie below
  uintptr_t trusted_end = 0;  // where the stack's root is: what lies above may be unmapped while the stack is in use
};

struct ThreadState {
  // --- Ring position. Invariant: chunk == nullptr or cursor <= limit, both inside the chunk.
  uint64_t* cursor;
  uint64_t* limit;
  uint64_t* base;
  ChunkHeader* chunk;
  uint64_t last_tsc;
  uint64_t last_tick;
  uint32_t until_timed;  // events until one is timed, itself included
  bool one_shot;         // too many threads for the pool: give the chunk back after every event
  bool waits;            // in sampled mode, too: these records are too few and too dear to be dropped
  bool stalled;          // the last wait for a chunk timed out; do not wait again until one is free

  ThreadSlot* slot;
  uint32_t slot_index, serial, tid, next_sequence;
  char name[16];                                          // of the thread, as it was last asked for
  uint64_t gap_count[kKindCount], gap_bytes[kKindCount];  // lost since the last record that went through
  // The slot's counters. Counted here and stored there: a child that was forked by a handler in the middle of a hook
  // and goes on in it stores what its parent stores.
  uint64_t events[kKindCount], dropped[kKindCount], skipped[kKindCount];

  // Stack pointer of the hook that is recording now; 0: none. A nested hook (signal handler) sees it and stays out; a
  // hook whose stack pointer is above it knows that the older one was left by longjmp.
  uintptr_t busy_sp;
  int* errno_at;  // the owner's errno

  StackReader stack;
  StackMemory frames;
  Sampler sampler;
  uint64_t drawn_bytes;  // sampled mode: the countdown's value when it was drawn
};

}  // namespace tidemark
