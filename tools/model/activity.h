// When it happened: allocations and releases per slice of time and stack, thread and size class. Every metric over any
// window is a sum of these cells, so that a view can be narrowed without reading the trace again.
//
// A second pass of the model itself (BlockObserver), so that the sums over all slices are its numbers. Full traces
// are summed up in bytes and blocks; sampled ones are kept as samples by size, because what a sample stands for, and
// how surely, follows from its size alone (estimator.h). One cut more than the slices goes through the very moment of
// the peak: the cells before it add up to the composition at the peak.
//
// Memory is bounded: when there are more than kMostCells (or a few per stack), slices are merged in pairs, and again.
// Must not: know names or how the cells are written down.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tools/model/heap_model.h"

namespace tidemark {

// What one row (a stack, a thread, a size class) did in one slice. Sampled: with blocks of one size only.
struct ActivityCell {
  uint32_t row = 0;
  uint32_t slice = 0;
  uint64_t size = 0;  // sampled: charged bytes of each block; 0 in full mode
  uint64_t allocated_bytes = 0, allocated_blocks = 0;
  uint64_t released_bytes = 0, released_blocks = 0;
  uint64_t temporary_bytes = 0, temporary_blocks = 0;
};

// Cells of one kind of rows. After Merge they are ordered by row, slice, size, and none is there twice.
class ActivityCells {
 public:
  ActivityCell& At(uint32_t row, uint32_t slice, uint64_t size);
  void Merge();
  // Gives row i the number `row_of[i]`; rows with one number become one.
  void Renumber(const std::vector<uint32_t>& row_of);
  const std::vector<ActivityCell>& all() const { return cells_; }
  std::vector<ActivityCell>& all() { return cells_; }

 private:
  std::vector<ActivityCell> cells_;
  std::vector<uint32_t> last_of_row_;  // index of its youngest cell + 1
};

// One step of the curve, finer than the slices. Bytes; estimates when sampled.
struct TimelinePoint {
  double live = 0;          // at its end
  double highest_live = 0;  // in it
  double allocated = 0, released = 0;
};

struct TimelineMark {
  int64_t time_ns = 0;
  std::string text;
};

class Activity {
 public:
  static constexpr size_t kMostCells = 1 << 20, kMostMarks = 1000;
  static constexpr uint32_t kPoints = 1024, kMostSlices = 256;

  // `model`: of the same trace.
  static Activity Build(TraceReader& reader, const HeapModel& model);

  const ActivityCells& stacks() const { return stacks_; }    // rows: HeapModel::stacks()
  const ActivityCells& threads() const { return threads_; }  // rows: HeapModel::threads()
  // Rows: size buckets. Empty when sampled: the cells of the stacks have the sizes.
  const ActivityCells& sizes() const { return sizes_; }
  const std::vector<TimelinePoint>& points() const { return points_; }
  const std::vector<TimelineMark>& marks() const { return marks_; }
  // Slice i lasts from bounds_ns()[i] to bounds_ns()[i + 1].
  const std::vector<int64_t>& bounds_ns() const { return bounds_ns_; }
  // What slices 0 to peak_slice() - 1 did adds up to the peak.
  uint32_t peak_slice() const { return peak_slice_; }
  // Half as many slices; false when there is nothing left to merge.
  bool Coarsen();

 private:
  friend class ActivityObserver;
  void NumberSlices();

  // While counting, a slice is 2 * (number by time) + (1 behind the peak); NumberSlices makes them dense.
  uint32_t steps_ = kMostSlices;  // by time
  uint32_t peak_step_ = 0;
  int64_t first_ns_ = 0, last_ns_ = 0, peak_ns_ = 0;
  ActivityCells stacks_, threads_, sizes_;
  std::vector<TimelinePoint> points_;
  std::vector<TimelineMark> marks_;
  std::vector<int64_t> bounds_ns_;
  uint32_t peak_slice_ = 0;
};

}  // namespace tidemark
