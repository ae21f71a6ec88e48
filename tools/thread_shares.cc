// See thread_shares.h.
#include "tools/thread_shares.h"

namespace tidemark {

ThreadShares::ThreadShares(TraceReader& reader)
    : sampled_(reader.mode() == Mode::kSampled), sample_bytes_(reader.sample_bytes()) {
  HeapModel::Build(reader, this);
}

ThreadShares::Share& ThreadShares::Of(const LiveBlock& block) {
  const uint64_t key = uint64_t{block.stack} << 32 | block.thread;
  const auto [found, added] = index_.try_emplace(key, shares_.size());
  if (added) {
    Share share;
    share.stack = block.stack;
    share.thread = block.thread;
    shares_.push_back(std::move(share));
  }
  return shares_[found->second];
}

const SampleWeight* ThreadShares::WeightOf(const LiveBlock& block) {
  if (!sampled_) return nullptr;
  weight_ = WeightOfSample(block.size, sample_bytes_);
  return &weight_;
}

void ThreadShares::OnAllocate(const LiveBlock& block, bool new_peak) {
  Of(block).tally.Allocate(block.size, WeightOf(block), epoch_);
  if (new_peak) ++epoch_;
}

void ThreadShares::OnRelease(const LiveBlock& block, uint64_t, bool temporary) {
  Of(block).tally.Release(block.size, WeightOf(block), temporary, epoch_);
}

}  // namespace tidemark
