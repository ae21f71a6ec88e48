// The running numbers of one group of blocks: a stack, a thread, a size class, the whole process.
//
// The composition at the peak is kept without copying anything when a maximum is reached: `Epoch` counts the maxima,
// and a tally saves its live numbers the first time it changes after one (copy on write). At the end the saved numbers
// are those at the last maximum, or the tally has not changed since and its live numbers are. Cost: one compare per
// change.
//
// Full mode uses the integers only; sampled mode keeps the unseen part and its variance beside them (estimator.h).
#pragma once

#include <cstdint>
#include <memory>

#include "tools/model/estimator.h"

namespace tidemark {

// Bytes and blocks together.
struct Usage {
  Amount bytes, blocks;
  Usage& operator+=(const Usage& other) {
    bytes += other.bytes;
    blocks += other.blocks;
    return *this;
  }
};

class Tally {
 public:
  // `epoch`: number of maxima so far; see above.
  void Allocate(uint64_t bytes, const SampleWeight* weight, uint64_t epoch) {
    SavePeak(epoch);
    allocated_bytes_ += bytes;
    ++allocated_blocks_;
    live_bytes_ += bytes;
    ++live_blocks_;
    if (weight != nullptr) AddWeight(*weight);
  }
  void Release(uint64_t bytes, const SampleWeight* weight, bool temporary, uint64_t epoch) {
    SavePeak(epoch);
    live_bytes_ -= bytes;
    --live_blocks_;
    if (temporary) {
      temporary_bytes_ += bytes;
      ++temporary_blocks_;
    }
    if (weight != nullptr) RemoveWeight(*weight);
  }

  // From here on only what comes is counted as allocated or temporary; what is alive stays alive.
  void BeginWindow();

  Usage Allocated() const;
  Usage Live() const;
  Usage Peak(uint64_t epoch) const;  // at the process's peak; `epoch` as it stands at the end
  Usage Temporary() const { return {{temporary_bytes_, 0, 0, 0}, {temporary_blocks_, 0, 0, 0}}; }
  double live_value() const;  // bytes

 private:
  struct Unseen {
    double bytes = 0, bytes_variance = 0, blocks = 0, blocks_variance = 0;
  };
  struct Weighted {
    Unseen allocated, live, peak;
    double heaviest_bytes = 0, heaviest_blocks = 0;
  };

  void SavePeak(uint64_t epoch) {
    if (epoch_ == epoch) return;
    epoch_ = epoch;
    peak_bytes_ = live_bytes_;
    peak_blocks_ = live_blocks_;
    if (weighted_) weighted_->peak = weighted_->live;
  }
  void AddWeight(const SampleWeight& weight);
  void RemoveWeight(const SampleWeight& weight);
  Usage Make(uint64_t bytes, uint64_t blocks, Unseen Weighted::*unseen) const;

  uint64_t epoch_ = 0;
  uint64_t live_bytes_ = 0, live_blocks_ = 0;
  uint64_t peak_bytes_ = 0, peak_blocks_ = 0;
  uint64_t allocated_bytes_ = 0, allocated_blocks_ = 0;
  uint64_t temporary_bytes_ = 0, temporary_blocks_ = 0;
  std::unique_ptr<Weighted> weighted_;
};

}  // namespace tidemark
