// See heap_model.h.
#include "tools/model/heap_model.h"

#include <algorithm>
#include <bit>

namespace tidemark {
namespace {

constexpr uint64_t kAddressLimit = uint64_t{1} << 48;

// Stamps of threads on different cores agree within some 100 ns; ten times that is no skew any more.
constexpr int64_t kSkewNs = 1000;

// Ticks in `ns`, by the trace's own clock; TimeNs is the only thing a reader offers, so look for the tick rate with it.
uint64_t TicksIn(const TraceReader& reader, uint64_t from_tsc, int64_t ns) {
  constexpr uint64_t kSpan = uint64_t{1} << 30;
  // Modulo 2^64: a damaged clock may leap from one end to the other.
  const auto time = [&reader](uint64_t tsc) { return static_cast<uint64_t>(reader.TimeNs(tsc)); };
  const auto span_ns = static_cast<int64_t>(time(from_tsc + kSpan) - time(from_tsc));
  if (span_ns <= 0) return kSpan;
  return static_cast<uint64_t>(static_cast<double>(kSpan) / static_cast<double>(span_ns) * static_cast<double>(ns));
}

// When the recording ended; 0: not known.
uint64_t EndTsc(const TraceReader& reader) {
  const nlohmann::json& end = reader.end();
  if (!end.is_object()) return 0;
  const auto tsc = end.find("end_tsc");
  return tsc != end.end() && tsc->is_number_unsigned() ? tsc->get<uint64_t>() : 0;
}

}  // namespace

uint64_t TickAt(const TraceReader& reader, int64_t ns) {
  uint64_t low = 0, high = UINT64_MAX >> 1;  // clocks of processors do not get that far
  if (reader.TimeNs(high) < ns) return UINT64_MAX;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (reader.TimeNs(middle) < ns) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

uint32_t SizeBucketOf(uint64_t charged_bytes) {
  return std::max<uint32_t>(kFirstSizeBucket, static_cast<uint32_t>(std::bit_width(charged_bytes - 1)));
}
uint64_t SizeBucketLow(uint32_t size_bucket) {
  return size_bucket <= kFirstSizeBucket ? 1 : (uint64_t{1} << (size_bucket - 1)) + 1;
}
uint64_t SizeBucketHigh(uint32_t size_bucket) { return size_bucket >= 64 ? UINT64_MAX : uint64_t{1} << size_bucket; }

HeapModel::HeapModel(Mode mode, uint64_t sample_bytes, size_t node_count)
    : mode_(mode),
      sample_bytes_(mode == Mode::kSampled ? sample_bytes : 0),
      stack_of_node_(std::max<size_t>(node_count, 1)) {}

HeapModel HeapModel::Build(TraceReader& reader, BlockObserver* observer, const TimeWindow& window) {
  HeapModel model(reader.mode(), reader.sample_bytes(), reader.nodes().size());
  model.window_ = window;
  const uint64_t from_tsc = window.from_ns ? TickAt(reader, *window.from_ns) : 0;
  const uint64_t to_tsc = window.to_ns ? TickAt(reader, *window.to_ns) : UINT64_MAX;
  bool first = true, inside = false;
  reader.ForEachEventBefore(to_tsc, [&](uint32_t serial, const TraceEvent& event) {
    if (first) {
      first = false;
      model.first_tsc_ = event.tsc;
      model.live_.SetSkew(TicksIn(reader, event.tsc, kSkewNs));
    }
    if (!inside && event.tsc >= from_tsc) {
      inside = true;
      model.observer_ = observer;
      if (from_tsc > model.first_tsc_) {
        model.BeginWindow(from_tsc);
      } else if (observer != nullptr) {
        observer->OnBegin(model.live_, event.tsc, 0);
      }
    }
    model.last_tsc_ = std::max(model.last_tsc_, event.tsc);
    model.OnEvent(serial, event);
  });
  if (!inside) {  // nothing happened in the window
    model.observer_ = observer;
    if (!first) {
      model.BeginWindow(std::max(from_tsc, model.last_tsc_));
    } else if (observer != nullptr) {
      observer->OnBegin(model.live_, 0, 0);
    }
  }
  for (const LiveBlock& block : model.live_.TakeOverlapped()) {
    ++model.oddities_.implied_releases;
    model.Kill(block, {model.last_tsc_, 0, false, false, true});
  }
  if (observer != nullptr) {
    // What is alive stays so to the end of the window or the run, also when its last event came earlier.
    const uint64_t end_tsc = std::max(model.last_tsc_, std::min(to_tsc, first ? 0 : EndTsc(reader)));
    observer->OnEnd(model.live_, end_tsc, model.clock_);
  }
  model.observer_ = nullptr;
  if (!first) {
    model.first_ns_ = reader.TimeNs(model.first_tsc_);
    model.last_ns_ = reader.TimeNs(model.last_tsc_);
    model.peak_ns_ = model.epoch_ != 0 ? reader.TimeNs(model.peak_tsc_) : model.first_ns_;
  }
  return model;
}

uint32_t HeapModel::ThreadIndex(uint32_t serial) {
  if (serial == last_serial_ && !threads_.empty()) return last_thread_;
  auto [found, added] = thread_of_serial_.try_emplace(serial, static_cast<uint32_t>(threads_.size()));
  if (added) {
    if (threads_.size() < kMaxLiveThreads) {
      ThreadUse use;
      use.serial = threads_.size() + 1 == kMaxLiveThreads ? 0 : serial;
      threads_.push_back(std::move(use));
      thread_states_.emplace_back();
    } else {
      found->second = kMaxLiveThreads - 1;
    }
  }
  last_serial_ = serial;
  last_thread_ = found->second;
  return last_thread_;
}

uint32_t HeapModel::StackIndex(uint32_t node) {
  if (node == 0) ++oddities_.without_stack;
  if (node >= stack_of_node_.size()) {
    ++oddities_.unknown_nodes;
    node = 0;
  }
  uint32_t& index = stack_of_node_[node];
  if (index == 0) {
    StackUse use;
    use.node = node;
    stacks_.push_back(std::move(use));
    index = static_cast<uint32_t>(stacks_.size());
  }
  return index - 1;
}

const SampleWeight* HeapModel::WeightOf(uint64_t charged_bytes) {
  if (mode_ != Mode::kSampled) return nullptr;
  weight_ = WeightOfSample(charged_bytes, sample_bytes_);
  return &weight_;
}

void HeapModel::BeginWindow(uint64_t tsc) {
  total_.BeginWindow();
  for (StackUse& use : stacks_) use.tally.BeginWindow();
  for (ThreadUse& use : threads_) {
    use.tally.BeginWindow();
    use.events = 0;
  }
  for (Tally& tally : size_buckets_) tally.BeginWindow();
  events_ = {};
  reallocs_ = {};
  oddities_ = {};
  heap_errors_.clear();
  // The window's peak begins with what is alive at its beginning.
  peak_value_ = total_.live_value();
  first_tsc_ = last_tsc_ = peak_tsc_ = tsc;
  ++epoch_;
  if (observer_ != nullptr) observer_->OnBegin(live_, tsc, clock_);
}

void HeapModel::Kill(const LiveBlock& block, const Death& death) {
  const bool temporary = death.temporary;
  const SampleWeight* weight = WeightOf(block.size);
  total_.Release(block.size, weight, temporary, epoch_);
  stacks_[block.stack].tally.Release(block.size, weight, temporary, epoch_);
  threads_[block.thread].tally.Release(block.size, weight, temporary, epoch_);
  size_buckets_[SizeBucketOf(block.size)].Release(block.size, weight, temporary, epoch_);
  if (observer_ != nullptr) observer_->OnDeath(block, death);
}

void HeapModel::OnAllocate(uint32_t thread, uint64_t address, const TraceEvent& event) {
  if (address >> 4 == 0 || address >= kAddressLimit) {
    ++oddities_.unusable_events;
    return;
  }
  if (event.size == 0) ++oddities_.zero_sized;
  LiveBlock block;
  block.address = address;
  block.size = ChargedBytes(event.size);
  block.tsc = event.tsc;
  block.stack = StackIndex(event.node);
  block.thread = thread;
  block.born = clock_ + (sampled() ? Saturated(WeightOf(block.size)->bytes) : block.size);
  const bool ordered = threads_.size() == 1;
  if (std::optional<LiveBlock> dead = live_.Insert(block, ordered)) {
    ++oddities_.implied_releases;
    Kill(*dead, {event.tsc, 0, false, false, true});
  }
  const SampleWeight* weight = WeightOf(block.size);  // of this block: Kill has its own
  clock_ = block.born;
  total_.Allocate(block.size, weight, epoch_);
  stacks_[block.stack].tally.Allocate(block.size, weight, epoch_);
  threads_[thread].tally.Allocate(block.size, weight, epoch_);
  size_buckets_[SizeBucketOf(block.size)].Allocate(block.size, weight, epoch_);
  // ">=": the last moment at which the peak is reached is the peak, as in DHAT.
  const double live = total_.live_value();
  const bool new_peak = live >= peak_value_;
  if (new_peak) {
    peak_value_ = live;
    peak_tsc_ = event.tsc;
    ++epoch_;
  }
  if (observer_ != nullptr) observer_->OnAllocate(block, new_peak);
  thread_states_[thread].last_allocated = address;
}

void HeapModel::CountRealloc(uint64_t old_size, uint64_t new_size, bool moved) {
  if (new_size > old_size) {
    ++reallocs_.grown_blocks;
    reallocs_.grown_bytes += new_size - old_size;
  } else if (new_size < old_size) {
    ++reallocs_.shrunk_blocks;
    reallocs_.shrunk_bytes += old_size - new_size;
  } else {
    ++reallocs_.same_size_blocks;
  }
  if (moved) {
    ++reallocs_.moved_blocks;
    reallocs_.moved_bytes += std::min(old_size, new_size);
  }
}

void HeapModel::OnRelease(uint32_t thread, uint64_t address, uint64_t tsc, bool is_realloc, uint64_t new_size,
                          uint64_t new_address) {
  const LiveSet::Released released = live_.Release(address, tsc);
  if (released.implied) {
    ++oddities_.implied_releases;
    Kill(*released.implied, {tsc, 0, false, false, true});
  }
  if (!released.block) {
    ++oddities_.unknown_releases;
    return;
  }
  Kill(*released.block, {tsc, thread, thread_states_[thread].last_allocated == address, is_realloc, false});
  if (!is_realloc) return;
  const bool moved = new_address != address;
  if (observer_ != nullptr) observer_->OnRealloc(*released.block, ChargedBytes(new_size), moved);
  CountRealloc(released.block->size, ChargedBytes(new_size), moved);
}

void HeapModel::OnEvent(uint32_t serial, const TraceEvent& event) {
  switch (event.kind) {
    case RecordKind::kAlloc: {
      const uint32_t thread = ThreadIndex(serial);
      ++threads_[thread].events;
      ++events_.allocs;
      OnAllocate(thread, event.address, event);
      return;
    }
    case RecordKind::kFree: {
      const uint32_t thread = ThreadIndex(serial);
      ++threads_[thread].events;
      ++events_.frees;
      OnRelease(thread, event.address, event.tsc, false, 0, 0);
      thread_states_[thread].last_allocated = 0;
      return;
    }
    case RecordKind::kRealloc: {
      const uint32_t thread = ThreadIndex(serial);
      ++threads_[thread].events;
      ++events_.reallocs;
      // The release comes first, and no peak is looked for in between: DHAT's realloc is one step, too.
      if (event.old_address != 0) {
        OnRelease(thread, event.old_address, event.tsc - std::min(event.elapsed, event.tsc), event.address != 0,
                  event.size, event.address);
      }
      thread_states_[thread].last_allocated = 0;
      if (event.address != 0) OnAllocate(thread, event.address, event);
      return;
    }
    case RecordKind::kGap:
      if (event.gap_kind < kKindCount) oddities_.lost[event.gap_kind] += event.count;
      oddities_.lost_bytes += event.size;
      // The thread's next event is not the next one that happened.
      thread_states_[ThreadIndex(serial)].last_allocated = 0;
      return;
    case RecordKind::kHeapError:
      return OnHeapError(serial, event, false);
    case RecordKind::kGuardReport:
      return OnHeapError(serial, event, true);
    case RecordKind::kMark:
      ++events_.marks;
      if (observer_ != nullptr) observer_->OnMark(serial, event.tsc, event.text);
      return;
    default:
      return;
  }
}

void HeapModel::OnHeapError(uint32_t serial, const TraceEvent& event, bool guarded) {
  ++events_.heap_errors;
  HeapErrorUse use;
  use.node = event.node;
  use.thread_serial = serial;
  use.guarded = guarded;
  use.count = 1;
  if (guarded) {
    use.report = event.guard;
  } else {
    use.report.error = static_cast<HeapError>(event.count);
    use.report.block = event.address;
  }
  for (HeapErrorUse& known : heap_errors_) {
    if (known.node == use.node && known.guarded == guarded && known.report.error == use.report.error &&
        known.report.access == use.report.access && known.report.allocated.node == use.report.allocated.node) {
      ++known.count;
      return;
    }
  }
  if (heap_errors_.size() < kMaxHeapErrors) heap_errors_.push_back(use);
}

}  // namespace tidemark
