// Leak checks for the program's own use (include/tidemark.h).
//
// Context: any thread, also in signal handlers.
#include "profiler/include/tidemark.h"
#include "profiler/leak_annotations.h"
#include "profiler/leak_check.h"
#include "profiler/live_table.h"
#include "profiler/reachability.h"

#define TIDEMARK_EXPORT __attribute__((visibility("default")))

namespace tidemark {
namespace {

// Pointers of the caller that a function keeps for it: where they are not in the registers any more, our own frame has
// them.
constexpr uint32_t kKept = 6;
inline __attribute__((always_inline)) void ReadKept(uint64_t* out) {
  asm volatile(
      "movq %%rbx, 0(%0)\n movq %%rbp, 8(%0)\n movq %%r12, 16(%0)\n"
      "movq %%r13, 24(%0)\n movq %%r14, 32(%0)\n movq %%r15, 40(%0)"
      :
      : "r"(out)
      : "memory");
}

inline __attribute__((always_inline)) uintptr_t StackPointer() {
  uintptr_t sp;
  asm volatile("movq %%rsp, %0" : "=r"(sp));
  return sp;
}

}  // namespace

extern "C" {

TIDEMARK_EXPORT int tidemark_leak_check(struct tidemark_leak_counts* counts) {
  uint64_t kept[kKept];
  ReadKept(kept);
  leak_check::Counts found = {};
  leak_check::Manner manner;
  manner.counts = &found;
  const bool looked = leak_check::Run(LeakTrigger::kApi, {StackPointer(), kept, kKept}, manner);
  if (counts == nullptr) return looked ? 1 : 0;
  *counts = tidemark_leak_counts{};
  if (!looked || !found.whole) return 0;
  const auto sum = [&found](LeakClass leak_class) { return found.of[static_cast<uint32_t>(leak_class)]; };
  counts->definite_blocks = sum(LeakClass::kDefinitelyLost).blocks;
  counts->definite_bytes = sum(LeakClass::kDefinitelyLost).bytes;
  counts->indirect_blocks = sum(LeakClass::kIndirectlyLost).blocks;
  counts->indirect_bytes = sum(LeakClass::kIndirectlyLost).bytes;
  counts->possible_blocks = sum(LeakClass::kPossiblyLost).blocks;
  counts->possible_bytes = sum(LeakClass::kPossiblyLost).bytes;
  counts->reachable_blocks = sum(LeakClass::kReachable).blocks;
  counts->reachable_bytes = sum(LeakClass::kReachable).bytes;
  counts->threads_not_stopped = found.threads_not_stopped;
  return 1;
}

TIDEMARK_EXPORT int tidemark_ignore_leak(const void* block) {
  if (block == nullptr || !leak_check::IsOn()) return 0;
  return leak_annotations::Ignore(reinterpret_cast<uintptr_t>(block), live_table::WordOf(block)) ? 1 : 0;
}

TIDEMARK_EXPORT int tidemark_register_root(const void* start, size_t bytes) {
  return leak_check::IsOn() && leak_annotations::AddRoot(reinterpret_cast<uintptr_t>(start), bytes) ? 1 : 0;
}

TIDEMARK_EXPORT int tidemark_unregister_root(const void* start, size_t bytes) {
  return leak_annotations::RemoveRoot(reinterpret_cast<uintptr_t>(start), bytes) ? 1 : 0;
}

}  // extern "C"
}  // namespace tidemark
