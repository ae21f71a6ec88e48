// Which 4 KiB pages hold something alive: what the allocator cannot give back, whatever it does.
//
// Complete traces know every block's address, so this is counted, not guessed: per page the number of live blocks that
// touch it. Pages inside of a large block belong to it alone and are only added up. At the end it tells who sits on
// pages that are nearly empty.
// Must not: take memory in proportion to the addresses a damaged trace invents (kMostUnits), know the allocator.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tools/model/live_set.h"

namespace tidemark {

class PageOccupancy {
 public:
  static constexpr uint64_t kPageBytes = 4096;
  void Add(const LiveBlock& block) { Change(block, 1); }
  void Remove(const LiveBlock& block) { Change(block, -1); }
  uint64_t used_bytes() const { return used_pages_ * kPageBytes; }
  // False: the addresses lie so far apart that counting was given up.
  bool complete() const { return complete_; }

 private:
  static constexpr uint32_t kUnitPageBits = 8;  // 1 MiB
  static constexpr size_t kMostUnits = size_t{1} << 18;
  using Unit = std::array<uint16_t, 1u << kUnitPageBits>;  // a page has room for 256 blocks
  void Change(const LiveBlock& block, int by);
  void ChangePage(uint64_t page, int by);

  std::unordered_map<uint64_t, Unit> units_;
  uint64_t last_unit_ = UINT64_MAX;
  Unit* last_ = nullptr;
  uint64_t used_pages_ = 0;
  bool complete_ = true;
};

// The pages of a live set by how full they are, and who is on those that are nearly empty.
struct SparsePages {
  static constexpr uint64_t kSparseBytes = PageOccupancy::kPageBytes / 4;  // fewer live bytes than this: sparse
  uint64_t pages = 0, sparse_pages = 0;
  std::array<uint64_t, 4> by_quarter{};  // pages with up to 1/4, 2/4, 3/4 and 4/4 of them alive
  // [stack]: free bytes of sparse pages; a page's are divided among its blocks by their bytes.
  std::vector<double> pinned_bytes;
};
SparsePages FindSparsePages(const LiveSet& live, size_t stack_count);

}  // namespace tidemark
