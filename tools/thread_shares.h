// Which thread allocated how much by which stack: what the model adds up per stack and per thread, not added up.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tools/model/heap_model.h"

namespace tidemark {

class ThreadShares : private BlockObserver {
 public:
  struct Share {
    uint32_t stack = 0, thread = 0;  // indices of stacks() and threads() of the model
    Tally tally;
  };

  // Reads the trace once more.
  explicit ThreadShares(TraceReader& reader);
  // In the order of first allocations.
  const std::vector<Share>& all() const { return shares_; }
  uint64_t epoch() const { return epoch_; }  // for Tally::Peak

 private:
  Share& Of(const LiveBlock& block);
  const SampleWeight* WeightOf(const LiveBlock& block);
  void OnAllocate(const LiveBlock& block, bool new_peak) override;
  void OnRelease(const LiveBlock& block, uint64_t tsc, bool temporary) override;
  void OnMark(uint32_t, uint64_t, const std::string&) override {}

  bool sampled_;
  uint64_t sample_bytes_;
  SampleWeight weight_;
  uint64_t epoch_ = 0;
  std::vector<Share> shares_;
  std::unordered_map<uint64_t, size_t> index_;
};

}  // namespace tidemark
