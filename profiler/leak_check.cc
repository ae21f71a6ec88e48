// Collecting, marking, and the verdict's records; see leak_check.h.
#include "profiler/leak_check.h"

#include <signal.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "profiler/leak_annotations.h"
#include "profiler/leak_roots.h"
#include "profiler/live_table.h"
#include "profiler/os.h"
#include "profiler/own_memory.h"
#include "profiler/reachability.h"
#include "profiler/recorder.h"
#include "profiler/ring_writer.h"
#include "profiler/session.h"
#include "profiler/snapshot.h"
#include "profiler/world_stop.h"

extern "C" const char __ehdr_start[] __attribute__((visibility("hidden")));  // of this library
extern "C" const char _end[] __attribute__((visibility("hidden")));

namespace tidemark::leak_check {
namespace {

Heap heap = {};
bool is_on = false;
std::atomic<uint32_t> user{0};  // process that is looking; another one's: before a fork, means nothing
uint32_t last_number = 0;       // of a check; the user's

constexpr uint32_t kMaxBlocks = (1u << 31) - 1;
constexpr uint32_t kMaxThreads = 16384;
constexpr uint64_t kStopDeadline_us = 5'000'000;
constexpr uint32_t kRootKinds = static_cast<uint32_t>(RootKind::kMapping) + 1;

// What is known of a block beside its place: the stack that obtained it, and
constexpr uint32_t kNodeMask = (1u << 28) - 1;
constexpr uint32_t kInherited = 1u << 28, kHeapSize = 1u << 29, kEmpty = 1u << 30, kNotSampled = 1u << 31;

uint64_t NowUs() { return os::MonotonicNs() / 1000; }

// All signals of the thread, blocked for a while.
class SignalsBlocked {
 public:
  SignalsBlocked() { Set(~uint64_t{0}, &before_); }
  ~SignalsBlocked() { Set(before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;

 private:
  static void Set(uint64_t mask, uint64_t* before) {
    os::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&mask), reinterpret_cast<long>(before),
                sizeof(mask));
  }
  uint64_t before_ = 0;
};

// Zeroed memory of ours.
template <typename T>
class Table {
 public:
  Table() = default;
  ~Table() {
    if (memory_ != nullptr) own_memory::Unmap(memory_, bytes_);
  }
  Table(const Table&) = delete;
  bool Make(size_t count) {
    bytes_ = std::max<size_t>(count, 1) * sizeof(T);
    memory_ = static_cast<T*>(own_memory::Map(bytes_));
    return memory_ != nullptr;
  }
  T* get() const { return memory_; }
  T& operator[](size_t i) const { return memory_[i]; }

 private:
  T* memory_ = nullptr;
  size_t bytes_ = 0;
};

class Check {
 public:
  Check(LeakTrigger trigger, const Caller& caller, const Manner& manner, ThreadState* writer)
      : trigger_(trigger), caller_(caller), manner_(manner), writer_(writer), number_(++last_number & 0xffff) {}

  // True: the verdict, and the writer with it, is a copy's now.
  bool Run() {
    tsc_ = os::Tsc();
    method_ = manner_.in_copy ? LeakMethod::kSnapshot : LeakMethod::kInPlace;
    const uint64_t head[2] = {HeadWord(false), tsc_};
    if (!recorder::PutLeakRecord(writer_, head, 2)) return false;
    const uint64_t begin_us = NowUs();
    if (StopOthers()) {
      if (manner_.in_copy && HandOver(begin_us)) return true;
      outcome_ = manner_.in_copy && !manner_.or_in_place ? LeakOutcome::kNoSnapshot : Look();
      method_ = LeakMethod::kInPlace;
    }
    scan_us_ = NowUs() - begin_us;
    world_.Resume();
    pause_us_ = NowUs() - begin_us;
    Tell();
    return false;
  }

 private:
  uint64_t HeadWord(bool ended) const {
    return static_cast<uint64_t>(RecordKind::kLeakCheck) | uint64_t{ended} << 4 | uint64_t{number_} << 16 |
           static_cast<uint64_t>(trigger_) << 32 | static_cast<uint64_t>(method_) << 40 |
           static_cast<uint64_t>(outcome_) << 48 | uint64_t{flags_} << 56;
  }

