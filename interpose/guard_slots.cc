// The pages and their states; see guard_slots.h.
#include "interpose/guard_slots.h"

#include <sys/mman.h>

#include <atomic>

#include "profiler/os.h"

namespace tidemark::guard {
namespace {

// Who moves a state: kNever, kReleased -> (any thread, CAS) kOpening -> kLive -> (any thread, CAS) kClosing ->
// kReleased.
enum State : uint32_t { kNever = 0, kLive = 1, kReleased = 2, kOpening = 3, kClosing = 4 };

struct Stack {
  StackOfThread stack;
  uint32_t image;
};
struct Slot {
  std::atomic<uint32_t> state;  // release when the fields below are set; acquire by whoever reads them
  uint32_t size;
  uintptr_t block;
  Stack allocated, released;
};

constexpr unsigned char kFiller = 0xa7;  // in the page beside the block; neither zero, text, nor a small number

uintptr_t zone_start = 0;
constinit Slot slots[kSlots] = {};
constinit std::atomic<bool> opened[2 * kSlots + 1] = {};  // pages that were made accessible by Open()
std::atomic<uint32_t> next_slot{0};
std::atomic<bool> given_up{false};

uintptr_t PageOf(uint32_t slot) { return zone_start + (2 * size_t{slot} + 1) * kPageBytes; }
uint32_t PageNumber(uintptr_t address) { return static_cast<uint32_t>((address - zone_start) / kPageBytes); }
bool SetAccess(uintptr_t page, size_t bytes, int protection) {
  return !os::IsError(os::Protect(reinterpret_cast<void*>(page), bytes, protection));
}

// The slot in whose page the address lies; nullptr: between slots.
Slot* SlotAt(uintptr_t address) {
  const uint32_t page = PageNumber(address);
  return page % 2 == 1 && page / 2 < kSlots ? &slots[page / 2] : nullptr;
}
Slot* LiveSlot(const void* block) {
  Slot* slot = SlotAt(reinterpret_cast<uintptr_t>(block));
  if (slot == nullptr || slot->state.load(std::memory_order_acquire) != kLive) return nullptr;
  return slot->block == reinterpret_cast<uintptr_t>(block) ? slot : nullptr;
}

// Pages beside a slot that is about to be used, which an earlier error has opened, are closed again; unless the block
// on their other side is the one that the program may still go over.
void CloseBeside(uint32_t slot) {
  const auto close = [](uint32_t page, const Slot* other_side) {
    if (other_side != nullptr && other_side->state.load(std::memory_order_acquire) == kLive) return;
    if (opened[page].exchange(false, std::memory_order_acq_rel))
      SetAccess(zone_start + page * kPageBytes, kPageBytes, PROT_NONE);
  };
  close(2 * slot, slot > 0 ? &slots[slot - 1] : nullptr);
  close(2 * slot + 2, slot + 1 < kSlots ? &slots[slot + 1] : nullptr);
}

void Describe(const Slot& slot, HeapError error, uintptr_t address, GuardReport* report) {
  report->error = error;
  report->block = slot.block;
  report->size = slot.size;
  report->offset = static_cast<int64_t>(address - slot.block);
  report->allocated = slot.allocated.stack;
  report->released = {};
  if (error == HeapError::kDoubleFree || error == HeapError::kUseAfterFree) report->released = slot.released.stack;
}

}  // namespace

void Start(uintptr_t zone) { zone_start = zone; }

bool Contains(const void* address) { return reinterpret_cast<uintptr_t>(address) - zone_start < kZoneBytes; }

void* Allocate(size_t size) {
  if (given_up.load(std::memory_order_relaxed)) return nullptr;
  const uint32_t start = next_slot.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t i = 0; i < kSlots; i++) {
    const uint32_t number = (start + i) % kSlots;
    Slot& slot = slots[number];
    uint32_t state = slot.state.load(std::memory_order_relaxed);
    if (state != kNever && state != kReleased) continue;
    if (!slot.state.compare_exchange_strong(state, kOpening, std::memory_order_acquire)) continue;
    const uintptr_t page = PageOf(number);
    if (!SetAccess(page, kPageBytes, PROT_READ | PROT_WRITE)) {
      slot.state.store(state, std::memory_order_release);
      return nullptr;
    }
    CloseBeside(number);
    const bool at_the_end = (start & 1) == 0;
    slot.size = static_cast<uint32_t>(size);
    slot.block = at_the_end ? page + kPageBytes - ((size + 15) & ~size_t{15}) : page;
    slot.allocated = slot.released = {};
    void* block = reinterpret_cast<void*>(slot.block);
    __builtin_memset(reinterpret_cast<void*>(page), kFiller, kPageBytes);
    __builtin_memset(block, 0, size);
    slot.state.store(kLive, std::memory_order_release);
    return block;
  }
  return nullptr;
}

size_t LiveSize(const void* block) {
  const Slot* slot = LiveSlot(block);
  return slot == nullptr ? 0 : slot->size;
}

