// See tally.h: the sampled side, which is off the hot path of full traces.
#include "tools/model/tally.h"

#include <algorithm>

namespace tidemark {

void Tally::AddWeight(const SampleWeight& weight) {
  if (!weighted_) weighted_ = std::make_unique<Weighted>();
  for (Unseen* sum : {&weighted_->allocated, &weighted_->live}) {
    sum->bytes += weight.unseen_bytes;
    sum->bytes_variance += weight.bytes_variance;
    sum->blocks += weight.unseen_blocks;
    sum->blocks_variance += weight.blocks_variance;
  }
  weighted_->heaviest_bytes = std::max(weighted_->heaviest_bytes, weight.bytes);
  weighted_->heaviest_blocks = std::max(weighted_->heaviest_blocks, weight.blocks);
}

void Tally::RemoveWeight(const SampleWeight& weight) {
  if (!weighted_) return;
  Unseen& live = weighted_->live;
  // Nothing alive is exactly nothing: rounding must not leave a fraction of a byte behind.
  if (live_blocks_ == 0) {
    live = {};
    return;
  }
  live.bytes = std::max(0.0, live.bytes - weight.unseen_bytes);
  live.bytes_variance = std::max(0.0, live.bytes_variance - weight.bytes_variance);
  live.blocks = std::max(0.0, live.blocks - weight.unseen_blocks);
  live.blocks_variance = std::max(0.0, live.blocks_variance - weight.blocks_variance);
}

Usage Tally::Make(uint64_t bytes, uint64_t blocks, Unseen Weighted::*unseen) const {
  Usage usage;
  usage.bytes.seen = bytes;
  usage.blocks.seen = blocks;
  if (weighted_ && blocks != 0) {
    const Unseen& sum = (*weighted_).*unseen;
    usage.bytes = {bytes, sum.bytes, sum.bytes_variance, weighted_->heaviest_bytes};
    usage.blocks = {blocks, sum.blocks, sum.blocks_variance, weighted_->heaviest_blocks};
  }
  return usage;
}

void Tally::BeginWindow() {
  allocated_bytes_ = allocated_blocks_ = temporary_bytes_ = temporary_blocks_ = 0;
  if (weighted_) weighted_->allocated = {};
}

Usage Tally::Allocated() const { return Make(allocated_bytes_, allocated_blocks_, &Weighted::allocated); }
Usage Tally::Live() const { return Make(live_bytes_, live_blocks_, &Weighted::live); }
Usage Tally::Peak(uint64_t epoch) const {
  if (epoch == 0) return {};  // nothing was ever allocated
  return epoch_ == epoch ? Make(peak_bytes_, peak_blocks_, &Weighted::peak) : Live();
}
double Tally::live_value() const {
  return static_cast<double>(live_bytes_) + (weighted_ ? weighted_->live.bytes : 0.0);
}

}  // namespace tidemark
