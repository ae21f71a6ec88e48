// The three-level unwinder; see unwind.h.
#include "profiler/unwind.h"

#include "profiler/module_map.h"
#include "profiler/os.h"
#include "profiler/previous_stack.h"
#include "profiler/ring_writer.h"
#include "profiler/rule_cache.h"
#include "profiler/stack_table.h"
#include "profiler/unwind_check.h"

namespace tidemark {

uintptr_t process_entry_sp = 0;

namespace {

constexpr uint32_t kRootFrames = 128;  // of a stack longer than kMaxFrames: so many at the root
constexpr uint32_t kLeafFrames = kMaxCapacity - kRootFrames - 1;  // and so many at the leaf are kept
constexpr uint32_t kMaxFrames = kLeafFrames + kRootFrames;        // longest stack that is kept whole
constexpr uint32_t kMaxSteps = 1u << 20;                          // then give up looking for the root

enum class Walk { kStepped, kEnded, kLost };

// The loader's entry code has no call frame information, and needs none: the kernel started the process there.
bool IsProcessEntry(uintptr_t sp) { return sp <= process_entry_sp && process_entry_sp - sp <= 32; }

class Walker {
 public:
  Walker(ThreadState* thread, const UnwindStart& start)
      : thread_(thread), frames_(&thread->frames), at_{start.ip, start.sp, start.bp}, moves_(thread->stack.moves()) {}

  uint32_t Run() {
    if (frames_->capacity == 0 && !GrowFrames(frames_)) return 0;
    candidate_ = static_cast<int64_t>(frames_->previous_count) - 1;
    // `kept` frames of the previous stack, counted from the root, belong to this stack too.
    uint32_t kept = 0;
    Walk outcome;
    for (;;) {
      if (!exact_) WalkByRules();
      outcome = Walk::kLost;
      while (frames_->previous[candidate_].sp < at_.sp) candidate_--;  // stops at the sentinel
      if (MeetsPrevious(frames_->previous[candidate_])) {
        const int64_t differs = FirstDifference(frames_, &thread_->stack, candidate_);
        if (differs < 0) {
          kept = static_cast<uint32_t>(candidate_) + 1;
          outcome = Walk::kEnded;
          break;
        }
        // Frames candidate_..differs are the same; the step from `differs` is not.
        if (!TakeOver(candidate_, differs)) break;
        candidate_ = differs - 1;
      }
      if (count_ == kLeafFrames) return Deep();
      if (count_ == frames_->capacity && !GrowFrames(frames_)) break;
      frames_->walked[count_++] = {at_.ip, at_.sp, at_.bp, 0, 0, 0, exact_ ? uint32_t{kNodeSignal} : 0u, 0};
      outcome = Step();
      if (outcome != Walk::kStepped) break;
    }
    return Finish(kept, outcome);
  }

 private:
  bool MeetsPrevious(const StackFrame& old) const {
    return old.sp == at_.sp && old.ip == at_.ip && (old.bp == at_.bp || (old.flags & kFrameNeedsBp) == 0) && !exact_ &&
           (old.flags & kNodeSignal) == 0;
  }

