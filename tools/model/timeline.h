// The heap over time: what was allocated and released in each of some hundred equal slots, and what was live.
//
// The length of a run is not known beforehand: when there are kMostSlots slots, neighbours are merged and the width
// doubles. Memory is constant, and sums over slots stay exact.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tidemark {

struct TimelineSlot {
  double allocated_bytes = 0, released_bytes = 0;
  double allocated_blocks = 0, released_blocks = 0;
  double live_end = 0, live_max = 0;  // bytes
};

class Timeline {
 public:
  static constexpr size_t kMostSlots = 512;

  void Begin(uint64_t tsc, double live_bytes) {
    first_tsc_ = last_tsc_ = tsc;
    live_ = live_bytes;
    slots_.assign(1, TimelineSlot{});
    slots_[0].live_end = slots_[0].live_max = live_bytes;
    slot_end_ = first_tsc_ + (uint64_t{1} << shift_);
  }
  // Stamps may step back; time does not.
  void Allocate(uint64_t tsc, double bytes, double blocks) {
    MoveTo(tsc);
    TimelineSlot& slot = slots_.back();
    slot.allocated_bytes += bytes;
    slot.allocated_blocks += blocks;
    live_ += bytes;
    slot.live_end = live_;
    slot.live_max = std::max(slot.live_max, live_);
  }
  void Release(uint64_t tsc, double bytes, double blocks) {
    MoveTo(tsc);
    TimelineSlot& slot = slots_.back();
    slot.released_bytes += bytes;
    slot.released_blocks += blocks;
    live_ = std::max(0.0, live_ - bytes);
    slot.live_end = live_;
  }
  void MoveTo(uint64_t tsc) {
    if (tsc <= last_tsc_) return;
    live_byte_ticks_ += live_ * static_cast<double>(tsc - last_tsc_);
    last_tsc_ = tsc;
    if (tsc >= slot_end_) OpenSlots(tsc);
  }

  const std::vector<TimelineSlot>& slots() const { return slots_; }
  uint64_t StartOf(size_t slot) const { return first_tsc_ + (static_cast<uint64_t>(slot) << shift_); }
  uint64_t first_tsc() const { return first_tsc_; }
  uint64_t last_tsc() const { return last_tsc_; }
  // The integral of live bytes over time so far.
  double live_byte_ticks() const { return live_byte_ticks_; }

 private:
  void OpenSlots(uint64_t tsc);

  std::vector<TimelineSlot> slots_;
  uint64_t first_tsc_ = 0, last_tsc_ = 0, slot_end_ = 0;
  uint32_t shift_ = 12;
  double live_ = 0, live_byte_ticks_ = 0;
};

}  // namespace tidemark
