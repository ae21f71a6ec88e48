// See live_series.h.
#include "tools/model/live_series.h"

#include <cstddef>

namespace tidemark {

// Keeps the points whose number is odd: those at multiples of the doubled step.
void LiveSeries::DropEveryOther() {
  std::vector<SeriesPoint> kept;
  for (size_t i = 1; i < points_.size(); i += 2) kept.push_back(points_[i]);
  points_ = std::move(kept);
  for (Stack& stack : stacks_) {
    std::vector<Note> notes;
    uint32_t covered = 0;
    for (const Note& note : stack.notes) {
      const uint32_t until = note.until / 2;  // points 1, 3, 5 ... below `until`
      if (until == covered) continue;
      notes.push_back({until, note.value});
      covered = until;
    }
    stack.notes = std::move(notes);
    stack.points_noted = covered;
  }
}

void LiveSeries::AddPoints(uint64_t clock, uint64_t tsc, double live_bytes) {
  while (next_clock_ <= clock) {
    if (points_.size() == kMostPoints) {
      DropEveryOther();
      if (step_ >> 62 != 0) {  // an invented trace: no clock goes on from here
        next_clock_ = UINT64_MAX;
        return;
      }
      step_ *= 2;
      next_clock_ = step_ * (points_.size() + 1);
      continue;
    }
    points_.push_back({next_clock_, tsc, live_bytes});
    next_clock_ += step_;
  }
}

std::vector<SeriesValue> LiveSeries::Of(uint32_t stack, const SeriesValue& now) const {
  std::vector<SeriesValue> values;
  values.reserve(points_.size());
  if (stack < stacks_.size()) {
    for (const Note& note : stacks_[stack].notes) {
      while (values.size() < note.until && values.size() < points_.size()) values.push_back(note.value);
    }
  }
  values.resize(points_.size(), now);
  return values;
}

}  // namespace tidemark
