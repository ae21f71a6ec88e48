// The free lists that an allocator would keep, replayed from the events of one section: they tell which block will be
// handed out next.
//
// Allocators of segregated fits keep a list of free blocks a page, last in, first out. Replaying it tells the address
// of the next alloc in 75 to 98 % of the cases, which leaves it nearly no bytes in the trace (docs/trace-format.md,
// "Address", has the rules and "Measured" the numbers). Writer and reader run this same code: a prediction is right or
// wrong, but it is the same on both sides.
//
// The lists are links in a log of releases, so that no table of blocks is needed: it would be the largest and coldest
// memory of the collector. Must not: depend on anything but the calls since Start(); a section is decoded without any
// other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "profiler/numbering.h"
#include "profiler/trace_format.h"

namespace tidemark {

// Addresses are given and taken in units of 16 bytes.
class FreeLists {
 public:
  static constexpr uint32_t kNone = 0xffffffff;
  struct Prediction {
    uint64_t units;
    uint32_t page;  // kNone: not known
  };

  // `blocks`: how often blocks will be obtained and released at most.
  void Start(size_t blocks) {
    numbers_.Start();
    pages_.clear();
    if (log_capacity_ < blocks + 1) {
      log_capacity_ = blocks + 1;
      log_ = std::make_unique_for_overwrite<uint32_t[]>(log_capacity_);
    }
    log_[0] = 0;
    log_size_ = 1;
    last_.fill(Last{});
    last_obtained_ = 0;
  }

  // Where the next block of a size class is expected.
  Prediction Predict(uint32_t size_class) const {
    const Last& last = last_[size_class];
    if (last.page == kNone) return {last_obtained_, kNone};
    const Page& page = pages_[last.page];
    const uint32_t head = HeadOf(page);
    if (head != 0) return {numbers_[last.page].number << kPageUnitBits | OffsetOf(head), last.page};
    const uint64_t next = (last.units + BlockUnits(size_class)) & kAddressMask;
    return {next, (next ^ last.units) >> kPageUnitBits == 0 ? last.page : kNone};
  }
  // A block was obtained where it had been predicted, or elsewhere (`page`: kNone). Returns its page.
  uint32_t Obtain(uint64_t units, uint32_t size_class, uint32_t page_index) {
    if (page_index != kNone) [[likely]] {
      Page& page = pages_[page_index];
      Pop(&page, HeadOf(page));
    } else {
      page_index = PageOf(units);
      Search(&pages_[page_index], static_cast<uint32_t>(units) & kOffsetMask);
    }
    last_[size_class] = {units, page_index};
    last_obtained_ = units;
    return page_index;
  }
  void Release(uint64_t units, uint32_t page_index) {
    Page& page = pages_[page_index];
    log_[log_size_] = (static_cast<uint32_t>(units) & kOffsetMask) | page.freed << kPageUnitBits;
    page.freed = log_size_++;
  }
  uint32_t PageOf(uint64_t units) {
    const uint32_t page = numbers_.NumberOf({units >> kPageUnitBits});
    if (page == pages_.size()) pages_.push_back({0, 0});
    return page;
  }

 private:
  static constexpr uint32_t kOffsetMask = (1u << kPageUnitBits) - 1;
  static constexpr uint32_t kSearchDepth = 4;
  // Blocks that are handed out, and blocks that were released since then: the newest entry of each in the log, or 0.
  struct Page {
    uint32_t ready, freed;
  };
  struct PageNumber {
    uint64_t number;
    bool operator==(const PageNumber&) const = default;
    uint64_t Hash() const { return number * 0x9e3779b97f4a7c15; }
  };
  struct Last {
    uint64_t units = 0;
    uint32_t page = kNone;
  };

  uint32_t OffsetOf(uint32_t entry) const { return log_[entry] & kOffsetMask; }
  uint32_t NextOf(uint32_t entry) const { return log_[entry] >> kPageUnitBits; }
  static uint32_t HeadOf(const Page& page) { return page.ready != 0 ? page.ready : page.freed; }
  // Entry 0 leads to itself: a page without free blocks stays as it is.
  void Pop(Page* page, uint32_t entry) {
    page->freed = page->ready != 0 ? page->freed : 0;
    page->ready = NextOf(entry);
  }
  void Search(Page* page, uint32_t offset) {
    uint32_t entry = HeadOf(*page);
    for (uint32_t i = 0; i < kSearchDepth && entry != 0; i++, entry = NextOf(entry)) {
      if (OffsetOf(entry) == offset) return Pop(page, entry);
    }
    if (page->ready != 0 && page->freed != 0 && OffsetOf(page->freed) == offset) {
      page->ready = NextOf(page->freed);
      page->freed = 0;
    }
  }

  Numbering<PageNumber> numbers_;
  std::vector<Page> pages_;
  std::unique_ptr<uint32_t[]> log_;  // offset in the page | entry of the page that was released before << 12
  size_t log_capacity_ = 0;
  uint32_t log_size_ = 0;
  std::array<Last, kSizeClasses> last_{};
  uint64_t last_obtained_ = 0;
};

}  // namespace tidemark