  // The walk as it nearly always goes: as long as the rules are in the cache, what they read is known to be readable,
  // and no frame of the previous stack has this one's place. Everything else is left to one turn of Run()'s loop.
  void WalkByRules() {
    if ((at_.sp & 7) != 0) [[unlikely]]
      return;  // no word of such a stack is read in one piece, or at all
    const StackFrame* const previous = frames_->previous;
    const StackFrame* candidate = previous + candidate_;
    StackFrame* frame = frames_->walked + count_;
    const StackFrame* const first = frame;
    const StackFrame* const limit =
        frames_->walked + (frames_->capacity < kLeafFrames ? frames_->capacity : kLeafFrames);
    const uintptr_t low = thread_->stack.low(), length = thread_->stack.length();
    uintptr_t ip = at_.ip, sp = at_.sp, bp = at_.bp;
    for (; frame != limit; frame++) {
      while (candidate->sp < sp) candidate--;
      if (candidate->sp == sp && candidate->ip == ip &&
          (candidate->bp == bp || (candidate->flags & kFrameNeedsBp) == 0))
        break;
      const Rule rule = CachedRule(ip);
      if (!rule.IsFrameFor(ip)) break;
      const bool by_bp = rule.cfa_is_rbp();
      const uintptr_t cfa = (by_bp ? bp : sp) + rule.cfa_offset();
      if (cfa - 8 - low >= length || (by_bp && (cfa <= sp || (cfa & 7) != 0))) break;
      const uintptr_t slot = rule.bp_below() == 0 ? 0 : cfa - rule.bp_below();
      if (slot != 0 && slot - low >= length) break;
      const uintptr_t caller_ip = *reinterpret_cast<const uintptr_t*>(cfa - 8);
      if (caller_ip == 0) break;
      frame->ip = ip;  // node, hash and words are nobody's business yet
      frame->sp = sp;
      frame->bp = bp;
      frame->bp_slot = slot;
      frame->flags = by_bp ? uint32_t{kFrameUsesBp} : 0u;
      if (slot != 0) bp = *reinterpret_cast<const uintptr_t*>(slot);
      ip = caller_ip;
      sp = cfa;
    }
    at_ = {ip, sp, bp};
    const auto steps = static_cast<uint32_t>(frame - first);
    count_ += steps;
    walked_total_ += steps;
    candidate_ = candidate - previous;
  }

  // Copies the proven frames from..to of the previous stack (leaf to root), as many as there is room for, and continues
  // from the last of them. Their bp was proven only where it is needed, so it is followed anew.
  bool TakeOver(int64_t from, int64_t to) {
    uintptr_t bp = at_.bp;
    int64_t i = from;
    for (; i > to && count_ < kLeafFrames; i--) {
      if (count_ == frames_->capacity && !GrowFrames(frames_)) return false;
      StackFrame& frame = frames_->walked[count_++];
      frame = frames_->previous[i];
      frame.bp = bp;
      if ((frame.flags & (kFrameEvaluated | kFrameOpaque)) != 0) {
        const uint32_t first = frames_->previous[i - 1].words;
        KeepEvaluated(&frame, frames_->words + first, frame.words - first);
        bp = frames_->previous[i - 1].bp;
      } else if (frame.bp_slot != 0 && !thread_->stack.Read(frame.bp_slot, &bp)) {
        return false;
      }
      frame.flags &= ~uint32_t{kFrameNeedsBp};
      reused_total_++;
    }
    const StackFrame& last = frames_->previous[i];
    at_ = {last.ip, last.sp, bp};
    exact_ = (last.flags & kNodeSignal) != 0;
    return true;
  }

  void KeepEvaluated(StackFrame* frame, const StackWord* words, uint32_t count) {
    if (words == nullptr || evaluated_count_ + count > kMaxEvaluated) {
      frame->flags |= kFrameOpaque;
      return;
    }
    frame->flags |= kFrameEvaluated;
    frame->words = evaluated_count_ << 8 | count;
    for (uint32_t i = 0; i < count; i++) evaluated_[evaluated_count_++] = words[i];
  }

  // From the state in at_ (already pushed) to its caller.
  Walk Step() {
    StackFrame& frame = frames_->walked[count_ - 1];
    walked_total_++;
    const Rule rule = CachedRule(at_.ip);
    if (rule.IsFrameFor(at_.ip) && !exact_) [[likely]]
      return StepByRule(rule, &frame);
    return StepSlowly(&frame, rule);
  }

