// What the blocks of one events section have been through: where each was obtained, and which will be handed out next.
//
// Allocators of segregated fits keep a list of free blocks a page, last in, first out. Replaying the frees of a section
// tells the address of the next alloc in 75 to 98 % of the cases, which leaves it nearly no bytes in the trace
// (docs/trace-format.md, "Address", has the rules and "Measured" the numbers). Writer and reader run this same code:
// a prediction is right or wrong, but it is the same on both sides.
//
// Memory is taken once for the largest section and used again; pages that a section does not need are never touched.
// Must not: depend on anything but the calls since Start(); a section is decoded without any other.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "profiler/trace_format.h"

namespace tidemark {

// A table that is cleared by counting its epoch up.
template <typename Entry>
class EpochTable {
 public:
  // Room for `entries`; half of the slots stay free, so that every search ends.
  void Start(size_t entries) {
    const size_t slots = std::bit_ceil(2 * entries + 16);
    if (slots > capacity_ || ++epoch_ == 0) {
      // calloc: pages that nobody writes to cost nothing. So large a table is a mapping of its own.
      capacity_ = std::max(slots, capacity_);
      entries_.reset(static_cast<Entry*>(std::calloc(capacity_, sizeof(Entry))));
      if (entries_ == nullptr) throw std::bad_alloc();
      epoch_ = 1;
    }
    mask_ = slots - 1;
    shift_ = 64 - static_cast<uint32_t>(std::countr_zero(slots));
  }
  // The slot that `matches`, or the free one where it belongs. `key` is spread over the table in groups of
  // 1 << group_bits, so that neighbours share cache lines.
  template <typename Matches>
  uint32_t Find(uint64_t key, uint32_t group_bits, Matches matches) const {
    size_t slot = ((((key >> group_bits) * 0x9e3779b97f4a7c15) >> shift_) & ~((size_t{1} << group_bits) - 1)) |
                  (key & ((size_t{1} << group_bits) - 1));
    while (entries_.get()[slot].epoch == epoch_ && !matches(entries_.get()[slot])) slot = (slot + 1) & mask_;
    return static_cast<uint32_t>(slot);
  }
  bool IsFree(uint32_t slot) const { return entries_.get()[slot].epoch != epoch_; }
  uint32_t epoch() const { return epoch_; }
  Entry& operator[](uint32_t slot) { return entries_.get()[slot]; }
  const Entry& operator[](uint32_t slot) const { return entries_.get()[slot]; }

 private:
  struct Free {
    void operator()(Entry* entries) const { std::free(entries); }
  };
  std::unique_ptr<Entry, Free> entries_;
  size_t capacity_ = 0, mask_ = 0;
  uint32_t shift_ = 0, epoch_ = 0;
};

// Addresses are given and taken in units of 16 bytes.
class BlockHistory {
 public:
  struct Prediction {
    uint64_t units;
    uint32_t slot;  // of the block, when it has been seen in this section; else kNone
  };
  static constexpr uint32_t kNone = 0xffffffff;

  // `blocks`: different addresses at most.
  void Start(size_t blocks) {
    blocks_.Start(blocks);
    pages_.Start(blocks);
    last_.fill(Last{});
    last_obtained_ = 0;
  }

  // Where the next block of a size class is expected.
  Prediction Predict(uint32_t size_class) const {
    const Last& last = last_[size_class];
    if (last.page == kNone) return {last_obtained_, kNone};
    const Page& page = pages_[last.page];
    const uint32_t slot = page.ready != kNone ? page.ready : page.freed;
    if (slot != kNone) return {blocks_[slot].units, slot};
    return {(last.units + BlockUnits(size_class)) & kAddressMask, kNone};
  }

  // `slot`: what Predict said when it was right, or kNone. `ordinal`: of the event among those that obtain.
  void Obtain(uint64_t units, uint32_t size_class, uint32_t ordinal, uint32_t slot) {
    if (slot == kNone) slot = SlotOf(units);
    Block& block = blocks_[slot];
    Page& page = pages_[block.page];
    if (block.next != kLive) {
      page.ready = block.next;
      if (page.freed == slot) page.freed = kNone;
      block.next = kLive;
    } else if (page.ready == slot) {
      page.ready = kNone;
    }
    block.ordinal = ordinal;
    last_[size_class] = {units, block.page};
    last_obtained_ = units;
  }
  // The event that obtained the block, kNone when that is not in this section.
  uint32_t Release(uint64_t units) {
    const uint32_t slot = SlotOf(units);
    Block& block = blocks_[slot];
    Page& page = pages_[block.page];
    block.next = page.freed;
    page.freed = slot;
    return block.ordinal;
  }
  // A realloc that left the block where it is: now obtained by event `ordinal`, before by the one returned.
  uint32_t ObtainAgain(uint64_t units, uint32_t ordinal) {
    Block& block = blocks_[SlotOf(units)];
    const uint32_t before = block.ordinal;
    block.ordinal = ordinal;
    return before;
  }

 private:
  static constexpr uint32_t kLive = 0xfffffffe;  // Block::next of a block that is on no list
  struct Block {
    uint64_t units;
    uint32_t epoch;
    uint32_t ordinal;
    uint32_t next;  // the block that was released before it in its page, kNone, or kLive
    uint32_t page;
  };
  // A list of blocks that are handed out, and one of those that were released since it was last empty.
  struct Page {
    uint64_t number;
    uint32_t epoch;
    uint32_t ready, freed;
  };
  struct Last {
    uint64_t units = 0;
    uint32_t page = kNone;
  };

  uint32_t SlotOf(uint64_t units) {
    const uint32_t slot = blocks_.Find(units, 2, [units](const Block& block) { return block.units == units; });
    if (blocks_.IsFree(slot)) blocks_[slot] = {units, blocks_.epoch(), kNone, kLive, PageOf(units)};
    return slot;
  }
  uint32_t PageOf(uint64_t units) {
    const uint64_t number = units >> kPageUnitBits;
    const uint32_t slot = pages_.Find(number, 0, [number](const Page& page) { return page.number == number; });
    if (pages_.IsFree(slot)) pages_[slot] = {number, pages_.epoch(), kNone, kNone};
    return slot;
  }

  EpochTable<Block> blocks_;
  EpochTable<Page> pages_;
  std::array<Last, kSizeClasses> last_{};
  uint64_t last_obtained_ = 0;
};

}  // namespace tidemark
