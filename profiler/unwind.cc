// The three-level unwinder; see unwind.h.
#include "profiler/unwind.h"

#include "profiler/cfi.h"
#include "profiler/module_map.h"
#include "profiler/module_publisher.h"
#include "profiler/os.h"
#include "profiler/ring_writer.h"
#include "profiler/stack_table.h"

namespace tidemark {

uintptr_t process_entry_sp = 0;

namespace {

// ---- Level 2: rules.

enum class RuleKind : uint32_t {
  kEmpty = 0,
  kFrame = 1,    // CFA = rsp or rbp + offset; return address below it; rbp kept or saved below it
  kEnd = 2,      // outermost frame
  kByCfi = 3,    // exists, but must be evaluated each time
  kNone = 4,     // code of a module without call frame information
  kForeign = 5,  // code outside of every module (JIT): follow the frame pointer
  kNotCode = 6,  // inside a module but not executable: whatever was read there is no return address
};

// One word, so that readers need no lock and see no half:
//   tag 31 (ip >> 16) | kind 3 | cfa is rbp 1 | cfa offset / 8, 14 | rbp slot: 0 none, else (CFA - slot) / 8, 15
// The index is the low 16 bits of ip, scrambled by the tag, so (index, tag) names ip exactly.
constexpr uint32_t kRuleEntries = 1u << 16;
std::atomic<uint64_t>* rules = nullptr;
std::atomic<uint64_t> rules_generation{0};

struct Rule {
  RuleKind kind;
  bool cfa_is_rbp;
  uint32_t cfa_offset;  // bytes
  uint32_t bp_below;    // bytes below CFA, 0: rbp is kept
};

inline uint64_t Tag(uintptr_t ip) { return ip >> 16 & 0x7fffffff; }
inline uint32_t RuleIndex(uintptr_t ip) {
  return static_cast<uint32_t>((ip ^ (Tag(ip) * 0x9e3779b1u >> 8)) & (kRuleEntries - 1));
}
inline uint64_t Pack(uintptr_t ip, const Rule& rule) {
  return Tag(ip) << 33 | uint64_t{static_cast<uint32_t>(rule.kind)} << 30 | uint64_t{rule.cfa_is_rbp} << 29 |
         uint64_t{rule.cfa_offset / 8} << 15 | rule.bp_below / 8;
}
inline Rule Unpack(uint64_t word) {
  return {static_cast<RuleKind>(word >> 30 & 7), (word >> 29 & 1) != 0, static_cast<uint32_t>(word >> 15 & 0x3fff) * 8,
          static_cast<uint32_t>(word & 0x7fff) * 8};
}

// Reduces a row to a cacheable rule.
Rule RuleOf(const CfiRow& row) {
  if (row.return_address.how == CfiHow::kUndefined) return {RuleKind::kEnd, false, 0, 0};
  const Rule by_cfi{RuleKind::kByCfi, false, 0, 0};
  const bool plain_cfa = row.cfa_expression == nullptr &&
                         (row.cfa_register == kDwarfRsp || row.cfa_register == kDwarfRbp) && row.cfa_offset >= 8 &&
                         row.cfa_offset < 0x4000 * 8 && row.cfa_offset % 8 == 0;
  if (!plain_cfa || row.signal_frame) return by_cfi;
  if (row.return_address.how != CfiHow::kAtOffset || row.return_address.offset != -8) return by_cfi;
  Rule rule{RuleKind::kFrame, row.cfa_register == kDwarfRbp, static_cast<uint32_t>(row.cfa_offset), 0};
  if (row.rbp.how == CfiHow::kAtOffset && row.rbp.offset < 0 && row.rbp.offset > -0x8000 * 8 &&
      row.rbp.offset % 8 == 0) {
    rule.bp_below = static_cast<uint32_t>(-row.rbp.offset);
  } else if (row.rbp.how != CfiHow::kSame) {
    return by_cfi;
  }
  return rule;
}

// Level 3: finds the rule for an ip that the cache does not have. `exact`: ip is an interrupted instruction.
Rule FindRule(ThreadState* thread, uintptr_t ip, bool exact, CfiRow* row) {
  const uintptr_t pc = exact ? ip : ip - 1;
  ModuleView module;
  if (!FindModule(pc, &module)) return {RuleKind::kForeign, false, 0, 0};
  PublishModule(thread, module);
  // A return address that was made up, not pushed by a call, is a function's first instruction (makecontext's
  // __start_context): ip-1 is then in no function at all.
  if (!FindCfiRow(module.table(), pc, row) && !FindCfiRow(module.table(), ip, row)) {
    return {IsExecutable(module, pc) ? RuleKind::kNone : RuleKind::kNotCode, false, 0, 0};
  }
  return RuleOf(*row);
}

// A new module may have taken the addresses of an old one: forget the rules. Whoever sees the change first clears;
// the others may use an old rule for the blink of an eye, for code that no stack can contain any more.
void FollowGeneration(uint64_t generation) {
  uint64_t seen = rules_generation.load(std::memory_order_acquire);
  if (seen == generation || !rules_generation.compare_exchange_strong(seen, generation)) return;
  for (uint32_t i = 0; i < kRuleEntries; i++) {
    if (rules[i].load(std::memory_order_relaxed) != 0) rules[i].store(0, std::memory_order_relaxed);
  }
}

// ---- The walk.

constexpr uint32_t kCapacity = 1024;
constexpr uint32_t kRootFrames = 128;                          // of a stack longer than kMaxFrames: so many at the root
constexpr uint32_t kLeafFrames = kCapacity - kRootFrames - 1;  // and so many at the leaf are kept
constexpr uint32_t kMaxFrames = kLeafFrames + kRootFrames;     // longest stack that is kept whole
constexpr uint32_t kMaxSteps = 1u << 20;                       // then give up looking for the root

bool GrowFrames(StackMemory* frames) {
  const uint32_t capacity = frames->capacity == 0 ? 96 : kCapacity;
  if (frames->capacity == kCapacity) return false;
  const size_t bytes = (size_t{capacity} * 2 * sizeof(StackFrame) + 4095) & ~size_t{4095};
  auto* memory = static_cast<StackFrame*>(os::Map(bytes));
  if (memory == nullptr) return false;
  StackFrame* previous = memory;
  StackFrame* walked = memory + capacity;
  if (frames->capacity != 0) {
    __builtin_memcpy(previous, frames->previous, frames->previous_count * sizeof(StackFrame));
    __builtin_memcpy(walked, frames->walked, frames->capacity * sizeof(StackFrame));
  }
  const StackMemory old = *frames;
  frames->previous = previous;
  frames->walked = walked;
  frames->capacity = capacity;
  // Last: whoever interrupts this and never comes back leaves pointers to what is mapped.
  if (old.capacity != 0) {
    os::Unmap(old.previous, (size_t{old.capacity} * 2 * sizeof(StackFrame) + 4095) & ~size_t{4095});
  }
  return true;
}

enum class Walk { kStepped, kEnded, kLost };

class Walker {
 public:
  Walker(ThreadState* thread, const UnwindStart& start)
      : thread_(thread), frames_(&thread->frames), at_{start.ip, start.sp, start.bp} {}