  Walk StepByRule(const Rule& rule, StackFrame* frame) {
    const uintptr_t cfa = (rule.cfa_is_rbp() ? at_.bp : at_.sp) + rule.cfa_offset();
    frame->flags |= rule.cfa_is_rbp() ? uint32_t{kFrameUsesBp} : 0u;
    uintptr_t ip, bp = at_.bp;
    if (cfa <= at_.sp || !thread_->stack.Read(cfa - 8, &ip)) return Walk::kLost;
    if (const uint32_t below = rule.bp_below(); below != 0) {
      frame->bp_slot = cfa - below;
      if (!thread_->stack.Read(frame->bp_slot, &bp)) return Walk::kLost;
    }
    at_ = {ip, cfa, bp};
    if (ip != 0) [[likely]]
      return Walk::kStepped;
    last_read_ = {cfa - 8, ip};
    return Walk::kEnded;
  }

  __attribute__((noinline)) Walk StepSlowly(StackFrame* frame, Rule rule) {
    const bool exact = exact_;
    exact_ = false;
    CfiRow row;
    if (exact || !rule.IsFor(at_.ip) || rule.kind() == RuleKind::kByCfi) {
      const bool missed = exact || !rule.IsFor(at_.ip);
      const uint64_t begin = missed ? os::Tsc() : 0;
      rule = FindRule(thread_, at_.ip, exact, &row);
      if (missed) {
        ++misses_;
        miss_ticks_ += os::Tsc() - begin;
      }
    }
    switch (rule.kind()) {
      case RuleKind::kFrame:
        return StepByRule(rule, frame);
      case RuleKind::kEnd:
        return Walk::kEnded;
      case RuleKind::kByCfi:
        return StepEvaluated(row, frame);
      case RuleKind::kForeign: {
        frame->flags |= kFrameUsesBp;
        const uintptr_t slot = at_.bp;
        if (!StepByFramePointer(&thread_->stack, &at_)) return Walk::kLost;
        frame->flags |= kNodeFramePointer;
        frame->bp_slot = slot;
        guesses_++;
        if (at_.ip != 0) return Walk::kStepped;
        last_read_ = {at_.sp - 8, 0};
        return Walk::kEnded;
      }
      case RuleKind::kNotCode:
        if (count_ > 1) {  // not a frame: the step that led here ended in nothing
          count_--;
          last_read_ = {at_.sp - 8, at_.ip};
        }
        return Walk::kLost;
      default:
        return IsProcessEntry(at_.sp) ? Walk::kEnded : Walk::kLost;
    }
  }

  Walk StepEvaluated(const CfiRow& row, StackFrame* frame) {
    bool ended;
    const uintptr_t sp = at_.sp;
    LoggedReader memory(&thread_->stack);
    frame->flags |= kFrameUsesBp;
    const bool stepped = StepByCfi(row, &memory, &at_, &ended);
    KeepEvaluated(frame, memory.words(), memory.count());
    if (!stepped) return Walk::kLost;
    if (ended) return Walk::kEnded;
    // Signal frames lead to another stack when the handler ran on an alternate one; everything else must go up.
    if (at_.sp <= sp && !row.signal_frame) return Walk::kLost;
    exact_ = row.signal_frame;
    return at_.ip == 0 ? Walk::kEnded : Walk::kStepped;
  }

  static uint32_t StepFlags(const StackFrame& frame) {
    if (!IsPlain(frame)) return kStepEvaluated;
    const Rule rule = CachedRule(frame.ip);
    return rule.IsFrameFor(frame.ip) && rule.keeps_frame_pointer() ? kStepByFramePointer : kStepByRule;
  }

  // The same as ExtendPath() for a node that `entry` does not know yet.
  __attribute__((noinline)) StackPath NameSlowly(const StackPath& parent, const StackFrame& frame, KnownNode* entry) {
    const StackPath path = ExtendPath(thread_, parent, frame.ip, frame.flags & 15, StepFlags(frame));
    if (path.node == 0 || entry == nullptr) return path;
    *entry = {frame.ip, parent.node, path.node};
    if (++frames_->known_misses >> frames_->known_bits >= kMissesToGrow) GrowKnownNodes(frames_);
    return path;
  }

  // Where one frame is new, so are most of those that it called: their buckets, all at once.
  void PrefetchPaths(uint64_t hash, const StackFrame* frame) {
    while (frame-- != frames_->walked) {
      hash = PathHash(hash, frame->ip, frame->flags & 15);
      PrefetchPath(hash);
    }
  }

