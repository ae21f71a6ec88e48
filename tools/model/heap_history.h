// Beside totals: how the heap lived. Lifetimes on two clocks, what was allocated and released when, live bytes of every
// stack along the run, growth by realloc, blocks that another thread releases, how full the pages are.
//
// Listens to HeapModel, in the same pass over the events. What every number means: docs/reclamation.md. Memory: live
// blocks + stacks, as the model's. The second clock counts bytes allocated: it stands still when the program does
// nothing, so ages on it compare machines and loads.
// Must not: symbolize, print.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/model/age_histogram.h"
#include "tools/model/block_observer.h"
#include "tools/model/heap_model.h"
#include "tools/model/live_series.h"
#include "tools/model/page_occupancy.h"
#include "tools/model/timeline.h"

namespace tidemark {

// Sizes of a nursery, the young space of a garbage collector: powers of two, so that the histogram is exact there.
inline constexpr std::array<uint64_t, 6> kNurseryBytes = {64u << 10, 256u << 10, 1u << 20,
                                                          4u << 20,  16u << 20,  64u << 20};

// Bytes and blocks, estimates in sampled mode.
struct Quantity {
  double bytes = 0, blocks = 0;
  void Add(double more_bytes, double more_blocks) {
    bytes += more_bytes;
    blocks += more_blocks;
  }
};

struct StackFate {
  double live_bytes = 0, allocated_bytes = 0;
  // Bytes that died at an age, in bytes allocated since, below kNurseryBytes[i] and not below the one before; last:
  // older.
  std::array<double, kNurseryBytes.size() + 1> died_by_age{};
  double residence_byte_ticks = 0;  // of what died: bytes times ticks
  Quantity died, cross_thread;      // cross_thread: released by another thread than allocated it
  uint64_t reallocs = 0, copied_bytes = 0;
  // At the end:
  Quantity old_live;          // older than half of the window's allocation
  uint64_t oldest_clock = 0;  // age of the oldest live block in bytes allocated
  double DiedBefore(size_t nursery) const;
};

// Blocks that realloc grew, step by step, complete traces only.
struct ReallocChains {
  static constexpr size_t kLengths = 16;
  uint64_t chains = 0, steps = 0, longest = 0;
  uint64_t copied_bytes = 0;                        // moved: min(old, new) each
  std::array<uint64_t, kLengths> by_log2_length{};  // chains of 1, 2..3, 4..7, ... steps
};

struct HandOver {
  uint32_t from = 0, to = 0;  // indices as in HeapModel::threads()
  Quantity amount;
};

// The heap when a memory sample was taken.
struct HeapInstant {
  bool known = false;  // false: outside of the window
  double live_bytes = 0, usable_bytes = 0;
  uint64_t used_page_bytes = 0;
};

class HeapHistory : public BlockObserver {
 public:
  explicit HeapHistory(const TraceReader& reader);

  void OnBegin(const LiveSet& live, uint64_t tsc, uint64_t clock) override;
  void OnAllocate(const LiveBlock& block, bool new_peak) override;
  void OnDeath(const LiveBlock& block, const Death& death) override;
  void OnRealloc(const LiveBlock& old, uint64_t new_size, bool moved) override;
  void OnEnd(const LiveSet& live, uint64_t tsc, uint64_t clock) override;

  const SurvivalCurve& survival_by_clock(Unit unit) const { return by_clock_[static_cast<size_t>(unit)]; }
  const SurvivalCurve& survival_by_time(Unit unit) const { return by_time_[static_cast<size_t>(unit)]; }  // ticks
  const Timeline& timeline() const { return timeline_; }
  const LiveSeries& series() const { return series_; }
  const std::vector<StackFate>& fates() const { return fates_; }  // as HeapModel::stacks(), or fewer
  const Quantity& allocated() const { return allocated_; }
  const Quantity& released() const { return released_; }
  const Quantity& released_by_realloc() const { return by_realloc_; }
  const Quantity& cross_thread() const { return cross_thread_; }
  const std::vector<HandOver>& hand_overs() const { return hand_overs_; }  // largest first
  const ReallocChains& chains() const { return chains_; }
  bool knows_chains() const { return full_; }
  bool knows_pages() const { return full_ && pages_.complete(); }
  const SparsePages& sparse_pages() const { return sparse_; }
  const std::vector<HeapInstant>& instants() const { return instants_; }  // as TraceReader::memory()
  uint64_t window_clock() const { return window_clock_; }                 // bytes allocated within the window
  double live_at_begin() const { return live_at_begin_; }
  double usable_at_end() const { return usable_; }
  double usable_at_peak() const { return usable_at_peak_; }
  uint64_t used_pages_at_end() const { return pages_.used_bytes(); }
  uint64_t used_pages_at_peak() const { return used_at_peak_; }
  // Integrals of live bytes over both clocks, and the sums of bytes times age they have to equal (Little's law).
  double live_byte_ticks() const { return timeline_.live_byte_ticks(); }
  double live_byte_bytes() const { return live_byte_bytes_; }
  double residence_byte_ticks() const { return residence_ticks_; }
  double residence_byte_bytes() const { return residence_bytes_; }
  // Of a stack (index as in HeapModel::stacks()), for verdicts on growth; one value a point of series().points().
  std::vector<SeriesValue> SeriesOf(uint32_t stack) const;

 private:
  // By the realloc whose new block comes next.
  struct TakenOver {
    uint64_t steps = 0, copied = 0;
  };
  static constexpr size_t kMostPairs = 4096;

  void TakeInstants(uint64_t tsc);
  StackFate& FateOf(uint32_t stack);
  void EndChain(uint64_t steps);
  const SampleWeight* WeightOf(const LiveBlock& block);

  bool full_ = true;
  uint64_t sample_bytes_ = 0;
  SampleWeight weight_;  // WeightOf's answer
  uint64_t begin_clock_ = 0, begin_tsc_ = 0, window_clock_ = 0, clock_ = 0;
  double live_ = 0, live_at_begin_ = 0, usable_ = 0, usable_at_peak_ = 0, peak_ = 0;
  uint64_t used_at_peak_ = 0;
  double live_byte_bytes_ = 0, residence_ticks_ = 0, residence_bytes_ = 0;
  AgeHistogram ages_by_clock_, ages_by_time_;
  std::array<SurvivalCurve, 2> by_clock_, by_time_;
  Timeline timeline_;
  LiveSeries series_;
  PageOccupancy pages_;
  SparsePages sparse_;
  std::vector<StackFate> fates_;
  Quantity allocated_, released_, by_realloc_, cross_thread_;
  std::unordered_map<uint64_t, Quantity> pairs_;  // from << 32 | to
  std::vector<HandOver> hand_overs_;
  ReallocChains chains_;
  std::unordered_map<uint64_t, uint64_t> open_chains_;  // address of a block that realloc made -> steps so far
  TakenOver taken_over_;
  bool takes_over_ = false;
  std::vector<uint64_t> instant_tscs_;
  std::vector<HeapInstant> instants_;
  size_t next_instant_ = 0;
};

}  // namespace tidemark