  // The last words, and what comes before them.
  void Tell() {
    if (live_table::IsOn() && live_table::IsIncomplete()) flags_ |= kLeaksBlocksMissing;
    if (outcome_ == LeakOutcome::kDone && !PutRows()) return;
    const uint64_t tail[8] = {HeadWord(true),
                              tsc_,
                              pause_us_,
                              scan_us_,
                              (uint64_t{world_.count()} + 1) | uint64_t{not_stopped_} << 32,
                              root_bytes_,
                              reported_blocks_,
                              reported_bytes_};
    recorder::PutLeakRecord(writer_, tail, 8);
    if (manner_.counts != nullptr) {
      manner_.counts->threads_not_stopped = not_stopped_;
      manner_.counts->whole = outcome_ == LeakOutcome::kDone;
    }
  }

  // ---- In a copy. The process tells it through the segment how long it stood, and whether all of it stood still.

  static constexpr uint64_t kPauseKnown = 1, kSomebodyRan = 2, kPauseShift = 2;

  bool HandOver(uint64_t begin_us) {
    std::atomic<uint64_t>& pause = session.header->leak_pause_us;
    pause.store(0, std::memory_order_relaxed);
    if (!RunInSnapshot(&InCopy, this)) return false;
    const bool all_slept = world_.StillAsleep(threads_.get());
    world_.Resume();
    pause.store((NowUs() - begin_us) << kPauseShift | (all_slept ? 0 : kSomebodyRan) | kPauseKnown,
                std::memory_order_release);
    ReapSnapshot();
    return true;
  }

  static void InCopy(void* check) { static_cast<Check*>(check)->LookInCopy(); }

  void LookInCopy() {
    threads_ran_ = 0;
    const uint64_t begin_us = NowUs();
    outcome_ = Look();
    scan_us_ = NowUs() - begin_us;
    uint64_t pause;
    constexpr uint32_t kLongestWait_ms = 60'000;
    constexpr long kMillisecond_ns = 1'000'000;
    for (uint32_t i = 0; i < kLongestWait_ms; i++) {
      pause = session.header->leak_pause_us.load(std::memory_order_acquire);
      if (pause != 0) break;
      os::WaitWhileEqual(&session.header->leak_pause_us, 0, kMillisecond_ns);
    }
    pause_us_ = pause >> kPauseShift;
    if ((pause & kSomebodyRan) != 0) {
      flags_ |= kLeaksThreadsRan;
      not_stopped_ = std::max(not_stopped_, 1u);
    }
    Tell();
    recorder::ReleaseCopyWriter(writer_);
  }

  // Wherever they stop: a thread that obtains a block has nothing in it yet, one that releases a block has no use for
  // what it holds, and one that moves a block has entered the new one before it takes out the old one.
  bool StopOthers() {
    if (!threads_.Make(kMaxThreads)) {
      outcome_ = LeakOutcome::kNoMemory;
      return false;
    }
    world_.Stop(threads_.get(), kMaxThreads, kStopDeadline_us,
                manner_.considerate ? StopManner::kConsiderate : StopManner::kExact);
    not_stopped_ = threads_ran_ = world_.not_still();
    if (not_stopped_ != 0) flags_ |= kLeaksThreadsRan;
    return true;
  }

  LeakOutcome Look() {
    pages_.Open();
    if (!(live_table::IsOn() ? CollectEntered() : CollectSampled())) return LeakOutcome::kNoMemory;
    const size_t bytes = ReachabilityMarker::WorkspaceBytes(blocks_.get(), count_);
    if (!workspace_.Make(bytes)) return LeakOutcome::kNoMemory;
    marker_.emplace(blocks_.get(), count_, workspace_.get());
    switch (ReadRoots()) {
      case LeakRoots::Result::kNoMemory:
        return LeakOutcome::kNoMemory;
      case LeakRoots::Result::kNoMaps:
        return LeakOutcome::kNoMaps;
      case LeakRoots::Result::kDone:
        break;
    }
    MarkRegisters();
    for (const RootKind kind : {RootKind::kStack, RootKind::kThreadLocal, RootKind::kGlobal, RootKind::kMapping}) {
      roots_.ForEach(kind, &pages_, [this](const RootRange& range) { MarkRange(range); });
      if (kind == RootKind::kStack) MarkStacksInBlocks();
    }
    for (uint32_t i = 0; i < count_; i++) {
      const HeapBlock& block = blocks_[i];
      if ((about_[i] & kNotSampled) != 0) MarkRange({block.start, block.start + block.size, RootKind::kMapping});
    }
    MarkAnnotated();
    marker_->Finish();
    return LeakOutcome::kDone;
  }

