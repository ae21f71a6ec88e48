// Unwinding rules by return address: the second level of the unwinder (unwind.h).
//
// One 8-byte word an entry, so that readers need no lock and see no half; direct-mapped, shared by all threads. What it
// does not have is looked up in the call frame information (cfi.h) and put in. A module that took the addresses of
// another one makes the loader's generation change, and that empties the cache.
//
// Context: any thread, signal-safe under the recorder's guard, no allocation but one mapping at start, no locks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profiler/cfi.h"
#include "profiler/thread_state.h"

namespace tidemark {

enum class RuleKind : uint32_t {
  kEmpty = 0,
  kFrame = 1,    // CFA = rsp or rbp + offset; return address below it; rbp kept or saved below it
  kEnd = 2,      // outermost frame
  kByCfi = 3,    // exists, but must be evaluated each time
  kNone = 4,     // code of a module without call frame information
  kForeign = 5,  // code outside of every module (JIT): follow the frame pointer
  kNotCode = 6,  // inside a module but not executable: whatever was read there is no return address
};

// One entry:
//   tag 31 (ip >> 16) | kind 3 | cfa is rbp 1 | cfa offset / 8, 14 | rbp slot: 0 none, else (CFA - slot) / 8, 15
// The index is the low 16 bits of ip, scrambled by the tag, so (index, tag) names ip exactly.
class Rule {
 public:
  explicit Rule(uint64_t word) : word_(word) {}
  // Offsets in bytes, multiples of 8; `bp_below` 0: rbp is kept.
  Rule(uintptr_t ip, RuleKind kind, bool cfa_is_rbp, uint32_t cfa_offset, uint32_t bp_below)
      : word_(Tag(ip) << 33 | uint64_t{static_cast<uint32_t>(kind)} << 30 | uint64_t{cfa_is_rbp} << 29 |
              uint64_t{cfa_offset / 8} << 15 | bp_below / 8) {}

  static constexpr uint32_t kCfaOffsetLimit = 0x4000 * 8, kBpBelowLimit = 0x8000 * 8;
  static uint64_t Tag(uintptr_t ip) { return ip >> 16 & 0x7fffffff; }

  bool IsFor(uintptr_t ip) const { return word_ >> 33 == Tag(ip) && kind() != RuleKind::kEmpty; }
  bool IsFrameFor(uintptr_t ip) const {
    return word_ >> 30 == (Tag(ip) << 3 | static_cast<uint64_t>(RuleKind::kFrame));
  }
  RuleKind kind() const { return static_cast<RuleKind>(word_ >> 30 & 7); }
  bool cfa_is_rbp() const { return (word_ >> 29 & 1) != 0; }
  uint32_t cfa_offset() const { return static_cast<uint32_t>(word_ >> 12) & (0x3fff << 3); }
  uint32_t bp_below() const { return static_cast<uint32_t>(word_ & 0x7fff) << 3; }
  // The classic frame: push %rbp; mov %rsp, %rbp.
  bool keeps_frame_pointer() const { return cfa_is_rbp() && cfa_offset() == 16 && bp_below() == 16; }
  uint64_t word() const { return word_; }

 private:
  uint64_t word_;
};

inline constexpr uint32_t kRuleEntries = 1u << 16;
extern std::atomic<uint64_t>* rule_entries __attribute__((visibility("hidden")));

inline std::atomic<uint64_t>& RuleEntry(uintptr_t ip) { return rule_entries[(ip ^ ip >> 16) & (kRuleEntries - 1)]; }
inline Rule CachedRule(uintptr_t ip) { return Rule(RuleEntry(ip).load(std::memory_order_relaxed)); }

// Asks the call frame information, publishes the module that `ip` is in, and puts the rule into the cache. `exact`: ip
// is an interrupted instruction, not a return address; that rule is not cached. `row` is filled for kByCfi.
Rule FindRule(ThreadState* thread, uintptr_t ip, bool exact, CfiRow* row);

// Starts with an empty cache; false: no memory.
bool ResetRules(uint64_t generation);
// Empties the cache when the loader's generation is another than the one that its rules were taken under.
void FollowGeneration(uint64_t generation);

}  // namespace tidemark