  // Names the walked frames below `path` and puts them on top of *kept frames of the previous stack. False: it could
  // not.
  bool NameAndAppend(StackPath path, uint32_t* kept) {
    const StackFrame* const last = frames_->walked;
    StackFrame* out = frames_->previous + *kept;
    StackWord* const words = frames_->words;
    KnownNode* known = frames_->known;
    uint64_t mask = (uint64_t{1} << frames_->known_bits) - 1;
    bool prefetched = false;
    for (const StackFrame* frame = last + count_; frame-- != last; out++) {
      const uint64_t hash = PathHash(path.hash, frame->ip, frame->flags & 15);
      KnownNode* entry = known == nullptr || (frame->flags & 15) != 0 ? nullptr : known + (hash & mask);
      if (entry != nullptr && entry->ip == frame->ip && entry->parent == path.node) [[likely]] {
        path = {entry->node, hash};
      } else {
        if (!prefetched) PrefetchPaths(hash, frame);
        prefetched = true;
        path = NameSlowly(path, *frame, entry);
        if (path.node == 0) return false;
        known = frames_->known;
        mask = (uint64_t{1} << frames_->known_bits) - 1;
      }
      if (out != frames_->previous && IsPlain(*frame)) [[likely]] {
        AppendPlainFrame(out, words, *frame, path);
      } else {
        AppendFrame(frames_, static_cast<uint32_t>(out - frames_->previous), *frame, path, evaluated_, last_read_);
      }
    }
    *kept = static_cast<uint32_t>(out - frames_->previous);
    return true;
  }

  // Joins `kept` frames of the previous stack with the walked ones, names the new frames, makes it the previous stack.
  uint32_t Finish(uint32_t kept, Walk outcome) {
    FollowEpoch(frames_, StackTableEpoch());  // a module that was met on the way may have emptied the table
    if (kept == 0) {
      frames_->base = {};
      if (outcome == Walk::kLost) {
        frames_->base = ExtendPath(thread_, {}, 0, kNodeTruncated);
        if (frames_->base.node == 0) return Fail();
      }
    } else {
      reused_total_ += kept;
    }
    truncated_ = frames_->base.node != 0;
    if (kept + count_ > kMaxFrames) return FinishLong(kept);
    if (kept + count_ > frames_->capacity && !GrowFrames(frames_)) return Fail();
    const bool all_read = kept == 0;
    if (!NameAndAppend(kept == 0 ? frames_->base : PathOf(frames_->previous[kept - 1]), &kept)) return Fail();
    frames_->previous_count = kept;
    if (all_read) TrustBelowRoot(outcome);
    ForgetAboveRoot();
    Settle(frames_, thread_->stack, moves_, all_read);
    Account();
    return frames_->previous[kept - 1].node;
  }

  // A walk that came to the end that call frame information marks has found the root: nothing above it belongs to this
  // stack. One that ended anywhere else (at a null, at what is no code) may have left the stack long before, over the
  // end of a coroutine's that has no mark: then only what is below the leaf's frame is sure to stay mapped.
  void TrustBelowRoot(Walk outcome) {
    const bool end_known = outcome == Walk::kEnded && last_read_.address == 0;
    const uintptr_t root = frames_->previous[0].sp;
    frames_->trusted_end = StackReader::PagesEnd(end_known ? root : frames_->walked[0].sp);
    frames_->all_trusted = root <= frames_->trusted_end && last_read_.address < frames_->trusted_end;
  }
  void ForgetAboveRoot() {
    for (uint32_t i = 0; i < evaluated_count_; i++) {
      if (evaluated_[i].address >= frames_->trusted_end) frames_->all_trusted = false;
    }
    thread_->stack.ForgetFrom(frames_->trusted_end);
  }

  static StackPath PathOf(const StackFrame& frame) { return {frame.node, frame.hash}; }

