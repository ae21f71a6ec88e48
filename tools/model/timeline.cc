// See timeline.h.
#include "tools/model/timeline.h"

namespace tidemark {

void Timeline::OpenSlots(uint64_t tsc) {
  const uint64_t offset = tsc - first_tsc_;
  while (offset >> shift_ >= kMostSlots) {
    std::vector<TimelineSlot> merged;
    for (size_t i = 0; i < slots_.size(); i += 2) {
      TimelineSlot slot = slots_[i];
      if (i + 1 < slots_.size()) {
        const TimelineSlot& next = slots_[i + 1];
        slot.allocated_bytes += next.allocated_bytes;
        slot.released_bytes += next.released_bytes;
        slot.allocated_blocks += next.allocated_blocks;
        slot.released_blocks += next.released_blocks;
        slot.live_end = next.live_end;
        slot.live_max = std::max(slot.live_max, next.live_max);
      }
      merged.push_back(slot);
    }
    slots_ = std::move(merged);
    ++shift_;
  }
  TimelineSlot still;
  still.live_end = still.live_max = live_;
  slots_.resize((offset >> shift_) + 1, still);
  const uint64_t width = uint64_t{1} << shift_, start = StartOf(slots_.size() - 1);
  slot_end_ = start > UINT64_MAX - width ? UINT64_MAX : start + width;
}

}  // namespace tidemark