  uint32_t Run() {
    if (frames_->capacity == 0 && !GrowFrames(frames_)) return 0;
    int64_t candidate = static_cast<int64_t>(frames_->previous_count) - 1;
    // `kept` frames of the previous stack, counted from the root, belong to this stack too.
    uint32_t kept = 0;
    Walk outcome = Walk::kLost;
    for (;;) {
      while (candidate >= 0 && frames_->previous[candidate].sp < at_.sp) candidate--;
      if (candidate >= 0) {
        const StackFrame& old = frames_->previous[candidate];
        if (old.sp == at_.sp && old.ip == at_.ip && old.bp == at_.bp && !exact_ && (old.flags & kNodeSignal) == 0) {
          const int64_t differs = FirstDifference(candidate);
          if (differs < 0) {
            kept = static_cast<uint32_t>(candidate) + 1;
            outcome = Walk::kEnded;
            break;
          }
          // Frames candidate..differs are the same; the step from `differs` is not.
          if (!TakeOver(candidate, differs)) break;
          candidate = differs - 1;
        }
      }
      if (count_ == kLeafFrames) return Deep();
      if (!Push()) break;
      outcome = Step();
      if (outcome != Walk::kStepped) break;
    }
    return Finish(kept, outcome);
  }

 private:
  // Re-reads the words of the previous stack's steps from frame `from` to the root. The first frame whose step reads
  // something else, or -1.
  int64_t FirstDifference(int64_t from) {
    const StackFrame* previous = frames_->previous;
    StackReader& stack = thread_->stack;
    for (int64_t i = from; i > 0; i--) {
      const StackFrame& frame = previous[i];
      const StackFrame& caller = previous[i - 1];
      uintptr_t word;
      if ((frame.flags & kFrameOpaque) != 0) return i;
      if (!stack.Read(caller.sp - 8, &word) || word != caller.ip) return i;
      if (frame.bp_slot != 0 && (!stack.Read(frame.bp_slot, &word) || word != caller.bp)) return i;
    }
    // The last step found the end, or could go no further; it read nothing unless it is opaque.
    if (from >= 0 && (previous[0].flags & kFrameOpaque) != 0) return 0;
    return -1;
  }