  // ---- Live blocks, by address.

  // Calls `visit` for all words of the live table that are not 0.
  template <typename Visit>
  void ForEachEntered(Visit visit) {
    const live_table::UnitRange units = live_table::UsedUnits();
    for (uint64_t unit = units.first; unit < units.last; unit++) {
      const live_table::Entry* table = live_table::TableOf(unit);
      if (table == nullptr) continue;
      const auto start = reinterpret_cast<uint64_t>(table);
      uint64_t run_start, run_end = start;
      while (pages_.NextRun(run_end, start + live_table::kEntriesPerUnit * sizeof(*table), PageMap::Which::kTouched,
                            &run_start, &run_end)) {
        for (uint64_t i = (run_start - start) / sizeof(*table); i < (run_end - start) / sizeof(*table); i++) {
          if (const uint64_t word = table[i].load(std::memory_order_relaxed); word != 0) visit(unit, i, word);
        }
      }
    }
  }

  bool CollectEntered() {
    uint64_t room = 0;
    ForEachEntered([&room](uint64_t, uint64_t, uint64_t) { room++; });
    if (room > kMaxBlocks || !blocks_.Make(room) || !about_.Make(room)) return false;
    ForEachEntered([this, room](uint64_t unit, uint64_t index, uint64_t word) {
      if (count_ == room) return;  // a thread that could not be stopped goes on
      const live_table::LiveBlock live = live_table::Decode(unit, index, word);
      uint32_t about = live.node | (live.inherited ? kInherited : 0);
      uint64_t size = live.size;
      if (live.size == live_table::kLargestSize) {
        size = heap.usable_size(reinterpret_cast<const void*>(live.address));
        about |= kHeapSize;
      }
      Add(live.address, size, about);
    });
    return true;
  }

  bool CollectSampled() {
    uint64_t room = 0, block, size;
    bool sampled;
    for (uint64_t from = heap.region_start; heap.next_in_region(&from, &block, &size, &sampled);) room++;
    if (room > kMaxBlocks || !blocks_.Make(room) || !about_.Make(room)) return false;
    for (uint64_t from = heap.region_start; count_ < room && heap.next_in_region(&from, &block, &size, &sampled);) {
      Add(block, size, sampled ? 0 : kNotSampled);
    }
    return true;
  }

  // A block of no bytes is one that pointers to its beginning reach. Blocks never overlap; those that a running thread
  // has moved meanwhile may seem to.
  void Add(uint64_t address, uint64_t size, uint32_t about) {
    if (count_ != 0) {
      HeapBlock& before = blocks_[count_ - 1];
      if (before.start + before.size > address) before.size = address - before.start;
    }
    blocks_[count_] = {address, size == 0 ? 1 : size};
    about_[count_] = about | (size == 0 ? kEmpty : 0);
    count_++;
  }

  // ---- Roots.

  LeakRoots::Result ReadRoots() {
    roots_.AddStack(caller_.stack_pointer);
    const uint32_t known = std::min(world_.count(), kMaxThreads);
    for (uint32_t i = 0; i < known; i++) {
      if (threads_[i].stack_pointer != 0) roots_.AddStack(threads_[i].stack_pointer);
    }
    uint64_t control_block;
    __asm__("movq %%fs:0, %0" : "=r"(control_block));
    roots_.SetThreadLocal(control_block);
    // Of the heap only live blocks count. In sampled mode nobody knows which of its blocks are live.
    if (live_table::IsOn()) roots_.LeaveOut(heap.heap_start, heap.heap_end);
    roots_.LeaveOut(heap.region_start, heap.region_end);
    roots_.LeaveOut(heap.module_start, heap.module_end);
    roots_.LeaveOut(reinterpret_cast<uint64_t>(__ehdr_start), reinterpret_cast<uint64_t>(_end));
    const LeakRoots::Result result = roots_.Read();
    if (!roots_.own_memory_known()) flags_ |= kLeaksOwnMemory;
    return result;
  }

