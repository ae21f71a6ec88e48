// Live bytes of every stack at equally spaced points of the allocation clock: what verdicts on growth are made from.
//
// A program that idles allocates nothing, so points in time would show its idleness; points every so many bytes show
// its work. How many bytes is not known beforehand: when there are kMostPoints points, every other one is dropped and
// the distance doubles. So there are at least kMostPoints / 2, half way through any long run.
//
// Nothing is copied at a point. A stack notes what it was when it changes for the first time after one, for all points
// since it last did: memory is proportional to changes, at most kMostPoints notes a stack.
#pragma once

#include <cstdint>
#include <vector>

namespace tidemark {

struct SeriesPoint {
  uint64_t clock = 0;  // bytes allocated by then, since the window began
  uint64_t tsc = 0;
  double live_bytes = 0;  // of the whole process
};

// A stack at a point; estimates in sampled mode.
struct SeriesValue {
  double live_bytes = 0;
  double allocated_bytes = 0;  // since the window began; minus live + live then: what it has released
};

class LiveSeries {
 public:
  static constexpr uint32_t kMostPoints = 48;

  // Before the clock reaches `clock`; live_bytes: of the process until now.
  void Advance(uint64_t clock, uint64_t tsc, double live_bytes) {
    if (clock >= next_clock_) AddPoints(clock, tsc, live_bytes);
  }
  // Before the stack's numbers change; stacks are numbered from 0, densely.
  void BeforeChange(uint32_t stack, double live_bytes, double allocated_bytes) {
    if (stack >= stacks_.size()) stacks_.resize(stack + 1);
    Stack& it = stacks_[stack];
    if (it.points_noted == points_.size()) return;
    it.notes.push_back({static_cast<uint32_t>(points_.size()), {live_bytes, allocated_bytes}});
    it.points_noted = static_cast<uint32_t>(points_.size());
  }

  const std::vector<SeriesPoint>& points() const { return points_; }
  // One value a point. `now`: the stack as it is at the end, which holds for the points after its last change.
  std::vector<SeriesValue> Of(uint32_t stack, const SeriesValue& now) const;

 private:
  struct Note {
    uint32_t until = 0;  // holds for the points below this one that no earlier note holds for
    SeriesValue value;
  };
  struct Stack {
    uint32_t points_noted = 0;
    std::vector<Note> notes;
  };
  void AddPoints(uint64_t clock, uint64_t tsc, double live_bytes);
  void DropEveryOther();

  uint64_t step_ = 4096, next_clock_ = 4096;
  std::vector<SeriesPoint> points_;
  std::vector<Stack> stacks_;
};

}  // namespace tidemark