  bool Push() {
    if (count_ == frames_->capacity && !GrowFrames(frames_)) return false;
    frames_->walked[count_++] = {at_.ip, at_.sp, at_.bp, 0, 0, exact_ ? uint32_t{kNodeSignal} : 0u};
    return true;
  }

  // Copies the proven frames from..to of the previous stack (leaf to root) and continues from the last of them.
  bool TakeOver(int64_t from, int64_t to) {
    for (int64_t i = from; i > to; i--) {
      if (count_ == kLeafFrames || (count_ == frames_->capacity && !GrowFrames(frames_))) return false;
      frames_->walked[count_] = frames_->previous[i];
      count_++;
      reused_total_++;
    }
    const StackFrame& last = frames_->previous[to];
    at_ = {last.ip, last.sp, last.bp};
    exact_ = (last.flags & kNodeSignal) != 0;
    return true;
  }

  // From the state in at_ (already pushed) to its caller.
  Walk Step() {
    StackFrame& frame = frames_->walked[count_ - 1];
    Rule rule{};
    CfiRow row;
    bool have_row = false;
    walked_total_++;
    if (!exact_) [[likely]] {
      std::atomic<uint64_t>& entry = rules[RuleIndex(at_.ip)];
      const uint64_t word = entry.load(std::memory_order_relaxed);
      if (word >> 33 == Tag(at_.ip) && word != 0) [[likely]] {
        rule = Unpack(word);
      } else {
        rule = FindRule(thread_, at_.ip, false, &row);
        have_row = true;
        misses_++;
        entry.store(Pack(at_.ip, rule), std::memory_order_relaxed);
      }
    } else {
      rule = FindRule(thread_, at_.ip, true, &row);
      have_row = true;
      misses_++;
    }
    exact_ = false;
    switch (rule.kind) {
      case RuleKind::kFrame: {
        const uintptr_t cfa = (rule.cfa_is_rbp ? at_.bp : at_.sp) + rule.cfa_offset;
        uintptr_t ip, bp = at_.bp;
        if (cfa <= at_.sp || !thread_->stack.Read(cfa - 8, &ip)) return Walk::kLost;
        if (rule.bp_below != 0) {
          frame.bp_slot = cfa - rule.bp_below;
          if (!thread_->stack.Read(frame.bp_slot, &bp)) return Walk::kLost;
        }
        at_ = {ip, cfa, bp};
        return ip == 0 ? Walk::kEnded : Walk::kStepped;
      }
      case RuleKind::kEnd:
        return Walk::kEnded;
      case RuleKind::kByCfi:
        return StepEvaluated(&frame, have_row, &row);
      case RuleKind::kForeign:
        return StepByFramePointer(&frame);
      case RuleKind::kNotCode:
        if (count_ > 1) count_--;  // not a frame
        return Walk::kLost;
      default:
        return IsProcessEntry() ? Walk::kEnded : Walk::kLost;
    }
  }

