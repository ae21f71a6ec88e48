// The previous stack of a thread and what proves that it still holds: the first level of the unwinder (unwind.h).
//
// A step of the unwind is a function of (ip, sp, bp) and of the words that it reads. words[] has, root first, each word
// that the steps of the previous stack depend on, with its address. bp counts only where a step towards the root
// computes from it (kFrameNeedsBp): compilers keep anything in rbp, so its saved value often differs when the stack
// does not. Invariant: every step from previous[i] to the root is right as long as (ip, sp) of previous[i], bp if
// needed, and words[0 .. previous[i].words) are what they were.
//
// Context: one thread, signal-safe under the recorder's guard, no allocation but growth by mmap.
#pragma once

#include <cstdint>

#include "profiler/thread_state.h"

namespace tidemark {

// Largest stack that is kept whole; also of the walk's own array.
inline constexpr uint32_t kMaxCapacity = 1024;

// Makes room for more frames; false: none to be had. Keeps what is there.
bool GrowFrames(StackMemory* memory);

// Forgets what the nodes of an older epoch of the stack table were.
void FollowEpoch(StackMemory* memory, uint32_t epoch);

// The frame nearest to previous[from] whose step would read something else today, or -1: the whole rest holds.
int64_t FirstDifference(StackMemory* memory, StackReader* stack, int64_t from);

// Puts a walked frame on top of previous[0 .. *count). `evaluated`: the words that an evaluated step has read.
// `last_read`: of the frame nearest to the root, when its step read a word and then went no further (address 0: none).
void AppendFrame(StackMemory* memory, uint32_t* count, const StackFrame& frame, uint32_t node,
                 const StackWord* evaluated, const StackWord& last_read);

// The same for a frame that was stepped by a rule and has a caller, which is nearly every one.
inline bool IsPlain(const StackFrame& frame) { return (frame.flags & (kFrameEvaluated | kFrameOpaque)) == 0; }
inline void AppendPlainFrame(StackMemory* memory, uint32_t count, const StackFrame& frame, uint32_t node) {
  StackFrame* out = memory->previous + count;
  const StackFrame& caller = out[-1];
  StackWord* word = memory->words + caller.words;
  const uint32_t caller_needs = caller.flags & kFrameNeedsBp;
  word[0] = {caller.sp - 8, caller.ip};
  word[1] = {frame.bp_slot, caller.bp};  // overwritten by the next one unless it counts
  const uint32_t saved = frame.bp_slot != 0 ? 1 : 0;
  *out = {frame.ip,
          frame.sp,
          frame.bp,
          frame.bp_slot,
          node,
          frame.flags | (frame.flags & kFrameUsesBp) >> 1 | (saved != 0 ? 0 : caller_needs),
          caller.words + 1 + (caller_needs != 0 ? saved : 0)};
}

// Call when previous[] is complete. `moves`: of the StackReader before the walk; `all_read`: nothing was kept from the
// stack before.
void Settle(StackMemory* memory, const StackReader& stack, uint32_t moves, bool all_read);

}  // namespace tidemark
