// See heap_history.h.
#include "tools/model/heap_history.h"

#include <algorithm>
#include <bit>

#include "tools/model/rounding.h"

namespace tidemark {
namespace {

uint64_t AgeBetween(uint64_t born, uint64_t now) { return now > born ? now - born : 0; }

double BytesOf(const LiveBlock& block, const SampleWeight* weight) {
  return weight != nullptr ? weight->bytes : static_cast<double>(block.size);
}
double BlocksOf(const SampleWeight* weight) { return weight != nullptr ? weight->blocks : 1.0; }
double UsableOf(const LiveBlock& block, const SampleWeight* weight) {
  const auto usable = static_cast<double>(UsableBytes(block.size));
  return weight != nullptr ? usable * weight->blocks : usable;
}

}  // namespace

double StackFate::DiedBefore(size_t nursery) const {
  double sum = 0;
  for (size_t i = 0; i <= nursery; ++i) sum += died_by_age[i];
  return sum;
}

HeapHistory::HeapHistory(const TraceReader& reader)
    : full_(reader.mode() == Mode::kFull), sample_bytes_(reader.sample_bytes()) {
  instants_.resize(reader.memory().size());
  for (const TraceMemory& sample : reader.memory()) {
    const auto ns = static_cast<int64_t>(sample.monotonic_ns - reader.origin_monotonic_ns());
    instant_tscs_.push_back(TickAt(reader, ns));
  }
}

void HeapHistory::TakeInstants(uint64_t tsc) {
  while (next_instant_ < instant_tscs_.size() && instant_tscs_[next_instant_] <= tsc) {
    instants_[next_instant_++] = {true, live_, usable_, pages_.used_bytes()};
  }
}

StackFate& HeapHistory::FateOf(uint32_t stack) {
  if (stack >= fates_.size()) fates_.resize(stack + 1);
  return fates_[stack];
}

const SampleWeight* HeapHistory::WeightOf(const LiveBlock& block) {
  if (full_) return nullptr;
  weight_ = WeightOfSample(block.size, sample_bytes_);
  return &weight_;
}

void HeapHistory::OnBegin(const LiveSet& live, uint64_t tsc, uint64_t clock) {
  begin_clock_ = clock_ = clock;
  begin_tsc_ = tsc;
  // Samples from before the first event see an empty heap; those from before the window are not told.
  while (next_instant_ < instant_tscs_.size() && instant_tscs_[next_instant_] < tsc) {
    instants_[next_instant_++].known = live.size() == 0 && clock == 0;
  }
  live.ForEach([&](const LiveBlock& block) {
    const SampleWeight* weight = WeightOf(block);
    ages_by_clock_.Enter(AgeBetween(block.born, clock), block.size, weight);
    ages_by_time_.Enter(AgeBetween(block.tsc, tsc), block.size, weight);
    live_ += BytesOf(block, weight);
    usable_ += UsableOf(block, weight);
    FateOf(block.stack).live_bytes += BytesOf(block, weight);
    if (full_) pages_.Add(block);
  });
  live_at_begin_ = peak_ = live_;
  usable_at_peak_ = usable_;
  used_at_peak_ = pages_.used_bytes();
  timeline_.Begin(tsc, live_);
}

void HeapHistory::OnAllocate(const LiveBlock& block, bool /*new_peak*/) {
  TakeInstants(block.tsc);
  const SampleWeight* weight = WeightOf(block);
  const double bytes = BytesOf(block, weight), blocks = BlocksOf(weight);
  StackFate& fate = FateOf(block.stack);
  series_.Advance(block.born - begin_clock_, block.tsc, live_);
  series_.BeforeChange(block.stack, fate.live_bytes, fate.allocated_bytes);
  live_byte_bytes_ += live_ * static_cast<double>(block.born - clock_);
  clock_ = block.born;
  timeline_.Allocate(block.tsc, bytes, blocks);
  allocated_.Add(bytes, blocks);
  fate.allocated_bytes += bytes;
  fate.live_bytes += bytes;
  live_ += bytes;
  usable_ += UsableOf(block, weight);
  ages_by_clock_.Enter(0, block.size, weight);
  ages_by_time_.Enter(0, block.size, weight);
  if (full_) pages_.Add(block);
  if (live_ >= peak_) {
    peak_ = live_;
    usable_at_peak_ = usable_;
    used_at_peak_ = pages_.used_bytes();
  }
  if (takes_over_) {
    takes_over_ = false;
    ++fate.reallocs;
    fate.copied_bytes += taken_over_.copied;
    open_chains_[block.address] = taken_over_.steps;
  }
}

void HeapHistory::OnDeath(const LiveBlock& block, const Death& death) {
  TakeInstants(death.tsc);
  const SampleWeight* weight = WeightOf(block);
  const double bytes = BytesOf(block, weight), blocks = BlocksOf(weight);
  StackFate& fate = FateOf(block.stack);
  series_.BeforeChange(block.stack, fate.live_bytes, fate.allocated_bytes);
  timeline_.Release(death.tsc, bytes, blocks);
  released_.Add(bytes, blocks);
  if (death.is_realloc) by_realloc_.Add(bytes, blocks);
  fate.live_bytes = std::max(0.0, fate.live_bytes - bytes);
  live_ = std::max(0.0, live_ - bytes);
  usable_ = std::max(0.0, usable_ - UsableOf(block, weight));
  if (full_) pages_.Remove(block);

  const uint64_t age = AgeBetween(block.born, clock_), ticks = AgeBetween(block.tsc, death.tsc);
  ages_by_clock_.Die(age, block.size, weight);
  ages_by_time_.Die(ticks, block.size, weight);
  // What fell into the window, for Little's law.
  residence_bytes_ += bytes * static_cast<double>(AgeBetween(std::max(block.born, begin_clock_), clock_));
  residence_ticks_ += bytes * static_cast<double>(AgeBetween(std::max(block.tsc, begin_tsc_), death.tsc));
  const auto nursery = std::upper_bound(kNurseryBytes.begin(), kNurseryBytes.end(), age);
  fate.died_by_age[static_cast<size_t>(nursery - kNurseryBytes.begin())] += bytes;
  fate.residence_byte_ticks += bytes * static_cast<double>(ticks);
  fate.died.Add(bytes, blocks);
  if (!death.implied && death.thread != block.thread) {
    fate.cross_thread.Add(bytes, blocks);
    cross_thread_.Add(bytes, blocks);
    const uint64_t key = uint64_t{block.thread} << 32 | death.thread;
    auto pair = pairs_.find(key);
    if (pair == pairs_.end() && pairs_.size() < kMostPairs) pair = pairs_.try_emplace(key).first;
    if (pair != pairs_.end()) pair->second.Add(bytes, blocks);
  }
  if (!open_chains_.empty() && !death.is_realloc) {
    if (auto chain = open_chains_.find(block.address); chain != open_chains_.end()) {
      EndChain(chain->second);
      open_chains_.erase(chain);
    }
  }
}

void HeapHistory::OnRealloc(const LiveBlock& old, uint64_t new_size, bool moved) {
  if (!full_) return;
  taken_over_ = {1, moved ? std::min(old.size, new_size) : 0};
  if (auto open = open_chains_.find(old.address); open != open_chains_.end()) {
    taken_over_.steps += open->second;
    open_chains_.erase(open);
  }
  chains_.copied_bytes += taken_over_.copied;
  takes_over_ = true;
}

void HeapHistory::EndChain(uint64_t steps) {
  ++chains_.chains;
  chains_.steps += steps;
  chains_.longest = std::max(chains_.longest, steps);
  const auto log2 = static_cast<size_t>(std::bit_width(steps)) - 1;
  ++chains_.by_log2_length[std::min(log2, ReallocChains::kLengths - 1)];
}

void HeapHistory::OnEnd(const LiveSet& live, uint64_t tsc, uint64_t clock) {
  TakeInstants(tsc);
  timeline_.MoveTo(tsc);
  window_clock_ = clock - begin_clock_;
  live.ForEach([&](const LiveBlock& block) {
    const SampleWeight* weight = WeightOf(block);
    const double bytes = BytesOf(block, weight);
    const uint64_t age = AgeBetween(block.born, clock), ticks = AgeBetween(block.tsc, tsc);
    ages_by_clock_.Censor(age, block.size, weight);
    ages_by_time_.Censor(ticks, block.size, weight);
    residence_bytes_ += bytes * static_cast<double>(AgeBetween(std::max(block.born, begin_clock_), clock));
    residence_ticks_ += bytes * static_cast<double>(AgeBetween(std::max(block.tsc, begin_tsc_), tsc));
    StackFate& fate = FateOf(block.stack);
    fate.oldest_clock = std::max(fate.oldest_clock, age);
    if (age >= window_clock_ / 2) fate.old_live.Add(bytes, BlocksOf(weight));
  });
  for (const auto& [address, steps] : open_chains_) EndChain(steps);
  open_chains_.clear();
  for (const auto& [key, amount] : pairs_) {
    hand_overs_.push_back({static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(key), amount});
  }
  std::sort(hand_overs_.begin(), hand_overs_.end(), [](const HandOver& a, const HandOver& b) {
    if (a.amount.bytes != b.amount.bytes) return a.amount.bytes > b.amount.bytes;
    return std::pair(a.from, a.to) < std::pair(b.from, b.to);
  });
  if (knows_pages()) sparse_ = FindSparsePages(live, fates_.size());
  for (const Unit unit : {Unit::kBytes, Unit::kBlocks}) {
    by_clock_[static_cast<size_t>(unit)] = ages_by_clock_.Survival(unit);
    by_time_[static_cast<size_t>(unit)] = ages_by_time_.Survival(unit);
  }
}

std::vector<SeriesValue> HeapHistory::SeriesOf(uint32_t stack) const {
  if (stack >= fates_.size()) return std::vector<SeriesValue>(series_.points().size());
  return series_.Of(stack, {fates_[stack].live_bytes, fates_[stack].allocated_bytes});
}

}  // namespace tidemark
