// Overlapping address ranges flattened into disjoint ones: every address has the one deepest owner.
//
// Why: functions nest in units, inlined calls nest in functions, symbols overlap. Asking a tree per address costs
// a walk each time (590x in a measured libdw case); one sweep at build time makes every question a binary search.
// Untrusted input: any set of ranges is fine (overlapping, empty, reversed); building is O(n log n), memory O(n).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <vector>

namespace tidemark {

class IntervalTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // [low, high) belongs to `value`; where ranges overlap the greater `depth` wins, then the later Add.
  void Add(uint64_t low, uint64_t high, uint32_t depth, uint32_t value) {
    if (low < high) ranges_.push_back({low, high, depth, static_cast<uint32_t>(ranges_.size()), value});
  }

  // Call once after the last Add.
  void Build() {
    std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.low < b.low; });
    const auto shallower = [](const Range& a, const Range& b) {
      return a.depth != b.depth ? a.depth < b.depth : a.order < b.order;
    };
    std::priority_queue<Range, std::vector<Range>, decltype(shallower)> active(shallower);
    size_t next = 0;
    uint64_t position = 0;
    // Each round either takes in a range or retires one, or ends at a boundary of one: at most 2n pieces.
    while (next < ranges_.size() || !active.empty()) {
      if (active.empty()) position = std::max(position, ranges_[next].low);
      while (next < ranges_.size() && ranges_[next].low <= position) active.push(ranges_[next++]);
      while (!active.empty() && active.top().high <= position) active.pop();
      if (active.empty()) continue;
      uint64_t end = active.top().high;
      if (next < ranges_.size()) end = std::min(end, ranges_[next].low);
      const uint32_t value = active.top().value;
      if (!pieces_.empty() && pieces_.back().high == position && pieces_.back().value == value) {
        pieces_.back().high = end;
      } else {
        pieces_.push_back({position, end, value});
      }
      position = end;
    }
    ranges_ = {};
    pieces_.shrink_to_fit();
  }

  uint32_t Find(uint64_t address) const {
    auto after = std::upper_bound(pieces_.begin(), pieces_.end(), address,
                                  [](uint64_t value, const Piece& piece) { return value < piece.low; });
    if (after == pieces_.begin()) return kNone;
    const Piece& piece = *(after - 1);
    return address < piece.high ? piece.value : kNone;
  }

  size_t size() const { return pieces_.size(); }

 private:
  struct Range {
    uint64_t low, high;
    uint32_t depth, order, value;
  };
  struct Piece {
    uint64_t low, high;
    uint32_t value;
  };
  std::vector<Range> ranges_;
  std::vector<Piece> pieces_;
};

}  // namespace tidemark
