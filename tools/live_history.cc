// See live_history.h.
#include "tools/live_history.h"

#include <algorithm>

#include "tools/elapsed_time.h"

namespace tidemark {
namespace {

class Sampler : public BlockObserver {
 public:
  Sampler(TraceReader& reader, const HeapModel& model, size_t points)
      : reader_(reader), model_(model), span_ns_(ElapsedNs(model.first_ns(), model.last_ns())) {
    step_ns_ = std::max<int64_t>(1, span_ns_ / static_cast<int64_t>(std::max<size_t>(points, 1)));
    next_ns_ = step_ns_;
    points_.push_back({0, 0, 0, false});
  }

  void OnAllocate(const LiveBlock& block, bool new_peak) override {
    PassTime(block.tsc);
    Count(block, 1);
    if (!new_peak) return;
    peak_ = {std::max(TimeOf(block.tsc), points_.back().time_ns), bytes_, blocks_, true};
    peak_position_ = points_.size();
  }
  void OnRelease(const LiveBlock& block, uint64_t tsc, bool) override {
    PassTime(tsc);
    Count(block, -1);
  }
  void OnMark(uint32_t, uint64_t, const std::string&) override {}

  std::vector<LivePoint> Finish() {
    points_.push_back({std::max(span_ns_, points_.back().time_ns), bytes_, blocks_, false});
    if (peak_.peak) points_.insert(points_.begin() + static_cast<ptrdiff_t>(peak_position_), peak_);
    return std::move(points_);
  }

 private:
  int64_t TimeOf(uint64_t tsc) const { return ElapsedNs(model_.first_ns(), reader_.TimeNs(tsc)); }
  void PassTime(uint64_t tsc) {
    const int64_t now = TimeOf(tsc);
    if (now < next_ns_ || now > span_ns_) return;
    // Nothing happened at the points in between; one of them is enough for the step to be seen where it is.
    const int64_t passed = next_ns_ + (now - next_ns_) / step_ns_ * step_ns_;
    points_.push_back({passed, bytes_, blocks_, false});
    next_ns_ = passed + step_ns_;
  }
  void Count(const LiveBlock& block, double sign) {
    SampleWeight weight;
    weight.bytes = static_cast<double>(block.size), weight.blocks = 1;
    if (model_.sampled()) weight = WeightOfSample(block.size, model_.sample_bytes());
    bytes_ = std::max(bytes_ + sign * weight.bytes, 0.0);  // sums of estimates do not come back to 0 exactly
    blocks_ = std::max(blocks_ + sign * weight.blocks, 0.0);
  }

  TraceReader& reader_;
  const HeapModel& model_;
  int64_t span_ns_, step_ns_ = 1, next_ns_ = 0;
  double bytes_ = 0, blocks_ = 0;
  LivePoint peak_;
  size_t peak_position_ = 0;
  std::vector<LivePoint> points_;
};

}  // namespace

std::vector<LivePoint> LiveHistory(TraceReader& reader, const HeapModel& model, size_t points) {
  Sampler sampler(reader, model, points);
  HeapModel::Build(reader, &sampler);
  return sampler.Finish();
}

}  // namespace tidemark