  void MarkRegisters() {
    for (uint32_t i = 0; i < caller_.register_count; i++) {
      marker_->MarkWord(caller_.registers[i], RootKind::kRegisters);
    }
    const uint32_t known = std::min(world_.count(), kMaxThreads);
    for (uint32_t i = 0; i < known; i++) {
      const StoppedThread& thread = threads_[i];
      if (thread.stopped) {
        MarkRange({thread.registers, thread.registers_end, RootKind::kRegisters});
      } else if (thread.asleep) {
        for (const uint64_t argument : thread.arguments) marker_->MarkWord(argument, RootKind::kRegisters);
      }
    }
  }

  // What the program says of its memory.
  void MarkAnnotated() {
    leak_annotations::ForEachRoot([this](uint64_t start, uint64_t end) {
      const uint64_t first = (start + 7) & ~uint64_t{7}, last = end & ~uint64_t{7};
      if (first < last) MarkRange({first, last, RootKind::kMapping});
    });
    leak_annotations::ForEachIgnored([this](uint64_t address, uint64_t word) {
      const bool is_same = live_table::WordOf(reinterpret_cast<const void*>(address)) == word;
      if (is_same) marker_->MarkWord(address, RootKind::kMapping);
    });
  }

  void MarkRange(const RootRange& range) {
    root_bytes_ += range.end - range.start;
    if (threads_ran_ == 0) return marker_->MarkRoots(range);
    // A thread that goes on may unmap what is being read: the kernel copies it, or says that it is gone.
    constexpr size_t kAtOnce = 64 << 10;
    if (copy_.get() == nullptr && !copy_.Make(kAtOnce / sizeof(uint64_t))) return marker_->MarkRoots(range);
    const auto copy = reinterpret_cast<uint64_t>(copy_.get());
    for (uint64_t at = range.start; at < range.end; at += kAtOnce) {
      const uint64_t bytes = std::min<uint64_t>(range.end - at, kAtOnce);
      const iovec to = {copy_.get(), bytes}, from = {reinterpret_cast<void*>(at), bytes};
      const long n = os::Syscall(SYS_process_vm_readv, os::ProcessId(), reinterpret_cast<long>(&to), 1,
                                 reinterpret_cast<long>(&from), 1, 0);
      if (n > 0) marker_->MarkRoots({copy, copy + static_cast<uint64_t>(n), range.kind});
    }
  }

  // Coroutines: a stack that is a block of the heap.
  void MarkStacksInBlocks() {
    MarkStackInBlock(caller_.stack_pointer);
    const uint32_t known = std::min(world_.count(), kMaxThreads);
    for (uint32_t i = 0; i < known; i++) MarkStackInBlock(threads_[i].stack_pointer);
  }
  void MarkStackInBlock(uint64_t stack_pointer) {
    const HeapBlock* const first = blocks_.get();
    const HeapBlock* above = std::upper_bound(first, first + count_, stack_pointer,
                                              [](uint64_t at, const HeapBlock& block) { return at < block.start; });
    if (above == first) return;
    const HeapBlock& block = *(above - 1);
    if (stack_pointer - block.start < block.size) {
      marker_->MarkRoots({stack_pointer & ~uint64_t{7}, block.start + block.size, RootKind::kStack});
    }
  }

  // ---- The verdict.

  uint64_t BytesOf(uint32_t i) const { return (about_[i] & kEmpty) != 0 ? 0 : blocks_[i].size; }

  uint64_t RowWord(LeakClass leak_class, RootKind root, uint32_t flags, uint32_t node) const {
    return static_cast<uint64_t>(RecordKind::kLeakRow) | static_cast<uint64_t>(leak_class) << 4 |
           static_cast<uint64_t>(root) << 8 | uint64_t{flags} << 12 | uint64_t{node} << 20 | uint64_t{number_} << 48;
  }