  // Names walked[0..count) below `path`, and returns the leaf's number.
  uint32_t NameWalked(StackPath path) {
    for (uint32_t i = count_; i-- > 0 && path.node != 0;) {
      path = ExtendPath(thread_, path, frames_->walked[i].ip, frames_->walked[i].flags & 15);
    }
    if (path.node == 0) return Fail();
    Account();
    return path.node;
  }

  // The mark below the root part, which stands for the frames that are left out.
  StackPath MarkBelowRoot() {
    return ExtendPath(thread_, PathOf(frames_->previous[kRootFrames - 1]), 0, kNodeTruncated);
  }

  // A stack of more than kMaxFrames frames, of which `kept` are proven: leaf and root part are kept, a mark stands for
  // the frames between. previous[] keeps the root part only.
  uint32_t FinishLong(uint32_t kept) {
    truncated_ = true;
    StackPath path = MarkBelowRoot();
    for (uint32_t i = kLeafFrames - count_; i > 0 && path.node != 0; i--) {
      const StackFrame& frame = frames_->previous[kept - i];
      path = ExtendPath(thread_, path, frame.ip, frame.flags & 15);
    }
    if (path.node == 0) return Fail();
    frames_->previous_count = kRootFrames;
    return NameWalked(path);
  }

  // kLeafFrames were walked and no end is in sight: looks kRootFrames further, and when the stack is longer than that
  // takes the root part that the thread proved last, or walks to the root.
  uint32_t Deep() {
    if (frames_->capacity < kMaxCapacity && !GrowFrames(frames_)) return Fail();
    StackFrame* ring = frames_->walked + kLeafFrames;  // the last kRootFrames frames
    uint32_t steps = 0;
    Walk outcome = Walk::kStepped;
    while (outcome == Walk::kStepped && steps < kMaxSteps) {
      if (steps == kRootFrames && RootPartIsValid()) {
        count_ = kLeafFrames;
        reused_total_ += kRootFrames;
        truncated_ = true;
        const StackPath mark = MarkBelowRoot();
        return mark.node == 0 ? Fail() : NameWalked(mark);
      }
      ring[steps % kRootFrames] = {at_.ip, at_.sp, at_.bp, 0, 0, 0, exact_ ? uint32_t{kNodeSignal} : 0u, 0};
      count_ = kLeafFrames + steps % kRootFrames + 1;  // Step() works on the last frame
      outcome = Step();
      steps++;
    }
    if (steps <= kRootFrames) {  // the root was near: nothing needs to be left out
      count_ = kLeafFrames + steps;
      return Finish(0, outcome);
    }
    count_ = kLeafFrames;
    truncated_ = true;
    frames_->base = {};
    if (outcome != Walk::kEnded) {
      frames_->base = ExtendPath(thread_, {}, 0, kNodeTruncated);
      if (frames_->base.node == 0) return Fail();
    }
    StackPath path = frames_->base;
    for (uint32_t i = 0; i < kRootFrames; i++) {
      const StackFrame& frame = ring[(steps - 1 - i) % kRootFrames];
      path = ExtendPath(thread_, path, frame.ip, frame.flags & 15);
      if (path.node == 0) return Fail();
      AppendFrame(frames_, i, frame, path, evaluated_, last_read_);
    }
    frames_->previous_count = kRootFrames;
    TrustBelowRoot(outcome);
    ForgetAboveRoot();
    Settle(frames_, thread_->stack, moves_, true);
    const StackPath mark = MarkBelowRoot();
    return mark.node == 0 ? Fail() : NameWalked(mark);
  }

  // previous[] begins with kRootFrames frames above the current position that still hold.
  bool RootPartIsValid() {
    if (frames_->previous_count < kRootFrames) return false;
    if (frames_->previous[kRootFrames - 1].sp <= at_.sp ||
        FirstDifference(frames_, &thread_->stack, kRootFrames - 1) >= 0)
      return false;
    frames_->previous_count = kRootFrames;
    return true;
  }

