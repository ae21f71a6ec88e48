// The one core that computes all numbers of a trace: totals, the exact peak and who held it, per stack, thread and
// size. Every view (report, flamegraph, export, later diff and leaks) reads this, so that no two of them can disagree.
//
// One pass over the events; memory is proportional to live blocks + stacks + threads, not to the number of events.
// What each number means, with formulas and how realloc counts, is docs/metrics.md; in full mode of a single-threaded
// program allocated bytes, allocated blocks and peak bytes are equal to valgrind DHAT's tb, tbk and gb.
// Must not: symbolize, print, know the file format.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tools/model/block_observer.h"
#include "tools/model/live_set.h"
#include "tools/model/tally.h"
#include "tools/model/time_window.h"
#include "tools/trace_reader.h"

namespace tidemark {

// A request for nothing takes a block all the same and is charged one byte (as DHAT does).
inline uint64_t ChargedBytes(uint64_t requested) { return requested == 0 ? 1 : requested; }

// Size buckets are (2^(i-1), 2^i] bytes; everything up to 16 is one bucket.
inline constexpr uint32_t kFirstSizeBucket = 4, kSizeBucketCount = 65;
uint32_t SizeBucketOf(uint64_t charged_bytes);
uint64_t SizeBucketLow(uint32_t size_bucket);   // smallest size in it
uint64_t SizeBucketHigh(uint32_t size_bucket);  // largest

struct EventCounts {
  uint64_t allocs = 0, frees = 0, reallocs = 0, heap_errors = 0, marks = 0;
  uint64_t all() const { return allocs + frees + reallocs + heap_errors + marks; }
};

// What realloc did, beside counting as a release and an allocation.
struct ReallocDetail {
  uint64_t grown_blocks = 0, grown_bytes = 0;    // bytes: new - old
  uint64_t shrunk_blocks = 0, shrunk_bytes = 0;  // bytes: old - new
  uint64_t same_size_blocks = 0;
  uint64_t moved_blocks = 0, moved_bytes = 0;  // another address than before; bytes: min(old, new), what was copied
};

struct Oddities {
  uint64_t unknown_releases = 0;  // of addresses that no event handed out: older than the trace, or lost in a gap
  uint64_t implied_releases =
      0;                         // blocks whose address was handed out again, so that their release must have been lost
  uint64_t without_stack = 0;    // allocations with node 0
  uint64_t unknown_nodes = 0;    // allocations whose stack is not in the trace
  uint64_t zero_sized = 0;       // requests for 0 bytes, charged one byte each
  uint64_t unusable_events = 0;  // allocations at impossible addresses: a damaged trace
  std::array<uint64_t, kKindCount> lost{};  // by gap records, per EventKind
  uint64_t lost_bytes = 0;
};

struct StackUse {
  uint32_t node = 0;  // leaf of the stack; 0: none known
  Tally tally;
};

struct ThreadUse {
  uint32_t serial = 0;  // 0 stands for all threads beyond kMaxLiveThreads
  uint64_t events = 0;
  Tally tally;  // of the blocks that this thread allocated, whoever releases them
};

// A heap error, and how often the same was seen: same kind and access, noticed at the same place.
struct HeapErrorUse {
  uint32_t node = 0, thread_serial = 0;  // where it was noticed; the first time
  bool guarded = false;                  // on a guarded block: all of `report` is known; else its error and block only
  GuardReport report;                    // of the first time
  uint64_t count = 0;
};

class HeapModel {
 public:
  static constexpr size_t kMaxHeapErrors = 1000;  // different ones that are kept
  // Numbers are those of the window (time_window.h). `observer` hears of every block in it.
  static HeapModel Build(TraceReader& reader, BlockObserver* observer = nullptr, const TimeWindow& window = {});

  Mode mode() const { return mode_; }
  bool sampled() const { return mode_ == Mode::kSampled; }
  uint64_t sample_bytes() const { return sample_bytes_; }
  // The temporary metric needs every event.
  bool knows_temporary() const { return !sampled(); }

  const Tally& total() const { return total_; }
  uint64_t epoch() const { return epoch_; }  // for Tally::Peak
  const std::vector<StackUse>& stacks() const { return stacks_; }
  const std::vector<ThreadUse>& threads() const { return threads_; }
  const std::array<Tally, kSizeBucketCount>& size_buckets() const { return size_buckets_; }
  const EventCounts& events() const { return events_; }
  const ReallocDetail& reallocs() const { return reallocs_; }
  const Oddities& oddities() const { return oddities_; }
  const std::vector<HeapErrorUse>& heap_errors() const { return heap_errors_; }

  const TimeWindow& window() const { return window_; }
  int64_t first_ns() const { return first_ns_; }  // of the first event, as TraceReader::TimeNs; in the window
  int64_t last_ns() const { return last_ns_; }
  int64_t peak_ns() const { return peak_ns_; }  // when the peak was last reached

 private:
  struct ThreadState {
    uint64_t last_allocated = 0;  // address of the block that the thread's previous event allocated; 0: another event
  };

  HeapModel(Mode mode, uint64_t sample_bytes, size_t node_count);
  void OnEvent(uint32_t serial, const TraceEvent& event);
  void OnAllocate(uint32_t thread, uint64_t address, const TraceEvent& event);
  void OnRelease(uint32_t thread, uint64_t address, uint64_t tsc, bool is_realloc, uint64_t new_size,
                 uint64_t new_address);
  void CountRealloc(uint64_t old_size, uint64_t new_size, bool moved);
  void OnHeapError(uint32_t serial, const TraceEvent& event, bool guarded);
  void Kill(const LiveBlock& block, const Death& death);
  void BeginWindow(uint64_t tsc);
  uint32_t ThreadIndex(uint32_t serial);
  uint32_t StackIndex(uint32_t node);
  const SampleWeight* WeightOf(uint64_t charged_bytes);

  Mode mode_;
  uint64_t sample_bytes_;
  TimeWindow window_;
  BlockObserver* observer_ = nullptr;
  LiveSet live_;
  uint64_t clock_ = 0;  // bytes allocated, also before the window; of samples: estimated
  Tally total_;
  uint64_t epoch_ = 0;
  double peak_value_ = 0;
  uint64_t peak_tsc_ = 0;
  std::vector<StackUse> stacks_;
  std::vector<uint32_t> stack_of_node_;  // index into stacks_ + 1; 0: none yet
  std::vector<ThreadUse> threads_;
  std::vector<ThreadState> thread_states_;
  std::unordered_map<uint32_t, uint32_t> thread_of_serial_;
  uint32_t last_serial_ = 0, last_thread_ = 0;
  std::array<Tally, kSizeBucketCount> size_buckets_;
  SampleWeight weight_;  // WeightOf's answer
  EventCounts events_;
  ReallocDetail reallocs_;
  Oddities oddities_;
  std::vector<HeapErrorUse> heap_errors_;
  uint64_t first_tsc_ = 0, last_tsc_ = 0;
  int64_t first_ns_ = 0, last_ns_ = 0, peak_ns_ = 0;
};

// The smallest tick at which TimeNs is `ns` or later; UINT64_MAX: there is none.
uint64_t TickAt(const TraceReader& reader, int64_t ns);

}  // namespace tidemark
