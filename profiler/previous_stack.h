// The previous stack of a thread and what proves that it still holds: the first level of the unwinder (unwind.h).
//
// A step of the unwind is a function of (ip, sp, bp) and of the words that it reads. words[] has, root first, each word
// that the steps of the previous stack depend on, with its address. bp counts only where a step towards the root
// computes from it (kFrameNeedsBp): compilers keep anything in rbp, so its saved value often differs when the stack
// does not. Invariant: every step from previous[i] to the root is right as long as (ip, sp) of previous[i], bp if
// needed, and words[0 .. previous[i].words) are what they were. (A step that could not read its words is believed to
// fail again: it had left the stack.)
//
// Context: one thread, signal-safe under the recorder's guard, no allocation but growth by mmap.
#pragma once

#include <cstdint>

#include "profiler/stack_table.h"
#include "profiler/thread_state.h"

namespace tidemark {

// Largest stack that is kept whole; also of the walk's own array.
inline constexpr uint32_t kMaxCapacity = 1024;

// Makes room for more frames; false: none to be had. Keeps what is there.
bool GrowFrames(StackMemory* memory);

// Starts `known`, or makes it larger: a thread with few different stacks needs a page or two, a compiler's fills them
// all.
void GrowKnownNodes(StackMemory* memory);
inline constexpr uint32_t kMissesToGrow = 4;  // for each entry

// Forgets what the nodes of an older epoch of the stack table were.
void FollowEpoch(StackMemory* memory, uint32_t epoch);

// The frame nearest to previous[from] whose step would read something else today, or -1: the whole rest holds.
int64_t FirstDifference(StackMemory* memory, StackReader* stack, int64_t from);

// Puts a walked frame on top of previous[0 .. index). `evaluated`: the words that an evaluated step has read.
// `last_read`: of the frame nearest to the root, when its step read a word and then went no further (address 0: none).
void AppendFrame(StackMemory* memory, uint32_t index, const StackFrame& frame, const StackPath& path,
                 const StackWord* evaluated, const StackWord& last_read);

// The same for a frame that was stepped by a rule and has a caller, which is nearly every one.
inline bool IsPlain(const StackFrame& frame) { return (frame.flags & (kFrameEvaluated | kFrameOpaque)) == 0; }
inline void AppendPlainFrame(StackFrame* out, StackWord* words, const StackFrame& frame, const StackPath& path) {
  const StackFrame& caller = out[-1];
  const uintptr_t slot = frame.bp_slot;
  const uint32_t caller_needs = caller.flags & kFrameNeedsBp, flags = frame.flags, count = caller.words;
  words[count] = {caller.sp - 8, caller.ip};
  words[count + 1] = {slot, caller.bp};  // overwritten by the next one unless it counts
  out->ip = frame.ip;
  out->sp = frame.sp;
  out->bp = frame.bp;
  out->bp_slot = slot;
  out->node = path.node;
  out->hash = path.hash;
  out->flags = flags | (flags & kFrameUsesBp) >> 1 | (slot != 0 ? 0 : caller_needs);
  out->words = count + 1 + (slot != 0 ? caller_needs / kFrameNeedsBp : 0);
}

// Call when previous[] is complete. `moves`: of the StackReader before the walk; `all_read`: nothing was kept from the
// stack before.
void Settle(StackMemory* memory, const StackReader& stack, uint32_t moves, bool all_read);

}  // namespace tidemark