  uint32_t Fail() {
    frames_->previous_count = 0;
    Account();
    return 0;
  }

  void Account() {
    const auto add = [](std::atomic<uint64_t>& counter, uint64_t n) {
      counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    };
    ThreadSlot* slot = thread_->slot;
    add(slot->stacks, 1);
    add(slot->frames_walked, walked_total_);
    add(slot->frames_reused, reused_total_);
    if (misses_ != 0) {
      add(slot->rule_misses, misses_);
      add(slot->rule_miss_ticks, miss_ticks_);
    }
    if (truncated_) add(slot->truncated, 1);
    if (guesses_ != 0) add(slot->fp_guesses, guesses_);
  }

  ThreadState* thread_;
  StackMemory* frames_;
  CfiRegisters at_;
  int64_t candidate_ = -1;  // of previous[]: the frame that the walk may meet next
  const uint32_t moves_;    // of the stack's reader before the walk
  bool exact_ = false;      // at_.ip is an interrupted instruction
  uint32_t count_ = 0;      // frames in walked[], leaf first
  uint32_t walked_total_ = 0, reused_total_ = 0, misses_ = 0, guesses_ = 0;
  uint64_t miss_ticks_ = 0;
  bool truncated_ = false;
  StackWord last_read_ = {0, 0};  // what told the step nearest to the root to stop
  static constexpr uint32_t kMaxEvaluated = 16;
  uint32_t evaluated_count_ = 0;
  StackWord evaluated_[kMaxEvaluated];  // read by evaluated steps of walked[]
};

}  // namespace

bool StepByFramePointer(StackReader* stack, CfiRegisters* at) {
  constexpr uintptr_t kLargestFrame = 16 << 20;
  uintptr_t bp, ip;
  if (at->bp < at->sp || at->bp - at->sp > kLargestFrame) return false;
  if (!stack->Read(at->bp, &bp) || !stack->Read(at->bp + 8, &ip)) return false;
  *at = {ip, at->bp + 16, bp};
  return true;
}

__attribute__((noinline)) bool HandlerStandsBelow(uintptr_t sp) {
  constexpr int kMostFrames = 4096;
  CfiRegisters at;
  __asm__ volatile("leaq 0(%%rip), %0\n\tmovq %%rsp, %1\n\tmovq %%rbp, %2" : "=r"(at.ip), "=r"(at.sp), "=r"(at.bp));
  StackReader stack;
  for (int i = 0; i < kMostFrames && at.sp < sp; i++) {
    // The first address is where this function is; the others are return addresses.
    const uintptr_t pc = i == 0 ? at.ip : at.ip - 1, frame = at.sp;
    ModuleView module;
    if (!FindModule(pc, &module)) {
      if (!StepByFramePointer(&stack, &at)) return true;
      continue;
    }
    CfiRow row;
    LoggedReader memory(&stack);
    bool ended;
    if (!FindCfiRow(module.table(), pc, &row) || row.signal_frame) return true;
    if (!StepByCfi(row, &memory, &at, &ended) || ended || at.sp <= frame) return true;
  }
  return at.sp < sp;
}

bool ResetUnwinder() { return ResetRules(LoaderGeneration()); }

uint32_t TakeStack(ThreadState* thread, const UnwindStart& start) {
  const uint64_t generation = LoaderGeneration();
  StackMemory& frames = thread->frames;
  const uint32_t epoch = StackTableEpoch();
  if (frames.generation != generation || frames.epoch != epoch) [[unlikely]] {
    FollowGeneration(generation);
    FollowEpoch(&frames, epoch);
    frames.generation = generation;
    frames.previous_count = 0;
    if (frames.known == nullptr && session.header->mode == static_cast<uint32_t>(Mode::kFull)) {
      GrowKnownNodes(&frames);
    }
  }
  thread->stack.StartWalk();
  const uint32_t node = Walker(thread, start).Run();
#ifdef TIDEMARK_CHECK_UNWIND
  CheckUnwind(thread, start, node);
#endif
  return node;
}

}  // namespace tidemark