  // The loader's entry code has no call frame information, and needs none: the kernel started the process there.
  bool IsProcessEntry() const { return at_.sp <= process_entry_sp && process_entry_sp - at_.sp <= 32; }

  Walk StepEvaluated(StackFrame* frame, bool have_row, CfiRow* row) {
    const bool exact = (frame->flags & kNodeSignal) != 0;
    if (!have_row && FindRule(thread_, at_.ip, exact, row).kind != RuleKind::kByCfi) return Walk::kLost;
    bool ended, plain;
    const uintptr_t sp = at_.sp;
    if (!StepByCfi(*row, &thread_->stack, &at_, &ended, &frame->bp_slot, &plain)) return Walk::kLost;
    if (ended) return Walk::kEnded;
    if (!plain || row->signal_frame) frame->flags |= kFrameOpaque;
    // Signal frames lead to another stack when the handler ran on an alternate one; everything else must go up.
    if (at_.sp <= sp && !row->signal_frame) return Walk::kLost;
    exact_ = row->signal_frame;
    return at_.ip == 0 ? Walk::kEnded : Walk::kStepped;
  }

  // Code of no module: a JIT's. JITs keep frame pointers almost without exception; the frame is marked as a guess.
  Walk StepByFramePointer(StackFrame* frame) {
    uintptr_t bp, ip;
    if (at_.bp < at_.sp || at_.bp - at_.sp > (16u << 20)) return Walk::kLost;
    if (!thread_->stack.Read(at_.bp, &bp) || !thread_->stack.Read(at_.bp + 8, &ip)) return Walk::kLost;
    frame->flags |= kNodeFramePointer;
    frame->bp_slot = at_.bp;
    guesses_++;
    at_ = {ip, at_.bp + 16, bp};
    return ip == 0 ? Walk::kEnded : Walk::kStepped;
  }

  // Joins `kept` frames of the previous stack with the walked ones, names the new frames, makes it the previous stack.
  uint32_t Finish(uint32_t kept, Walk outcome) {
    if (kept == 0) {
      frames_->base_node = 0;
      if (outcome == Walk::kLost) {
        truncated_ = true;
        frames_->base_node = StackNode(thread_, 0, 0, kNodeTruncated);
        if (frames_->base_node == 0) return Fail();
      }
    } else {
      truncated_ = frames_->base_node != 0;
      reused_total_ += kept;
    }
    if (kept + count_ > kMaxFrames) return FinishLong(kept);
    if (kept + count_ > frames_->capacity && !GrowFrames(frames_)) return Fail();
    uint32_t node = kept == 0 ? frames_->base_node : frames_->previous[kept - 1].node;
    for (uint32_t i = count_; i-- > 0;) {
      StackFrame& frame = frames_->walked[i];
      node = StackNode(thread_, node, frame.ip, frame.flags & 15);
      if (node == 0) return Fail();
      frame.node = node;
      frames_->previous[kept++] = frame;
    }
    frames_->previous_count = kept;
    Account();
    return node;
  }

  // Names walked[0..count) below `node`, and returns the leaf's number.
  uint32_t NameWalked(uint32_t node) {
    for (uint32_t i = count_; i-- > 0 && node != 0;) {
      node = StackNode(thread_, node, frames_->walked[i].ip, frames_->walked[i].flags & 15);
    }
    if (node == 0) return Fail();
    Account();
    return node;
  }

  // A stack of more than kMaxFrames frames, of which `kept` are proven: leaf and root part are kept, a mark stands for
  // the frames between. previous[] keeps the root part only.
  uint32_t FinishLong(uint32_t kept) {
    truncated_ = true;
    uint32_t node = StackNode(thread_, frames_->previous[kRootFrames - 1].node, 0, kNodeTruncated);
    for (uint32_t i = kLeafFrames - count_; i > 0 && node != 0; i--) {
      const StackFrame& frame = frames_->previous[kept - i];
      node = StackNode(thread_, node, frame.ip, frame.flags & 15);
    }
    if (node == 0) return Fail();
    frames_->previous_count = kRootFrames;
    return NameWalked(node);
  }

