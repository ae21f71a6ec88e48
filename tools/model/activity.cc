// See activity.h.
#include "tools/model/activity.h"

#include <algorithm>
#include <tuple>

namespace tidemark {
namespace {

std::tuple<uint32_t, uint32_t, uint64_t> KeyOf(const ActivityCell& cell) { return {cell.row, cell.slice, cell.size}; }

void MergeSteps(ActivityCells* cells) {
  for (ActivityCell& cell : cells->all()) cell.slice = (cell.slice >> 2 << 1) | (cell.slice & 1);
  cells->Merge();
}

// Part i of n of the time between two moments, however far apart.
int64_t TimeAt(int64_t first_ns, int64_t last_ns, uint64_t i, uint64_t n) {
  const uint64_t span = static_cast<uint64_t>(last_ns) - static_cast<uint64_t>(first_ns);
  return static_cast<int64_t>(static_cast<uint64_t>(first_ns) + span / n * i + span % n * i / n);
}

}  // namespace

ActivityCell& ActivityCells::At(uint32_t row, uint32_t slice, uint64_t size) {
  if (row >= last_of_row_.size()) last_of_row_.resize(std::max<size_t>(row + 1, last_of_row_.size() * 2));
  uint32_t& last = last_of_row_[row];
  if (last != 0 && cells_[last - 1].slice == slice && cells_[last - 1].size == size) return cells_[last - 1];
  ActivityCell cell;
  cell.row = row;
  cell.slice = slice;
  cell.size = size;
  cells_.push_back(cell);
  last = static_cast<uint32_t>(cells_.size());
  return cells_.back();
}

void ActivityCells::Merge() {
  std::sort(cells_.begin(), cells_.end(),
            [](const ActivityCell& a, const ActivityCell& b) { return KeyOf(a) < KeyOf(b); });
  size_t kept = 0;
  for (size_t i = 0; i < cells_.size(); ++i) {
    if (kept != 0 && KeyOf(cells_[kept - 1]) == KeyOf(cells_[i])) {
      ActivityCell& sum = cells_[kept - 1];
      sum.allocated_bytes += cells_[i].allocated_bytes;
      sum.allocated_blocks += cells_[i].allocated_blocks;
      sum.released_bytes += cells_[i].released_bytes;
      sum.released_blocks += cells_[i].released_blocks;
      sum.temporary_bytes += cells_[i].temporary_bytes;
      sum.temporary_blocks += cells_[i].temporary_blocks;
    } else {
      cells_[kept++] = cells_[i];
    }
  }
  cells_.resize(kept);
  last_of_row_.clear();  // rows begin new cells from here on; the next Merge joins them
}

void ActivityCells::Renumber(const std::vector<uint32_t>& row_of) {
  for (ActivityCell& cell : cells_) cell.row = row_of[cell.row];
  Merge();
}

// Told by the model, in its order.
class ActivityObserver : public BlockObserver {
 public:
  ActivityObserver(Activity* activity, const TraceReader& reader, const HeapModel& model)
      : activity_(*activity),
        reader_(reader),
        sampled_(model.sampled()),
        sample_bytes_(model.sample_bytes()),
        peaks_left_(model.epoch()),
        most_cells_(std::max(Activity::kMostCells, 4 * (model.stacks().size() + model.threads().size()))) {}

  void SetStamps(std::vector<uint64_t> point_ends) { point_ends_ = std::move(point_ends); }

  void OnAllocate(const LiveBlock& block, bool new_peak) override {
    Advance(block.tsc);
    const double bytes = WeightedBytes(block.size);
    TimelinePoint& point = activity_.points_[point_];
    point.allocated += bytes;
    live_ += bytes;
    point.highest_live = std::max(point.highest_live, live_);
    ForEachRow(block, [&](ActivityCell& cell) {
      cell.allocated_bytes += block.size;
      ++cell.allocated_blocks;
    });
    if (new_peak && --peaks_left_ == 0) {
      behind_peak_ = 1;
      activity_.peak_step_ = point_ / (Activity::kPoints / activity_.steps_);
    }
  }

  void OnRelease(const LiveBlock& block, uint64_t tsc, bool temporary) override {
    Advance(tsc);
    const double bytes = WeightedBytes(block.size);
    activity_.points_[point_].released += bytes;
    live_ = std::max(0.0, live_ - bytes);
    ForEachRow(block, [&](ActivityCell& cell) {
      cell.released_bytes += block.size;
      ++cell.released_blocks;
      if (temporary) {
        cell.temporary_bytes += block.size;
        ++cell.temporary_blocks;
      }
    });
  }

