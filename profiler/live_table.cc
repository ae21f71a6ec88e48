// The directory, its tables and their words; see live_table.h.
#include "profiler/live_table.h"

#include "profiler/os.h"
#include "profiler/own_memory.h"

namespace tidemark::live_table {

std::atomic<Entry*>* directory = nullptr;

namespace {

constexpr uint64_t kUnits = uint64_t{1} << (kAddressBits - kUnitBits);
constexpr size_t kDirectoryBytes = kUnits * sizeof(Entry*);  // NOLINT(bugprone-sizeof-expression): of pointers
constexpr size_t kTableBytes = kEntriesPerUnit * sizeof(Entry);
constexpr uint32_t kNodeBits = 28, kSizeShift = 28, kImageShift = 60;
constexpr uint64_t kNodeMask = (uint64_t{1} << kNodeBits) - 1;
constexpr uint32_t kImages = 15;

std::atomic<uint64_t> image{1};  // 1..15
std::atomic<bool> incomplete{false};
std::atomic<uint64_t> first_unit{kUnits}, last_unit{0};

uint64_t UnitOf(uintptr_t address) { return address >> kUnitBits; }
uint64_t IndexOf(uintptr_t address) { return address >> kGranuleBits & (kEntriesPerUnit - 1); }

// Several threads may come here for one unit: one table stays.
__attribute__((noinline)) Entry* MakeTable(uint64_t unit) {
  auto* made = static_cast<Entry*>(own_memory::Map(kTableBytes));
  if (made == nullptr) {
    incomplete.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  os::Advise(made, kTableBytes, MADV_NOHUGEPAGE);
  Entry* there = nullptr;
  // Release: whoever finds the table finds it empty, not what the memory held for somebody else's thread.
  if (!directory[unit].compare_exchange_strong(there, made, std::memory_order_acq_rel)) {
    own_memory::Unmap(made, kTableBytes);
    return there;
  }
  uint64_t seen = first_unit.load(std::memory_order_relaxed);
  while (unit < seen && !first_unit.compare_exchange_weak(seen, unit, std::memory_order_relaxed)) {
  }
  seen = last_unit.load(std::memory_order_relaxed);
  while (unit + 1 > seen && !last_unit.compare_exchange_weak(seen, unit + 1, std::memory_order_relaxed)) {
  }
  return made;
}

Entry* EntryOf(const void* block) {
  const auto address = reinterpret_cast<uintptr_t>(block);
  const uint64_t unit = UnitOf(address);
  if (unit >= kUnits) return nullptr;
  Entry* table = directory[unit].load(std::memory_order_acquire);
  return table == nullptr ? nullptr : &table[IndexOf(address)];
}

}  // namespace

bool Start() {
  auto* made = static_cast<std::atomic<Entry*>*>(own_memory::Map(kDirectoryBytes));
  if (made == nullptr) return false;
  os::Advise(made, kDirectoryBytes, MADV_NOHUGEPAGE);
  directory = made;
  return true;
}

void BeginImage() {
  const uint64_t before = image.load(std::memory_order_relaxed);
  image.store(before % kImages + 1, std::memory_order_relaxed);
}

bool IsIncomplete() { return incomplete.load(std::memory_order_relaxed); }

// Relaxed stores and loads of words: who looks at all of them has stopped the threads, or waited for them, which orders
// what they have done before it.
void EnterBlock(const void* block, uint32_t node, size_t size) {
  if (block == nullptr) return;
  Entry* entry = EntryOf(block);
  if (entry == nullptr) [[unlikely]] {
    const uint64_t unit = UnitOf(reinterpret_cast<uintptr_t>(block));
    Entry* table = unit >= kUnits ? nullptr : MakeTable(unit);
    if (table == nullptr) return;
    entry = &table[IndexOf(reinterpret_cast<uintptr_t>(block))];
  }
  const uint64_t stored_size = size < kLargestSize ? size : kLargestSize;
  entry->store((node & kNodeMask) | stored_size << kSizeShift | image.load(std::memory_order_relaxed) << kImageShift,
               std::memory_order_relaxed);
}

uint64_t WordOf(const void* block) {
  const Entry* entry = IsOn() ? EntryOf(block) : nullptr;
  return entry == nullptr ? 0 : entry->load(std::memory_order_relaxed);
}

uint64_t TakeBlock(const void* block) {
  Entry* entry = EntryOf(block);
  if (entry == nullptr) return 0;
  const uint64_t word = entry->load(std::memory_order_relaxed);
  entry->store(0, std::memory_order_relaxed);
  return word;
}

UnitRange UsedUnits() {
  const UnitRange range = {first_unit.load(std::memory_order_relaxed), last_unit.load(std::memory_order_relaxed)};
  return range.first < range.last ? range : UnitRange{0, 0};
}

Entry* TableOf(uint64_t unit) { return directory[unit].load(std::memory_order_acquire); }

LiveBlock Decode(uint64_t unit, uint64_t index, uint64_t word) {
  const bool inherited = word >> kImageShift != image.load(std::memory_order_relaxed);
  return {unit << kUnitBits | index << kGranuleBits, inherited ? 0 : static_cast<uint32_t>(word & kNodeMask),
          static_cast<uint32_t>(word >> kSizeShift), inherited};
}

}  // namespace tidemark::live_table
