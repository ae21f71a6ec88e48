// Numbers for the different values of a section, 0, 1, 2... in the order in which they first occur.
//
// A section has few values and asks for them again and again, so a small cache stands before the table: what it says is
// believed when the value is indeed the one, so it needs no clearing. `Value` has == and a Hash() with good high bits.
// Must not: keep numbers over a Start().
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tidemark {

template <typename Value>
class Numbering {
 public:
  void Start() {
    values_.clear();
    if (slots_.empty()) slots_.resize(kFirstSlots);
    if (++epoch_ == 0) {
      std::fill(slots_.begin(), slots_.end(), Slot{});
      epoch_ = 1;
    }
  }
  size_t size() const { return values_.size(); }
  const Value& operator[](uint32_t number) const { return values_[number]; }

  uint32_t NumberOf(const Value& value) {
    const uint64_t hash = value.Hash();
    uint32_t& cached = cache_[hash >> (64 - kCacheBits)];
    if (cached < values_.size() && values_[cached] == value) [[likely]]
      return cached;
    return cached = Search(value, hash);
  }

 private:
  static constexpr uint32_t kCacheBits = 10;
  static constexpr size_t kFirstSlots = 4096;
  struct Slot {
    uint32_t epoch = 0;
    uint32_t number = 0;
  };

  uint32_t Search(const Value& value, uint64_t hash) {
    Slot& slot = slots_[SlotOf(value, hash)];
    if (slot.epoch == epoch_) return slot.number;
    const uint32_t number = static_cast<uint32_t>(values_.size());
    slot = {epoch_, number};
    values_.push_back(value);
    if (values_.size() * 2 > slots_.size()) Grow();
    return number;
  }
  size_t SlotOf(const Value& value, uint64_t hash) const {
    const size_t mask = slots_.size() - 1;
    size_t at = hash >> (64 - std::countr_zero(slots_.size()));
    while (slots_[at].epoch == epoch_ && !(values_[slots_[at].number] == value)) at = (at + 1) & mask;
    return at;
  }
  void Grow() {
    slots_.assign(slots_.size() * 2, Slot{});
    for (uint32_t number = 0; number < values_.size(); number++) {
      slots_[SlotOf(values_[number], values_[number].Hash())] = {epoch_, number};
    }
  }

  std::vector<Value> values_;
  std::array<uint32_t, size_t{1} << kCacheBits> cache_{};
  std::vector<Slot> slots_;  // open addressing; half of them stay free
  uint32_t epoch_ = 0;
};

}  // namespace tidemark