void SetAllocation(const void* block, const StackOfThread& stack, uint32_t image) {
  if (Slot* slot = LiveSlot(block)) slot->allocated = {stack, image};
}

bool FindDamage(const void* block, GuardReport* report) {
  const Slot* slot = LiveSlot(block);
  if (slot == nullptr) return false;
  const uintptr_t page = slot->block & ~(kPageBytes - 1);
  // The nearest changed byte tells most: behind the block first, then before it, each from the block outwards.
  for (uintptr_t at = slot->block + slot->size; at < page + kPageBytes; at++) {
    if (*reinterpret_cast<const volatile unsigned char*>(at) == kFiller) continue;
    Describe(*slot, HeapError::kOverflow, at, report);
    return true;
  }
  for (uintptr_t at = slot->block; at-- > page;) {
    if (*reinterpret_cast<const volatile unsigned char*>(at) == kFiller) continue;
    Describe(*slot, HeapError::kUnderflow, at, report);
    return true;
  }
  return false;
}

bool Release(void* block, const StackOfThread& stack, uint32_t image) {
  Slot* slot = LiveSlot(block);
  uint32_t live = kLive;
  if (slot == nullptr || !slot->state.compare_exchange_strong(live, kClosing, std::memory_order_acq_rel)) return false;
  slot->released = {stack, image};
  const uintptr_t page = slot->block & ~(kPageBytes - 1);
  opened[PageNumber(page)].store(false, std::memory_order_relaxed);
  // What the block held stays: a program that is let go on after a use of it shall see what it would have seen.
  if (!given_up.load(std::memory_order_seq_cst)) {
    SetAccess(page, kPageBytes, PROT_NONE);
    // GiveUp() on another thread may have come before the line above.
    if (given_up.load(std::memory_order_seq_cst)) SetAccess(page, kPageBytes, PROT_READ | PROT_WRITE);
  }
  slot->state.store(kReleased, std::memory_order_release);
  return true;
}

void ExamineRelease(const void* pointer, GuardReport* report) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  const Slot* slot = SlotAt(address);
  if (slot == nullptr) {  // between slots: the one in front is as good as the one behind
    const uint32_t page = PageNumber(address);
    slot = &slots[page / 2 < kSlots ? page / 2 : kSlots - 1];
  }
  const uint32_t state = slot->state.load(std::memory_order_acquire);
  const bool ended = state == kReleased || state == kClosing;
  Describe(*slot, ended && slot->block == address ? HeapError::kDoubleFree : HeapError::kInvalidFree, address, report);
}

Fault ExamineFault(uintptr_t address, GuardReport* report) {
  const uint32_t page = PageNumber(address);
  if (const Slot* slot = SlotAt(address)) {
    const uint32_t state = slot->state.load(std::memory_order_acquire);
    if (state == kLive) return Fault::kPassed;
    if (slot->block == 0) return Fault::kForeign;
    if (opened[page].exchange(true, std::memory_order_acq_rel)) return Fault::kPassed;
    Describe(*slot, HeapError::kUseAfterFree, address, report);
    return Fault::kError;
  }
  // Between two slots: it belongs to the block that is nearer, if that one is in use; else to the other.
  const Slot* before = page > 0 ? &slots[page / 2 - 1] : nullptr;
  const Slot* behind = page / 2 < kSlots ? &slots[page / 2] : nullptr;
  constexpr uint64_t kNowhere = ~uint64_t{0};
  const auto distance = [address](const Slot* slot) -> uint64_t {
    if (slot == nullptr || slot->state.load(std::memory_order_acquire) == kNever) return kNowhere;
    const uint64_t gap = slot->block > address ? slot->block - address : address - (slot->block + slot->size) + 1;
    const bool in_use = slot->state.load(std::memory_order_acquire) == kLive;
    return in_use ? gap : gap + kZoneBytes;
  };
  const uint64_t after_one = distance(before), before_one = distance(behind);
  if (after_one == kNowhere && before_one == kNowhere) return Fault::kForeign;
  if (opened[page].exchange(true, std::memory_order_acq_rel)) return Fault::kPassed;
  const bool overflow = after_one <= before_one;
  Describe(overflow ? *before : *behind, overflow ? HeapError::kOverflow : HeapError::kUnderflow, address, report);
  return Fault::kError;
}

void Open(uintptr_t address) { SetAccess(address & ~(kPageBytes - 1), kPageBytes, PROT_READ | PROT_WRITE); }

void GiveUp() {
  given_up.store(true, std::memory_order_seq_cst);
  SetAccess(zone_start, kZoneBytes, PROT_READ | PROT_WRITE);
}

void ForgetStacksOfOthers(uint32_t image, GuardReport* report) {
  const Slot* slot = SlotAt(report->block);
  if (slot == nullptr) return;
  if (slot->allocated.image != image) report->allocated = {};
  if (slot->released.image != image) report->released = {};
}

}  // namespace tidemark::guard