  // kLeafFrames were walked and no end is in sight: looks kRootFrames further, and when the stack is longer than that
  // takes the root part that the thread proved last, or walks to the root.
  uint32_t Deep() {
    if (frames_->capacity < kCapacity && !GrowFrames(frames_)) return Fail();
    StackFrame* ring = frames_->walked + kLeafFrames;  // the last kRootFrames frames
    uint32_t steps = 0;
    Walk outcome = Walk::kStepped;
    while (outcome == Walk::kStepped && steps < kMaxSteps) {
      if (steps == kRootFrames && RootPartIsValid()) {
        count_ = kLeafFrames;
        reused_total_ += kRootFrames;
        truncated_ = true;
        const uint32_t mark = StackNode(thread_, frames_->previous[kRootFrames - 1].node, 0, kNodeTruncated);
        return mark == 0 ? Fail() : NameWalked(mark);
      }
      ring[steps % kRootFrames] = {at_.ip, at_.sp, at_.bp, 0, 0, exact_ ? uint32_t{kNodeSignal} : 0u};
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
    uint32_t node = 0;
    frames_->base_node = 0;
    if (outcome != Walk::kEnded) {
      node = frames_->base_node = StackNode(thread_, 0, 0, kNodeTruncated);
      if (node == 0) return Fail();
    }
    for (uint32_t i = 0; i < kRootFrames; i++) {
      StackFrame frame = ring[(steps - 1 - i) % kRootFrames];
      node = StackNode(thread_, node, frame.ip, frame.flags & 15);
      if (node == 0) return Fail();
      frame.node = node;
      frames_->previous[i] = frame;
    }
    frames_->previous_count = kRootFrames;
    const uint32_t mark = StackNode(thread_, node, 0, kNodeTruncated);
    return mark == 0 ? Fail() : NameWalked(mark);
  }

  // previous[] begins with kRootFrames frames above the current position that still hold.
  bool RootPartIsValid() {
    if (frames_->previous_count < kRootFrames) return false;
    if (frames_->previous[kRootFrames - 1].sp <= at_.sp || FirstDifference(kRootFrames - 1) >= 0) return false;
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
    if (misses_ != 0) add(slot->rule_misses, misses_);
    if (truncated_) add(slot->truncated, 1);
    if (guesses_ != 0) add(slot->fp_guesses, guesses_);
  }

  ThreadState* thread_;
  StackMemory* frames_;
  CfiRegisters at_;
  bool exact_ = false;  // at_.ip is an interrupted instruction
  uint32_t count_ = 0;  // frames in walked[], leaf first
  uint32_t walked_total_ = 0, reused_total_ = 0, misses_ = 0, guesses_ = 0;
  bool truncated_ = false;
};

}  // namespace

bool ResetUnwinder() {
  constexpr size_t kBytes = kRuleEntries * sizeof(*rules);
  if (rules == nullptr) {
    rules = static_cast<std::atomic<uint64_t>*>(os::Map(kBytes));
    if (rules == nullptr) return false;
    os::Advise(rules, kBytes, MADV_NOHUGEPAGE);
  } else {
    os::Advise(rules, kBytes, MADV_DONTNEED);
  }
  rules_generation.store(LoaderGeneration(), std::memory_order_relaxed);
  return true;
}

uint32_t TakeStack(ThreadState* thread, const UnwindStart& start) {
  const uint64_t generation = LoaderGeneration();
  StackMemory& frames = thread->frames;
  const uint32_t epoch = StackTableEpoch();
  if (frames.generation != generation || frames.epoch != epoch) [[unlikely]] {
    FollowGeneration(generation);
    frames.generation = generation;
    frames.epoch = epoch;
    frames.previous_count = 0;
  }
  return Walker(thread, start).Run();
}

}  // namespace tidemark
