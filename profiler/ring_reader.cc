// Scanning and ordering of chunks, and cutting their records into sections; see ring_reader.h.
//
// A drain takes chunks by (thread, sequence), not as it meets them: a scan is not a snapshot, and events of one thread
// must not be reordered. Must not: look into shared memory but by atomic loads and the one copy of a chunk's new
// records (the other side may change a byte after it was checked).
#include "profiler/ring_reader.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "profiler/record_decoder.h"

namespace tidemark {
namespace {

// A thread's records become sections when so many words wait: 50,000 to 65,000 events. Larger sections compress better,
// smaller ones keep encoder and reader in the processor's caches (docs/trace-format.md has the numbers).
constexpr size_t kSectionWords = 88 << 10;
constexpr size_t kAllWaitingWords = 4 * kSectionWords;
// How long committed data stays in an open chunk, and records in memory, before they go to the file.
constexpr uint64_t kOpenChunkPatience_us = 200'000;
constexpr uint64_t kSectionPatience_us = 1'000'000;
// A chunk is read before an older one of its thread only when that one has not turned up for so long (a writer that
// died between claiming and opening it).
constexpr uint64_t kMissingChunkPatience_us = 1'000'000;
constexpr uint32_t kChunksPerWake = 16;
// Threads that are remembered at most; a segment may claim four billion.
constexpr size_t kMaxRememberedThreads = 1 << 16;

constexpr uint64_t AlignUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

// Looks at records only for what is not an event.
struct NoEvents {
  void Alloc(uint64_t, Api, uint32_t, uint64_t, uint64_t) {}
  void Free(uint64_t, uint64_t) {}
  void Realloc(uint64_t, Api, uint32_t, uint64_t, uint64_t, uint64_t, uint64_t) {}
  void Gap(uint64_t, uint32_t, uint64_t, uint64_t) {}
  void HeapError(uint64_t, uint64_t, uint32_t, uint64_t) {}
  void Guard(uint64_t, uint32_t, const GuardReport&) {}
  void Mark(uint64_t, std::string_view) {}
};

// Passes a thread's events to the encoder, in as many sections as it takes.
class SectionCutter {
 public:
  SectionCutter(EventEncoder& encoder, RingReader::Sink& sink, uint64_t* received, uint32_t thread_serial,
                uint32_t tsc_shift, size_t max_events)
      : encoder_(encoder), sink_(sink), received_(received), tsc_shift_(tsc_shift), max_events_(max_events) {
    header_.thread_serial = thread_serial;
  }
  // `last`: the thread's last section, which is kept up to date.
  void EnterChunk(uint32_t sequence, RingReader::SectionPlace* last) {
    sequence_ = sequence;
    last_ = last;
  }
  void End() {
    if (!open_) return;
    for (uint32_t kind = 0; kind < kKindCount; ++kind) received_[kind] += encoder_.count(static_cast<EventKind>(kind));
    sink_.OnEvents(header_, encoder_);
    encoder_.Close();  // a sink without a use for the events does not
    open_ = false;
  }

  void Alloc(uint64_t tsc, Api api, uint32_t node, uint64_t size, uint64_t address) {
    MakeRoom(tsc);
    encoder_.Alloc(tsc, api, node, size, address);
  }
  void Free(uint64_t tsc, uint64_t address) {
    MakeRoom(tsc);
    encoder_.Free(tsc, address);
  }
  void Realloc(uint64_t tsc, Api api, uint32_t node, uint64_t size, uint64_t address, uint64_t old_address,
               uint64_t elapsed) {
    MakeRoom(tsc);
    encoder_.Realloc(tsc, api, node, size, address, old_address, elapsed);
  }
  void Gap(uint64_t tsc, uint32_t kind, uint64_t count, uint64_t bytes) {
    MakeRoom(tsc);
    encoder_.Gap(tsc, kind, count, bytes);
  }
  void HeapError(uint64_t tsc, uint64_t error, uint32_t node, uint64_t address) {
    MakeRoom(tsc);
    encoder_.HeapError(tsc, error, node, address);
  }
  void Guard(uint64_t tsc, uint32_t node, const GuardReport& report) {
    MakeRoom(tsc);
    encoder_.Guard(tsc, node, report);
  }
  void Mark(uint64_t tsc, std::string_view text) {
    MakeRoom(tsc);
    encoder_.Mark(tsc, text);
  }

