// See page_occupancy.h.
#include "tools/model/page_occupancy.h"

#include <algorithm>

namespace tidemark {
namespace {

constexpr uint64_t kPageBytes = PageOccupancy::kPageBytes;
constexpr uint64_t kAddressLimit = uint64_t{1} << 48;

struct PageSpan {
  uint64_t first, last;
};
PageSpan SpanOf(const LiveBlock& block) {
  const uint64_t size = std::clamp<uint64_t>(block.size, 1, kAddressLimit);
  return {block.address / kPageBytes, (block.address + size - 1) / kPageBytes};
}

}  // namespace

void PageOccupancy::ChangePage(uint64_t page, int by) {
  const uint64_t unit = page >> kUnitPageBits;
  if (unit != last_unit_ || last_ == nullptr) {
    auto found = units_.find(unit);
    if (found == units_.end()) {
      if (units_.size() >= kMostUnits) {
        complete_ = false;
        return;
      }
      found = units_.try_emplace(unit).first;
    }
    last_unit_ = unit;
    last_ = &found->second;
  }
  uint16_t& blocks = (*last_)[page & ((1u << kUnitPageBits) - 1)];
  if (by > 0) {
    if (blocks++ == 0) ++used_pages_;
  } else if (blocks != 0 && --blocks == 0) {
    --used_pages_;
  }
}

void PageOccupancy::Change(const LiveBlock& block, int by) {
  if (!complete_) return;
  const PageSpan span = SpanOf(block);
  ChangePage(span.first, by);
  if (span.last == span.first) return;
  ChangePage(span.last, by);
  const uint64_t inside = span.last - span.first - 1;
  used_pages_ = by > 0 ? used_pages_ + inside : used_pages_ - std::min(used_pages_, inside);
}

SparsePages FindSparsePages(const LiveSet& live, size_t stack_count) {
  SparsePages found;
  found.pinned_bytes.resize(stack_count);
  std::unordered_map<uint64_t, uint32_t> live_bytes;  // of pages that a block shares, or may share
  auto for_edges = [](const LiveBlock& block, auto visit) {
    const PageSpan span = SpanOf(block);
    const uint64_t end = block.address + std::clamp<uint64_t>(block.size, 1, kAddressLimit);
    visit(span.first, std::min(end, (span.first + 1) * kPageBytes) - block.address);
    if (span.last != span.first) visit(span.last, end - span.last * kPageBytes);
  };
  live.ForEach([&](const LiveBlock& block) {
    const PageSpan span = SpanOf(block);
    if (span.last > span.first + 1) {
      found.pages += span.last - span.first - 1;
      found.by_quarter[3] += span.last - span.first - 1;
    }
    for_edges(block, [&](uint64_t page, uint64_t bytes) { live_bytes[page] += static_cast<uint32_t>(bytes); });
  });
  for (const auto& [page, bytes] : live_bytes) {
    ++found.pages;
    ++found.by_quarter[std::min<uint64_t>(3, (bytes - 1) / (kPageBytes / 4))];
    if (bytes < SparsePages::kSparseBytes) ++found.sparse_pages;
  }
  live.ForEach([&](const LiveBlock& block) {
    if (block.stack >= stack_count) return;
    for_edges(block, [&](uint64_t page, uint64_t bytes) {
      const uint32_t on_page = live_bytes[page];
      if (on_page == 0 || on_page >= SparsePages::kSparseBytes) return;  // 0: overlapping blocks of a damaged trace
      found.pinned_bytes[block.stack] +=
          static_cast<double>(kPageBytes - on_page) * static_cast<double>(bytes) / static_cast<double>(on_page);
    });
  });
  return found;
}

}  // namespace tidemark
