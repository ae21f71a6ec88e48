// Filling and emptying the rule cache; see rule_cache.h.
#include "profiler/rule_cache.h"

#include "profiler/module_map.h"
#include "profiler/module_publisher.h"
#include "profiler/os.h"
#include "profiler/own_memory.h"

namespace tidemark {

std::atomic<uint64_t>* rule_entries = nullptr;

namespace {

// Rules of older generations are no longer in the cache. Release by whoever has emptied it, acquire by whoever asks.
std::atomic<uint64_t> clean_generation{0};

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
  const uint64_t generation = LoaderGeneration();
  const Rule rule = LookUp(thread, ip, exact, row);
  if (exact) return rule;
  // The module may have been replaced meanwhile, and the cache emptied: then nobody else would take this rule out
  // again. Sequentially consistent, so that the generation is read after the rule can be seen.
  RuleEntry(ip).exchange(rule.word(), std::memory_order_seq_cst);
  if (LoaderGeneration() != generation) RuleEntry(ip).store(0, std::memory_order_relaxed);
  return rule;
}

bool ResetRules(uint64_t generation) {
  constexpr size_t kBytes = kRuleEntries * sizeof(*rule_entries);
  if (rule_entries == nullptr) {
    rule_entries = static_cast<std::atomic<uint64_t>*>(own_memory::Map(kBytes));
    if (rule_entries == nullptr) return false;
    os::Advise(rule_entries, kBytes, MADV_NOHUGEPAGE);
  } else {
    os::Advise(rule_entries, kBytes, MADV_DONTNEED);
  }
  clean_generation.store(generation, std::memory_order_release);
  return true;
}

// Everybody who comes before it is empty empties it: a thread that went on with what another one has not reached yet
// would use rules of a module that is gone for code of the one that has its place.
void FollowGeneration(uint64_t generation) {
  if (clean_generation.load(std::memory_order_acquire) == generation) return;
  for (uint32_t i = 0; i < kRuleEntries; i++) {
    if (rule_entries[i].load(std::memory_order_relaxed) != 0) rule_entries[i].store(0, std::memory_order_relaxed);
  }
  clean_generation.store(generation, std::memory_order_release);
}

}  // namespace tidemark