 private:
  void MakeRoom(uint64_t tsc) {
    if (encoder_.full()) [[unlikely]]
      NewSection(tsc);
  }
  void NewSection(uint64_t tsc) {
    End();
    *last_ = {sequence_, last_->sequence == sequence_ ? last_->fragment + 1 : 0};
    header_.chunk_sequence = last_->sequence;
    header_.fragment = last_->fragment;
    encoder_.Start(max_events_, tsc, tsc_shift_);
    open_ = true;
  }

  EventEncoder& encoder_;
  RingReader::Sink& sink_;
  uint64_t* const received_;
  const uint32_t tsc_shift_;
  const size_t max_events_;
  EventsHeader header_;
  uint32_t sequence_ = 0;
  RingReader::SectionPlace* last_ = nullptr;
  bool open_ = false;
};

// Names come from the other side: keep what can be shown.
std::string NameFromWords(uint64_t w0, uint64_t w1) {
  char bytes[17] = {};
  std::memcpy(bytes, &w0, 8);
  std::memcpy(bytes + 8, &w1, 8);
  return std::string(bytes, strnlen(bytes, 16));
}

}  // namespace

SegmentLayout SegmentLayout::For(uint64_t ring_bytes, uint32_t chunk_bytes, uint32_t thread_slot_count) {
  SegmentLayout layout;
  layout.chunk_bytes = chunk_bytes;
  layout.thread_slot_count = thread_slot_count;
  layout.thread_slots_offset = AlignUp(sizeof(SessionHeader), 64);
  layout.chunk_headers_offset = layout.thread_slots_offset + uint64_t{thread_slot_count} * sizeof(ThreadSlot);
  const uint64_t fixed = layout.chunk_headers_offset + 4096;
  const uint64_t per_chunk = sizeof(ChunkHeader) + chunk_bytes;
  const uint64_t room = ring_bytes > fixed ? (ring_bytes - fixed) / per_chunk : 0;
  layout.chunk_count = static_cast<uint32_t>(std::clamp<uint64_t>(room, 4, kMaxChunks));
  layout.chunks_offset =
      AlignUp(layout.chunk_headers_offset + uint64_t{layout.chunk_count} * sizeof(ChunkHeader), 4096);
  layout.segment_bytes = AlignUp(layout.chunks_offset + uint64_t{layout.chunk_count} * chunk_bytes, 4096);
  return layout;
}

RingReader::RingReader(void* base, const SegmentLayout& layout, uint32_t tsc_shift)
    : base_(base), layout_(layout), tsc_shift_(tsc_shift), progress_(layout.chunk_count) {}

ThreadSlot& RingReader::slot(uint32_t index) const {
  return reinterpret_cast<ThreadSlot*>(static_cast<char*>(base_) + layout_.thread_slots_offset)[index];
}

ChunkHeader& RingReader::chunk(uint32_t index) const {
  return reinterpret_cast<ChunkHeader*>(static_cast<char*>(base_) + layout_.chunk_headers_offset)[index];
}

uint64_t RingReader::Drain(Take take, uint64_t now_us, Sink& sink) {
  std::vector<Ready> ready;
  const uint32_t words = (layout_.chunk_count + 63) / 64;
  for (uint32_t word = 0; word < words; ++word) {
    // Relaxed: only a hint which chunks to look at; `state` orders the content.
    uint64_t used = ~header().free_chunks[word].load(std::memory_order_relaxed);
    if (word == words - 1 && layout_.chunk_count % 64 != 0) used &= (uint64_t{1} << (layout_.chunk_count % 64)) - 1;
    for (; used != 0; used &= used - 1) {
      const uint32_t index = word * 64 + static_cast<uint32_t>(std::countr_zero(used));
      // Acquire, with the host's release on open and close: the chunk's identity is visible, and after a close its
      // final length.
      const uint32_t state = chunk(index).state.load(std::memory_order_acquire);
      if (state != kChunkOpen && state != kChunkClosed) continue;
      // Acquire, with the host's release after each record: the records before it are visible. Loaded once.
      const uint32_t committed =
          std::min(chunk(index).committed.load(std::memory_order_acquire), layout_.chunk_bytes) & ~uint32_t{7};
      Progress& progress = progress_[index];
      if (!progress.known) LearnIdentity(index, progress, sink);
      if (state == kChunkOpen && take != Take::kEverything) {
        if (committed <= progress.consumed_bytes) {
          progress.first_waiting_us = 0;
          continue;
        }
        if (progress.first_waiting_us == 0) progress.first_waiting_us = now_us;
        if (now_us - progress.first_waiting_us < kOpenChunkPatience_us) continue;
      }
      if (progress.first_waiting_us == 0) progress.first_waiting_us = now_us;
      ready.push_back({index, state, committed});
    }
  }
  std::sort(ready.begin(), ready.end(), [this](const Ready& a, const Ready& b) {
    const Progress& pa = progress_[a.chunk];
    const Progress& pb = progress_[b.chunk];
    return pa.thread_serial != pb.thread_serial ? pa.thread_serial < pb.thread_serial : pa.sequence < pb.sequence;
  });
  uint64_t taken = 0;
  for (const Ready& entry : ready) {
    // The scan is not a snapshot: while it went on, a thread may have closed a chunk that it had passed already and
    // opened one that it then met. Sequence numbers tell: such a chunk waits for the next round.
    const Progress& progress = progress_[entry.chunk];
    const Thread& thread = ThreadOf(progress.thread_serial, sink);
    if (take != Take::kEverything && thread.ordered && thread.next_sequence != progress.sequence &&
        now_us - progress.first_waiting_us < kMissingChunkPatience_us) {
      continue;
    }
    taken += TakeChunk(entry, now_us, sink);
    sink.BetweenChunks();
    if (freed_ >= kChunksPerWake) WakeWaiters();
  }
  WakeWaiters();
  EncodeOld(take == Take::kEverything, now_us, sink);
  return taken;
}

void RingReader::WakeWaiters() {
  const uint32_t freed = std::exchange(freed_, 0);
  if (freed == 0) return;
  // Pairs with the waiter's sequentially consistent increment: it sees the freed chunk, or we see it.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (header().waiters.load(std::memory_order_relaxed) == 0) return;
  header().freed_chunks.fetch_add(1, std::memory_order_seq_cst);
  constexpr int kFutexWake = 1;  // of processes that share the memory
  syscall(SYS_futex, &header().freed_chunks, kFutexWake, freed, nullptr, nullptr, 0);
}

void RingReader::LearnIdentity(uint32_t index, Progress& progress, Sink& sink) {
  const ChunkHeader& header = chunk(index);
  progress = Progress();
  progress.known = true;
  progress.thread_serial = header.thread_serial.load(std::memory_order_relaxed);
  progress.tid = header.tid.load(std::memory_order_relaxed);
  progress.sequence = header.sequence.load(std::memory_order_relaxed);
  progress.slot = header.slot.load(std::memory_order_relaxed);
  progress.first_tsc = header.first_tsc.load(std::memory_order_relaxed);
  const std::string name =
      NameFromWords(header.name[0].load(std::memory_order_relaxed), header.name[1].load(std::memory_order_relaxed));
  Thread& known = ThreadOf(progress.thread_serial, sink);
  if (!known.name.empty() && known.name == name) return;
  known.name = name;
  TraceThread thread;
  thread.serial = progress.thread_serial;
  thread.tid = progress.tid;
  thread.first_tsc = progress.first_tsc;
  thread.name = name;
  sink.OnThread(std::move(thread));
}

RingReader::Thread& RingReader::ThreadOf(uint32_t serial, Sink& sink) {
  const auto found = threads_.find(serial);
  if (found != threads_.end()) return found->second;
  if (threads_.size() >= kMaxRememberedThreads) {  // no honest process has so many threads without retired ones
    EncodeOld(true, 0, sink);
    threads_.clear();
  }
  Thread& thread = threads_[serial];
  thread.ordered = true;
  return thread;
}

uint64_t RingReader::TakeChunk(const Ready& ready, uint64_t now_us, Sink& sink) {
  Progress& progress = progress_[ready.chunk];
  const uint32_t serial = progress.thread_serial;  // FreeChunk forgets it
  Thread& thread = ThreadOf(serial, sink);
  uint64_t taken = 0;
  if (ready.committed > progress.consumed_bytes) {
    taken = ready.committed - progress.consumed_bytes;
    const auto* from =
        reinterpret_cast<const uint64_t*>(static_cast<const char*>(base_) + layout_.chunks_offset +
                                          uint64_t{ready.chunk} * layout_.chunk_bytes + progress.consumed_bytes);
    if (thread.words.empty()) thread.since_us = now_us;
    thread.words.insert(thread.words.end(), from, from + taken / 8);
    thread.runs.push_back({progress.sequence, progress.consumed_bytes == 0, progress.first_tsc, taken / 8});
    waiting_words_ += taken / 8;
    progress.consumed_bytes = ready.committed;
    progress.first_waiting_us = 0;
  }
  thread.next_sequence = progress.sequence;
  if (ready.state == kChunkClosed) {
    ++thread.next_sequence;
    FreeChunk(ready.chunk);
  }
  return taken;
}

void RingReader::FreeChunk(uint32_t index) {
  progress_[index] = Progress();
  ChunkHeader& freed = chunk(index);
  freed.committed.store(0, std::memory_order_relaxed);
  freed.state.store(kChunkFree, std::memory_order_relaxed);
  // Release, with the host's acquire when it claims the chunk: our reads of the content and the stores above are done.
  header().free_chunks[index / 64].fetch_or(uint64_t{1} << (index % 64), std::memory_order_release);
  freed_++;
}

// Hands out the nodes and modules among a thread's waiting records.
void RingReader::Scan(Thread& thread, Sink& sink) {
  NoEvents ignored;
  for (; thread.scanned_runs < thread.runs.size(); ++thread.scanned_runs) {
    const Run& run = thread.runs[thread.scanned_runs];
    if (run.starts) thread.scanned = {run.first_tsc, false};
    if (!thread.scanned.damaged) {
      thread.scanned.damaged =
          !DecodeRecords(thread.words.data() + thread.scanned_words, run.words, &thread.scanned.tsc, ignored, &sink);
    }
    thread.scanned_words += run.words;
  }
}

// Turns a thread's waiting records into sections.
void RingReader::Encode(uint32_t serial, Thread& thread, uint64_t now_us, Sink& sink) {
  // Its events may have stacks that other threads have defined, in records that are still waiting.
  for (auto& [other_serial, other] : threads_) {
    if (&other != &thread) Scan(other, sink);
  }
  SectionCutter cutter(encoder_, sink, received_, serial, tsc_shift_, thread.words.size());
  const uint64_t* at = thread.words.data();
  for (size_t i = 0; i < thread.runs.size(); ++i) {
    const Run& run = thread.runs[i];
    if (run.starts) thread.encoded = {run.first_tsc, false};
    if (!thread.encoded.damaged) {
      cutter.EnterChunk(run.sequence, &thread.last_section);
      Sink* tables = i < thread.scanned_runs ? nullptr : &sink;
      thread.encoded.damaged = !DecodeRecords(at, run.words, &thread.encoded.tsc, cutter, tables);
      if (thread.encoded.damaged) ++damaged_chunks_;
    }
    at += run.words;
  }
  cutter.End();
  waiting_words_ -= thread.words.size();
  thread.words.clear();  // keeps its memory for the next ones
  thread.runs.clear();
  thread.scanned_runs = thread.scanned_words = 0;
  thread.scanned = thread.encoded;
  thread.since_us = now_us;
}

void RingReader::EncodeOld(bool all, uint64_t now_us, Sink& sink) {
  if (waiting_words_ >= kAllWaitingWords) all = true;
  for (auto& [serial, thread] : threads_) {
    const bool old = now_us - thread.since_us >= kSectionPatience_us;
    if (!thread.words.empty() && (all || old)) {
      Encode(serial, thread, now_us, sink);
    } else if (thread.words.empty() && old && thread.words.capacity() != 0) {
      thread.words = std::vector<uint64_t>();  // idle: give the memory back
    }
  }
}

void RingReader::RetireThread(uint32_t slot_index, uint32_t owner_tid, uint64_t now_us, Sink& sink) {
  ThreadSlot& dead = slot(slot_index);
  const uint32_t serial = dead.serial.load(std::memory_order_relaxed);
  for (uint32_t index = 0; index < layout_.chunk_count; ++index) {
    // Acquire: as in Drain. The thread is gone, so what it committed is final and we may end its chunk for it.
    const uint32_t state = chunk(index).state.load(std::memory_order_acquire);
    if (state != kChunkOpen) continue;
    if (chunk(index).slot.load(std::memory_order_relaxed) != slot_index ||
        chunk(index).thread_serial.load(std::memory_order_relaxed) != serial) {
      continue;
    }
    const uint32_t committed =
        std::min(chunk(index).committed.load(std::memory_order_acquire), layout_.chunk_bytes) & ~uint32_t{7};
    if (!progress_[index].known) LearnIdentity(index, progress_[index], sink);
    TakeChunk({index, kChunkClosed, committed}, now_us, sink);
    header().open_chunks.fetch_sub(1, std::memory_order_relaxed);
  }
  WakeWaiters();
  if (Thread& thread = ThreadOf(serial, sink); !thread.words.empty()) Encode(serial, thread, now_us, sink);
  threads_.erase(serial);
  // The lowest slot first, so that short-lived threads go on using the same few.
  std::atomic<uint32_t>& hint = header().slot_hint;
  if (slot_index < hint.load(std::memory_order_relaxed)) hint.store(slot_index, std::memory_order_relaxed);
  // Release, with the acquire of the next owner's CAS: the counters it goes on adding to are as we have left them.
  dead.owner.compare_exchange_strong(owner_tid, kSlotDead, std::memory_order_release, std::memory_order_relaxed);
}

void RingReader::ForEachOwner(const std::function<void(uint32_t slot, uint32_t tid)>& visit) const {
  for (uint32_t index = 0; index < layout_.thread_slot_count; ++index) {
    const uint32_t owner = slot(index).owner.load(std::memory_order_acquire);
    if (owner != 0 && owner != kSlotDead) visit(index, owner);
  }
}

SessionCounters RingReader::Counters() const {
  SessionCounters sum;
  constexpr auto kRelaxed = std::memory_order_relaxed;
  for (uint32_t index = 0; index < layout_.thread_slot_count; ++index) {
    const ThreadSlot& s = slot(index);
    for (uint32_t kind = 0; kind < kKindCount; ++kind) {
      sum.events[kind] += s.events[kind].load(kRelaxed);
      sum.dropped[kind] += s.dropped[kind].load(kRelaxed);
      sum.skipped[kind] += s.skipped[kind].load(kRelaxed);
    }
    sum.allocated_bytes += s.allocated_bytes.load(kRelaxed);
    sum.stacks += s.stacks.load(kRelaxed);
    sum.frames_walked += s.frames_walked.load(kRelaxed);
    sum.frames_reused += s.frames_reused.load(kRelaxed);
    sum.rule_misses += s.rule_misses.load(kRelaxed);
    sum.rule_miss_ticks += s.rule_miss_ticks.load(kRelaxed);
    sum.truncated += s.truncated.load(kRelaxed);
    sum.fp_guesses += s.fp_guesses.load(kRelaxed);
    sum.timed_events += s.timed_events.load(kRelaxed);
    sum.timed_ticks += s.timed_ticks.load(kRelaxed);
  }
  const SessionHeader& h = header();
  for (uint32_t kind = 0; kind < kKindCount; ++kind) sum.dropped[kind] += h.dropped_no_slot[kind].load(kRelaxed);
  sum.foreign_frees = h.foreign_frees.load(kRelaxed);
  sum.region_full_count = h.region_full_count.load(kRelaxed);
  sum.region_full_bytes = h.region_full_bytes.load(kRelaxed);
  sum.internal_failures = h.internal_failures.load(kRelaxed);
  sum.heap_errors = h.heap_errors.load(kRelaxed);
  sum.guards_given_up = h.guards_given_up.load(kRelaxed);
  sum.stacks_checked = h.stacks_checked.load(kRelaxed);
  sum.stacks_wrong = h.stacks_wrong.load(kRelaxed);
  return sum;
}

uint32_t RingReader::FreeChunks() const {
  uint32_t free_chunks = 0;
  for (uint32_t word = 0; word < (layout_.chunk_count + 63) / 64; ++word) {
    uint64_t bits = header().free_chunks[word].load(std::memory_order_relaxed);
    if (word == layout_.chunk_count / 64) bits &= (uint64_t{1} << (layout_.chunk_count % 64)) - 1;
    free_chunks += static_cast<uint32_t>(std::popcount(bits));
  }
  return free_chunks;
}

}  // namespace tidemark
