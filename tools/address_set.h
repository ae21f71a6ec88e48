// A set of addresses: open addressing with 8 bytes an entry, at most three quarters full.
//
// Linear probing with backward-shift deletion: no tombstones, so that millions of short-lived blocks never degrade it.
// Address 0 marks an empty slot and is never in the set. Must not: shrink, it serves one pass over a trace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tidemark {

class AddressSet {
 public:
  bool Contains(uint64_t address) const { return address != 0 && slots_[Find(address)] == address; }
  void Insert(uint64_t address) {
    const size_t slot = Find(address);
    if (address == 0 || slots_[slot] == address) return;
    slots_[slot] = address;
    if (++used_ * 4 > slots_.size() * 3) Grow();
  }
  void Erase(uint64_t address) {
    const size_t mask = slots_.size() - 1;
    size_t hole = Find(address);
    if (address == 0 || slots_[hole] != address) return;
    for (size_t next = (hole + 1) & mask; slots_[next] != 0; next = (next + 1) & mask) {
      // May `next` move into the hole? Only when its home is not between them (cyclically).
      if (((next - HomeOf(slots_[next])) & mask) >= ((next - hole) & mask)) {
        slots_[hole] = slots_[next];
        hole = next;
      }
    }
    slots_[hole] = 0;
    --used_;
  }

 private:
  size_t HomeOf(uint64_t address) const { return static_cast<size_t>((address * 0x9e3779b97f4a7c15) >> shift_); }
  // Its slot, or the empty slot where it would go.
  size_t Find(uint64_t address) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = HomeOf(address);
    while (slots_[slot] != 0 && slots_[slot] != address) slot = (slot + 1) & mask;
    return slot;
  }
  void Grow() {
    std::vector<uint64_t> old(slots_.size() * 2);
    old.swap(slots_);
    --shift_;
    for (uint64_t address : old) {
      if (address != 0) slots_[Find(address)] = address;
    }
  }

  static constexpr uint32_t kFirstLog2 = 12;
  std::vector<uint64_t> slots_ = std::vector<uint64_t>(size_t{1} << kFirstLog2);
  uint32_t shift_ = 64 - kFirstLog2;
  size_t used_ = 0;
};

}  // namespace tidemark
