// The two tables; see leak_annotations.h.
#include "profiler/leak_annotations.h"

#include "profiler/own_memory.h"

namespace tidemark::leak_annotations {

std::atomic<Ignored*> ignored{nullptr};
Root roots[kMaxRoots];

namespace {

std::atomic<uint32_t> ignored_count{0};
constexpr uint64_t kFree = 0, kChanging = 1;

Ignored* Table() {
  Ignored* table = ignored.load(std::memory_order_acquire);
  if (table != nullptr) return table;
  constexpr size_t kBytes = kMaxIgnored * sizeof(Ignored);
  auto* fresh = static_cast<Ignored*>(own_memory::Map(kBytes));
  if (fresh == nullptr || ignored.compare_exchange_strong(table, fresh)) return fresh;
  own_memory::Unmap(fresh, kBytes);  // another thread was faster
  return table;
}

}  // namespace

bool Ignore(uint64_t address, uint64_t word) {
  Ignored* const table = Table();
  if (table == nullptr) return false;
  if (ignored_count.load(std::memory_order_relaxed) >= kMaxIgnored) return false;
  const uint32_t index = ignored_count.fetch_add(1, std::memory_order_relaxed);
  if (index >= kMaxIgnored) return false;
  table[index].word.store(word, std::memory_order_relaxed);
  table[index].address.store(address, std::memory_order_release);
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