  void OnMark(uint32_t, uint64_t tsc, const std::string& text) override {
    if (activity_.marks_.size() < Activity::kMostMarks) activity_.marks_.push_back({reader_.TimeNs(tsc), text});
  }

  void Finish() {
    for (; point_ + 1 < Activity::kPoints; NextPoint()) {
    }
    activity_.points_[point_].live = live_;
  }

 private:
  double WeightedBytes(uint64_t size) const {
    return sampled_ ? WeightOfSample(size, sample_bytes_).bytes : static_cast<double>(size);
  }

  void NextPoint() {
    activity_.points_[point_].live = live_;
    activity_.points_[++point_].highest_live = live_;
  }

  void Advance(uint64_t tsc) {
    while (point_ + 1 < Activity::kPoints && tsc >= point_ends_[point_]) NextPoint();
  }

  template <typename Count>
  void ForEachRow(const LiveBlock& block, Count count) {
    if (CellCount() >= most_cells_) MakeRoom();
    const uint32_t step = point_ / (Activity::kPoints / activity_.steps_);
    const uint32_t slice = 2 * step + behind_peak_;
    const uint64_t size = sampled_ ? block.size : 0;
    count(activity_.stacks_.At(block.stack, slice, size));
    count(activity_.threads_.At(block.thread, slice, size));
    if (!sampled_) count(activity_.sizes_.At(SizeBucketOf(block.size), slice, 0));
  }

  size_t CellCount() const { return activity_.stacks_.all().size() + activity_.threads_.all().size(); }

  void MakeRoom() {
    activity_.stacks_.Merge();
    activity_.threads_.Merge();
    activity_.sizes_.Merge();
    while (CellCount() > most_cells_ / 2 && activity_.steps_ > 1) {
      activity_.steps_ /= 2;
      activity_.peak_step_ /= 2;
      MergeSteps(&activity_.stacks_);
      MergeSteps(&activity_.threads_);
      MergeSteps(&activity_.sizes_);
    }
    // Samples of a million different sizes: room grows, for each of them is a number of the trace.
    if (CellCount() > most_cells_ / 2) most_cells_ *= 2;
  }

  Activity& activity_;
  const TraceReader& reader_;
  const bool sampled_;
  const uint64_t sample_bytes_;
  uint64_t peaks_left_;
  size_t most_cells_;
  std::vector<uint64_t> point_ends_;  // stamps
  uint32_t point_ = 0, behind_peak_ = 0;
  double live_ = 0;
};

Activity Activity::Build(TraceReader& reader, const HeapModel& model) {
  Activity activity;
  activity.points_.resize(kPoints);
  activity.first_ns_ = model.first_ns();
  activity.last_ns_ = std::max(model.last_ns(), model.first_ns());
  activity.peak_ns_ = model.peak_ns();
  ActivityObserver observer(&activity, reader, model);
  std::vector<uint64_t> ends;
  for (uint32_t i = 1; i <= kPoints; ++i) {
    ends.push_back(TickAt(reader, TimeAt(activity.first_ns_, activity.last_ns_, i, kPoints)));
  }
  observer.SetStamps(std::move(ends));
  HeapModel::Build(reader, &observer);
  observer.Finish();
  activity.stacks_.Merge();
  activity.threads_.Merge();
  activity.sizes_.Merge();
  activity.NumberSlices();
  return activity;
}

bool Activity::Coarsen() {
  if (steps_ <= 1) return false;
  for (ActivityCells* cells : {&stacks_, &threads_, &sizes_}) {
    for (ActivityCell& cell : cells->all()) {
      const uint32_t behind = cell.slice >= peak_slice_ ? 1 : 0;
      cell.slice = 2 * (cell.slice - behind) + behind;
    }
    MergeSteps(cells);
  }
  steps_ /= 2;
  peak_step_ /= 2;
  NumberSlices();
  return true;
}

void Activity::NumberSlices() {
  // Steps up to the peak's come first, then the rest of the peak's step, then the others.
  for (ActivityCells* cells : {&stacks_, &threads_, &sizes_}) {
    for (ActivityCell& cell : cells->all()) cell.slice = cell.slice / 2 + (cell.slice & 1);
  }
  peak_slice_ = peak_step_ + 1;
  bounds_ns_.clear();
  for (uint32_t i = 0; i <= steps_; ++i) {
    bounds_ns_.push_back(TimeAt(first_ns_, last_ns_, i, steps_));
    if (i == peak_step_) bounds_ns_.push_back(std::clamp(peak_ns_, bounds_ns_.back(), last_ns_));
  }
  for (size_t i = 1; i < bounds_ns_.size(); ++i) bounds_ns_[i] = std::max(bounds_ns_[i], bounds_ns_[i - 1]);
}

}  // namespace tidemark