  // Reachable blocks in sums by (stack, root, inherited); all others each for itself. False: nobody reads any more.
  bool PutRows() {
    struct Sum {
      uint64_t blocks, bytes;
    };
    uint32_t nodes = 0;
    for (uint32_t i = 0; i < count_; i++) nodes = std::max(nodes, about_[i] & kNodeMask);
    constexpr uint32_t kPerNode = kRootKinds * 2;
    Table<Sum> sums;
    if (!sums.Make((size_t{nodes} + 1) * kPerNode)) {
      outcome_ = LeakOutcome::kNoMemory;
      return true;
    }
    for (uint32_t i = 0; i < count_; i++) {
      if ((about_[i] & kNotSampled) != 0) continue;
      const Reachability found = marker_->ResultOf(i);
      const uint32_t node = about_[i] & kNodeMask;
      reported_blocks_++;
      reported_bytes_ += BytesOf(i);
      if (manner_.counts != nullptr) {
        Counts::Sum& sum = manner_.counts->of[static_cast<uint32_t>(found.leak_class)];
        sum.blocks++;
        sum.bytes += BytesOf(i);
      }
      const bool inherited = (about_[i] & kInherited) != 0;
      if (found.leak_class == LeakClass::kReachable && (about_[i] & kHeapSize) == 0) {
        Sum& sum = sums[size_t{node} * kPerNode + static_cast<uint32_t>(found.root) * 2 + (inherited ? 1 : 0)];
        sum.blocks++;
        sum.bytes += BytesOf(i);
        continue;
      }
      const uint32_t flags = (inherited ? kLeakInherited : 0u) | ((about_[i] & kHeapSize) != 0 ? kLeakHeapSize : 0u);
      const uint64_t row[4] = {RowWord(found.leak_class, found.root, flags, node), blocks_[i].start, BytesOf(i),
                               blocks_[found.leader].start};
      if (!recorder::PutLeakRecord(writer_, row, 4)) return false;
    }
    for (uint32_t node = 0; node <= nodes; node++) {
      for (uint32_t k = 0; k < kPerNode; k++) {
        const Sum& sum = sums[size_t{node} * kPerNode + k];
        if (sum.blocks == 0) continue;
        const uint32_t flags = k % 2 != 0 ? kLeakInherited : 0u;
        const uint64_t row[4] = {RowWord(LeakClass::kReachable, static_cast<RootKind>(k / 2), flags, node), 0,
                                 sum.bytes, sum.blocks};
        if (!recorder::PutLeakRecord(writer_, row, 4)) return false;
      }
    }
    return true;
  }

  const LeakTrigger trigger_;
  const Caller caller_;
  const Manner manner_;
  ThreadState* const writer_;
  const uint32_t number_;
  LeakMethod method_ = LeakMethod::kInPlace;
  LeakOutcome outcome_ = LeakOutcome::kDone;
  uint32_t flags_ = 0, not_stopped_ = 0, threads_ran_ = 0, count_ = 0;
  uint64_t tsc_ = 0, pause_us_ = 0, scan_us_ = 0, root_bytes_ = 0, reported_blocks_ = 0, reported_bytes_ = 0;
  WorldStop world_;
  Table<StoppedThread> threads_;
  Table<HeapBlock> blocks_;
  Table<uint32_t> about_;
  Table<uint8_t> workspace_;
  Table<uint64_t> copy_;
  PageMap pages_;
  LeakRoots roots_;
  std::optional<ReachabilityMarker> marker_;
};

}  // namespace

void Start(const Heap& given) {
  heap = given;
  recorder::PrepareLeakWriter();
  is_on = true;
}

bool IsOn() { return is_on; }

bool Run(LeakTrigger trigger, const Caller& caller, const Manner& manner) {
  if (!is_on) return false;
  const uint32_t process = os::ProcessId();
  uint32_t before = user.load(std::memory_order_relaxed);
  if (before == process || !user.compare_exchange_strong(before, process, std::memory_order_acquire)) return false;
  bool looked = false;
  {
    const SignalsBlocked blocked;
    if (ThreadState* writer = manner.in_copy ? recorder::ClaimCopyWriter() : recorder::ClaimLeakWriter()) {
      const bool handed_over = Check(trigger, caller, manner, writer).Run();
      if (!handed_over && manner.in_copy) recorder::ReleaseCopyWriter(writer);
      if (!handed_over && !manner.in_copy) recorder::ReleaseLeakWriter(writer);
      looked = true;
    }
  }
  user.store(0, std::memory_order_release);
  return looked;
}

}  // namespace tidemark::leak_check
