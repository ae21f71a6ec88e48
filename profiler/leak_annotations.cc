// The two tables; see leak_annotations.h.
#include "profiler/leak_annotations.h"

namespace tidemark::leak_annotations {

Ignored ignored[kMaxIgnored];
Root roots[kMaxRoots];

namespace {

std::atomic<uint32_t> ignored_count{0};
constexpr uint64_t kFree = 0, kChanging = 1;

}  // namespace

bool Ignore(uint64_t address, uint64_t word) {
  if (ignored_count.load(std::memory_order_relaxed) >= kMaxIgnored) return false;
  const uint32_t index = ignored_count.fetch_add(1, std::memory_order_relaxed);
  if (index >= kMaxIgnored) return false;
  ignored[index].word.store(word, std::memory_order_relaxed);
  ignored[index].address.store(address, std::memory_order_release);
  return true;
}

bool AddRoot(uint64_t start, uint64_t bytes) {
  if (start <= kChanging || bytes == 0 || start + bytes < start) return false;
  for (Root& root : roots) {
    uint64_t expected = kFree;
    if (!root.start.compare_exchange_strong(expected, kChanging, std::memory_order_acquire)) continue;
    root.bytes.store(bytes, std::memory_order_relaxed);
    root.start.store(start, std::memory_order_release);
    return true;
  }
  return false;
}

bool RemoveRoot(uint64_t start, uint64_t bytes) {
  for (Root& root : roots) {
    uint64_t expected = start;
    if (start <= kChanging || root.bytes.load(std::memory_order_relaxed) != bytes) continue;
    if (root.start.compare_exchange_strong(expected, kFree, std::memory_order_relaxed)) return true;
  }
  return false;
}

}  // namespace tidemark::leak_annotations
