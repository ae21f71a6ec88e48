// Filling and emptying the rule cache; see rule_cache.h.
#include "profiler/rule_cache.h"

#include "profiler/module_map.h"
#include "profiler/module_publisher.h"
#include "profiler/os.h"

namespace tidemark {

std::atomic<uint64_t>* rule_entries = nullptr;

namespace {

std::atomic<uint64_t> rules_generation{0};

// Reduces a row to a cacheable rule.
Rule RuleOf(uintptr_t ip, const CfiRow& row) {
  if (row.return_address.how == CfiHow::kUndefined) return {ip, RuleKind::kEnd, false, 0, 0};
  const Rule by_cfi{ip, RuleKind::kByCfi, false, 0, 0};
  const bool plain_cfa = row.cfa_expression == nullptr &&
                         (row.cfa_register == kDwarfRsp || row.cfa_register == kDwarfRbp) && row.cfa_offset >= 8 &&
                         row.cfa_offset < Rule::kCfaOffsetLimit && row.cfa_offset % 8 == 0;
  if (!plain_cfa || row.signal_frame) return by_cfi;
  if (row.return_address.how != CfiHow::kAtOffset || row.return_address.offset != -8) return by_cfi;
  uint32_t bp_below = 0;
  if (row.rbp.how == CfiHow::kAtOffset && row.rbp.offset < 0 && row.rbp.offset > -int64_t{Rule::kBpBelowLimit} &&
      row.rbp.offset % 8 == 0) {
    bp_below = static_cast<uint32_t>(-row.rbp.offset);
  } else if (row.rbp.how != CfiHow::kSame) {
    return by_cfi;
  }
  return {ip, RuleKind::kFrame, row.cfa_register == kDwarfRbp, static_cast<uint32_t>(row.cfa_offset), bp_below};
}

Rule LookUp(ThreadState* thread, uintptr_t ip, bool exact, CfiRow* row) {
  const uintptr_t pc = exact ? ip : ip - 1;
  ModuleView module;
  if (!FindModule(pc, &module)) return {ip, RuleKind::kForeign, false, 0, 0};
  PublishModule(thread, module);
  // A return address that was made up, not pushed by a call, is a function's first instruction (makecontext's
  // __start_context): ip-1 is then in no function at all.
  if (!FindCfiRow(module.table(), pc, row) && !FindCfiRow(module.table(), ip, row)) {
    return {ip, IsExecutable(module, pc) ? RuleKind::kNone : RuleKind::kNotCode, false, 0, 0};
  }
  return RuleOf(ip, *row);
}

}  // namespace

Rule FindRule(ThreadState* thread, uintptr_t ip, bool exact, CfiRow* row) {
  const Rule rule = LookUp(thread, ip, exact, row);
  if (!exact) RuleEntry(ip).store(rule.word(), std::memory_order_relaxed);
  return rule;
}

bool ResetRules(uint64_t generation) {
  constexpr size_t kBytes = kRuleEntries * sizeof(*rule_entries);
  if (rule_entries == nullptr) {
    rule_entries = static_cast<std::atomic<uint64_t>*>(os::Map(kBytes));
    if (rule_entries == nullptr) return false;
    os::Advise(rule_entries, kBytes, MADV_NOHUGEPAGE);
  } else {
    os::Advise(rule_entries, kBytes, MADV_DONTNEED);
  }
  rules_generation.store(generation, std::memory_order_relaxed);
  return true;
}

// Whoever sees the change first clears; the others may use an old rule for the blink of an eye, for code that no stack
// can contain any more.
void FollowGeneration(uint64_t generation) {
  uint64_t seen = rules_generation.load(std::memory_order_acquire);
  if (seen == generation || !rules_generation.compare_exchange_strong(seen, generation)) return;
  for (uint32_t i = 0; i < kRuleEntries; i++) {
    if (rule_entries[i].load(std::memory_order_relaxed) != 0) rule_entries[i].store(0, std::memory_order_relaxed);
  }
}

}  // namespace tidemark
