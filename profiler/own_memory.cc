// A table of ranges; see own_memory.h.
#include "profiler/own_memory.h"

#include <atomic>

namespace tidemark::own_memory {
namespace {

struct Slot {
  std::atomic<uint64_t> start, bytes;  // start 0: free; 1: taken, not yet filled in
};

// Mapped when it is wanted: half a mebibyte of variables would be charged to every process with little memory.
Slot* slots = nullptr;
std::atomic<uint32_t> used{0};  // slots[used] and beyond have never been taken
std::atomic<bool> remembers{false}, incomplete{false};
constexpr uint64_t kFree = 0, kFilling = 1;

}  // namespace

void Start() {
  if (remembers.load(std::memory_order_relaxed)) return;
  slots = static_cast<Slot*>(os::Map(kMaxRanges * sizeof(Slot)));
  if (slots == nullptr) {
    incomplete.store(true, std::memory_order_relaxed);
    return;
  }
  remembers.store(true, std::memory_order_release);
  Remember(slots, kMaxRanges * sizeof(Slot));
}

void Remember(const void* memory, size_t bytes) {
  if (!remembers.load(std::memory_order_relaxed)) return;
  const auto fill = [memory, bytes](Slot& slot) {
    uint64_t expected = kFree;
    if (!slot.start.compare_exchange_strong(expected, kFilling, std::memory_order_relaxed)) return false;
    slot.bytes.store(bytes, std::memory_order_relaxed);
    // Release: with Ranges()'s acquire, a start is seen with its length.
    slot.start.store(reinterpret_cast<uint64_t>(memory), std::memory_order_release);
    return true;
  };
  // The first few may be free again; searching all of them would cost a thousand threads that start.
  constexpr uint32_t kSearched = 64;
  const uint32_t count = used.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count && i < kSearched; i++) {
    if (slots[i].start.load(std::memory_order_relaxed) == kFree && fill(slots[i])) return;
  }
  for (;;) {
    const uint32_t mine = used.fetch_add(1, std::memory_order_relaxed);
    if (mine >= kMaxRanges) break;
    if (fill(slots[mine])) return;  // else somebody has searched and found it
  }
  used.store(kMaxRanges, std::memory_order_relaxed);
  incomplete.store(true, std::memory_order_relaxed);
}

void Forget(const void* memory) {
  if (!remembers.load(std::memory_order_relaxed)) return;
  const uint32_t count = used.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count && i < kMaxRanges; i++) {
    if (slots[i].start.load(std::memory_order_relaxed) != reinterpret_cast<uint64_t>(memory)) continue;
    slots[i].start.store(kFree, std::memory_order_relaxed);
    return;
  }
}

void* Map(size_t bytes, int protection) {
  void* memory = os::Map(bytes, protection);
  if (memory != nullptr) Remember(memory, bytes);
  return memory;
}

// Forgotten first: somebody else may get the addresses as soon as they are free.
void Unmap(void* memory, size_t bytes) {
  Forget(memory);
  os::Unmap(memory, bytes);
}

bool IsIncomplete() { return incomplete.load(std::memory_order_relaxed); }

size_t Ranges(Range* out, size_t capacity) {
  if (!remembers.load(std::memory_order_acquire)) return 0;
  const uint32_t count = used.load(std::memory_order_relaxed);
  size_t found = 0;
  for (uint32_t i = 0; i < count && i < kMaxRanges && found < capacity; i++) {
    const uint64_t start = slots[i].start.load(std::memory_order_acquire);
    if (start > kFilling) out[found++] = {start, start + slots[i].bytes.load(std::memory_order_relaxed)};
  }
  return found;
}

}  // namespace tidemark::own_memory
