// The second walk; see unwind_check.h.
#include "profiler/unwind_check.h"

#include "profiler/ring_writer.h"
#include "profiler/rule_cache.h"
#include "profiler/stack_table.h"
#include "profiler/unwind.h"

namespace tidemark {
namespace {

enum class Outcome { kStepped, kEnded };

// One step without any cache. The frame that has no caller says kEnded, whether it is the root or cannot be unwound.
Outcome StepFully(ThreadState* thread, CfiRegisters* at, bool* exact) {
  CfiRow row;
  const Rule rule = FindRule(thread, at->ip, *exact, &row);
  *exact = false;
  const uintptr_t sp = at->sp;
  switch (rule.kind()) {
    case RuleKind::kFrame:
    case RuleKind::kByCfi: {
      bool ended;
      LoggedReader memory(&thread->stack);
      if (!StepByCfi(row, &memory, at, &ended) || ended || at->ip == 0) return Outcome::kEnded;
      if (at->sp <= sp && !row.signal_frame) return Outcome::kEnded;
      *exact = row.signal_frame;
      return Outcome::kStepped;
    }
    case RuleKind::kForeign:
      return StepByFramePointer(&thread->stack, at) && at->ip != 0 ? Outcome::kStepped : Outcome::kEnded;
    default:
      return Outcome::kEnded;
  }
}

bool IsNotCode(ThreadState* thread, uintptr_t ip) {
  CfiRow row;
  return FindRule(thread, ip, false, &row).kind() == RuleKind::kNotCode;
}

bool SameStack(ThreadState* thread, const UnwindStart& start) {
  const StackMemory& memory = thread->frames;
  CfiRegisters at{start.ip, start.sp, start.bp};
  bool exact = false;
  for (uint32_t i = memory.previous_count; i-- > 0;) {
    const StackFrame& frame = memory.previous[i];
    if (frame.ip != at.ip || frame.sp != at.sp || exact != ((frame.flags & kNodeSignal) != 0)) return false;
    if ((frame.flags & kFrameNeedsBp) != 0 && frame.bp != at.bp) return false;
    const Outcome outcome = StepFully(thread, &at, &exact);
    if (i > 0 && outcome != Outcome::kStepped) return false;
    if (i == 0) return outcome == Outcome::kEnded || (!exact && IsNotCode(thread, at.ip));
  }
  return true;
}

}  // namespace

void CheckUnwind(ThreadState* thread, const UnwindStart& start, uint32_t node) {
  const StackMemory& memory = thread->frames;
  // Of a stack that was cut in the middle only the root part is kept.
  if (memory.previous_count == 0 || memory.previous[memory.previous_count - 1].node != node) return;
  session.header->stacks_checked.fetch_add(1, std::memory_order_relaxed);
  if (!SameStack(thread, start)) session.header->stacks_wrong.fetch_add(1, std::memory_order_relaxed);
  thread->stack.ForgetFrom(memory.trusted_end);  // as the first walk left it
}

}  // namespace tidemark
