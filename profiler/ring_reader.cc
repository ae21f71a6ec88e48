// Scanning, ordering and decoding of chunks; see ring_reader.h.
//
// A drain takes chunks by (thread, sequence), not as it meets them: a scan is not a snapshot, and events of one thread
// must not be reordered. Must not: look into shared memory but by atomic loads and the one copy of a chunk's new
// records (the other side may change a byte after it was checked).
#include "profiler/ring_reader.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

namespace tidemark {
namespace {

// A section of this many events compresses well, and a reader that merges many threads keeps one of them per thread.
constexpr size_t kBatchEvents = 8192;
constexpr size_t kAllBatchedEvents = 16 * kBatchEvents;
// How long committed data stays in an open chunk, and decoded events in memory, before they go to the file.
constexpr uint64_t kOpenChunkPatience_us = 200'000;
constexpr uint64_t kBatchPatience_us = 1'000'000;
// A chunk is read before an older one of its thread only when that one has not turned up for so long (a writer that
// died between claiming and opening it).
constexpr uint64_t kMissingChunkPatience_us = 1'000'000;
// Threads that are remembered at most; a segment may claim four billion.
constexpr size_t kMaxRememberedThreads = 1 << 16;

constexpr uint64_t AlignUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

constexpr uint64_t Bits(uint64_t word, unsigned first, unsigned count) {
  return (word >> first) & ((uint64_t{1} << count) - 1);
}
constexpr uint64_t Address(uint64_t word, unsigned first) { return Bits(word, first, 44) << 4; }

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

RingReader::RingReader(void* base, const SegmentLayout& layout)
    : base_(base), layout_(layout), progress_(layout.chunk_count) {
  words_.reserve(layout.chunk_bytes / 8);
}

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
  }
  FlushOldBatches(take == Take::kEverything, now_us, sink);
  return taken;
}

void RingReader::LearnIdentity(uint32_t index, Progress& progress, Sink& sink) {
  const ChunkHeader& header = chunk(index);
  progress = Progress();
  progress.known = true;
  progress.thread_serial = header.thread_serial.load(std::memory_order_relaxed);
  progress.tid = header.tid.load(std::memory_order_relaxed);
  progress.sequence = header.sequence.load(std::memory_order_relaxed);
  progress.slot = header.slot.load(std::memory_order_relaxed);
  progress.tsc = header.first_tsc.load(std::memory_order_relaxed);
  const std::string name =
      NameFromWords(header.name[0].load(std::memory_order_relaxed), header.name[1].load(std::memory_order_relaxed));
  Thread& known = ThreadOf(progress.thread_serial, sink);
  if (!known.name.empty() && known.name == name) return;
  known.name = name;
  TraceThread thread;
  thread.serial = progress.thread_serial;
  thread.tid = progress.tid;
  thread.first_tsc = progress.tsc;
  thread.name = name;
  sink.OnThread(std::move(thread));
}

RingReader::Thread& RingReader::ThreadOf(uint32_t serial, Sink& sink) {
  const auto found = threads_.find(serial);
  if (found != threads_.end()) return found->second;
  if (threads_.size() >= kMaxRememberedThreads) {  // no honest process has so many threads without retired ones
    FlushOldBatches(true, 0, sink);
    threads_.clear();
  }
  Thread& thread = threads_[serial];
  thread.ordered = true;
  return thread;
}

uint64_t RingReader::TakeChunk(const Ready& ready, uint64_t now_us, Sink& sink) {
  Progress& progress = progress_[ready.chunk];
  Thread& thread = ThreadOf(progress.thread_serial, sink);
  uint64_t taken = 0;
  if (ready.committed > progress.consumed_bytes && !progress.damaged) {
    const size_t bytes = ready.committed - progress.consumed_bytes;
    words_.resize(bytes / 8);
    std::memcpy(words_.data(),
                static_cast<const char*>(base_) + layout_.chunks_offset + uint64_t{ready.chunk} * layout_.chunk_bytes +
                    progress.consumed_bytes,
                bytes);
    progress.consumed_bytes = ready.committed;
    progress.first_waiting_us = 0;
    Decode(words_.data(), words_.size(), progress, thread, now_us, sink);
    if (progress.damaged) ++damaged_chunks_;
    taken = bytes;
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
}

TraceEvent& RingReader::NewEvent(RecordKind kind, Progress& progress, Thread& thread, uint64_t now_us, Sink& sink) {
  if (thread.batch.size() >= kBatchEvents) FlushBatch(progress.thread_serial, thread, sink);
  if (thread.batch.empty()) {
    thread.batch_sequence = progress.sequence;
    thread.batch_fragment = progress.fragment++;
    thread.batch_since_us = now_us;
  }
  ++batched_events_;
  TraceEvent& event = thread.batch.emplace_back();
  event.kind = kind;
  event.tsc = progress.tsc;
  return event;
}

void RingReader::Decode(const uint64_t* words, size_t count, Progress& progress, Thread& thread, uint64_t now_us,
                        Sink& sink) {
  size_t at = 0;
  // Words of the record at `at`, when that many are there; else the chunk is damaged.
  const auto have = [&](size_t needed) {
    if (count - at >= needed) return true;
    progress.damaged = true;
    return false;
  };
  while (at < count && !progress.damaged) {
    const uint64_t w0 = words[at];
    switch (static_cast<RecordKind>(w0 & 15)) {
      case RecordKind::kPad:
        ++at;
        if (w0 != 0) progress.damaged = true;
        break;
      case RecordKind::kAlloc: {
        const uint64_t size = Bits(w0, 8, kSizeBits);
        const size_t length = size == kSizeEscape ? 3 : 2;
        if (!have(length)) break;
        progress.tsc += Bits(words[at + 1], 44, 20);
        TraceEvent& event = NewEvent(RecordKind::kAlloc, progress, thread, now_us, sink);
        event.api = static_cast<Api>(Bits(w0, 4, 4));
        event.node = static_cast<uint32_t>(Bits(w0, 36, kNodeBits));
        event.address = Address(words[at + 1], 0);
        event.size = length == 3 ? words[at + 2] : size;
        ++received_[kKindAlloc];
        at += length;
        break;
      }
      case RecordKind::kFree: {
        progress.tsc += Bits(w0, 48, 16);
        NewEvent(RecordKind::kFree, progress, thread, now_us, sink).address = Address(w0, 4);
        ++received_[kKindFree];
        ++at;
        break;
      }
      case RecordKind::kRealloc: {
        const uint64_t size = Bits(w0, 8, kSizeBits);
        const size_t length = size == kSizeEscape ? 4 : 3;
        if (!have(length)) break;
        progress.tsc += Bits(words[at + 1], 44, 20);
        TraceEvent& event = NewEvent(RecordKind::kRealloc, progress, thread, now_us, sink);
        event.api = static_cast<Api>(Bits(w0, 4, 4));
        event.node = static_cast<uint32_t>(Bits(w0, 36, kNodeBits));
        event.address = Address(words[at + 1], 0);
        event.old_address = Address(words[at + 2], 0);
        event.elapsed = Bits(words[at + 2], 44, 20);
        event.size = length == 4 ? words[at + 3] : size;
        ++received_[kKindRealloc];
        at += length;
        break;
      }
      case RecordKind::kNode:
        if (!have(2)) break;
        sink.OnNode({static_cast<uint32_t>(Bits(w0, 4, kNodeBits)), static_cast<uint32_t>(Bits(w0, 32, kNodeBits)),
                     static_cast<uint32_t>(Bits(w0, 60, 4)), words[at + 1]});
        at += 2;
        break;
      case RecordKind::kTime:
        progress.tsc = w0 >> 4;
        ++at;
        break;
      case RecordKind::kModule: {
        const size_t length = Bits(w0, 4, 12);
        const size_t build_id_bytes = Bits(w0, 16, 8);
        const size_t path_bytes = Bits(w0, 24, 16);
        constexpr size_t kFixedWords = 5;
        if (length < kFixedWords || build_id_bytes + path_bytes > (length - kFixedWords) * 8) {
          progress.damaged = true;
          break;
        }
        if (!have(length)) break;
        const char* text = reinterpret_cast<const char*>(words + at + kFixedWords);
        TraceModule module;
        module.start = words[at + 1];
        module.end = words[at + 2];
        module.load_bias = words[at + 3];
        module.first_tsc = progress.tsc;
        module.first_node = static_cast<uint32_t>(words[at + 4]);
        module.build_id.assign(text, build_id_bytes);
        module.path.assign(text + build_id_bytes, path_bytes);
        sink.OnModule(std::move(module));
        at += length;
        break;
      }
      case RecordKind::kGap: {
        if (!have(2)) break;
        TraceEvent& event = NewEvent(RecordKind::kGap, progress, thread, now_us, sink);
        event.gap_kind = static_cast<uint32_t>(Bits(w0, 4, 4));
        event.count = w0 >> 8;
        event.size = words[at + 1];
        at += 2;
        break;
      }
      case RecordKind::kHeapError: {
        if (!have(2)) break;
        progress.tsc += Bits(words[at + 1], 44, 20);
        TraceEvent& event = NewEvent(RecordKind::kHeapError, progress, thread, now_us, sink);
        event.count = Bits(w0, 4, 4);
        event.node = static_cast<uint32_t>(Bits(w0, 36, kNodeBits));
        event.address = Address(words[at + 1], 0);
        at += 2;
        break;
      }
      case RecordKind::kMark: {
        const size_t length = Bits(w0, 4, 12);
        const size_t bytes = Bits(w0, 16, 16);
        const size_t text_words = (bytes + 7) / 8;
        if (length < 1 + text_words) {
          progress.damaged = true;
          break;
        }
        if (!have(length)) break;
        progress.tsc += Bits(w0, 32, 32);
        // The text ends the record, whatever stands between it and word 0.
        NewEvent(RecordKind::kMark, progress, thread, now_us, sink)
            .text.assign(reinterpret_cast<const char*>(words + at + length - text_words), bytes);
        at += length;
        break;
      }
      default:
        progress.damaged = true;
        break;
    }
  }
}

void RingReader::FlushBatch(uint32_t serial, Thread& thread, Sink& sink) {
  if (thread.batch.empty()) return;
  batched_events_ -= thread.batch.size();
  sink.OnEvents(serial, thread.batch_sequence, thread.batch_fragment, thread.batch);
  thread.batch.clear();  // keeps its memory for the next ones
}

void RingReader::FlushOldBatches(bool all, uint64_t now_us, Sink& sink) {
  if (batched_events_ >= kAllBatchedEvents) all = true;
  for (auto& [serial, thread] : threads_) {
    if (thread.batch.empty()) {
      thread.batch = std::vector<TraceEvent>();  // idle since the last flush: give the memory back
    } else if (all || now_us - thread.batch_since_us >= kBatchPatience_us) {
      FlushBatch(serial, thread, sink);
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
  }
  FlushBatch(serial, ThreadOf(serial, sink), sink);
  threads_.erase(serial);
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
    sum.truncated += s.truncated.load(kRelaxed);
    sum.fp_guesses += s.fp_guesses.load(kRelaxed);
  }
  const SessionHeader& h = header();
  for (uint32_t kind = 0; kind < kKindCount; ++kind) sum.dropped[kind] += h.dropped_no_slot[kind].load(kRelaxed);
  sum.foreign_frees = h.foreign_frees.load(kRelaxed);
  sum.region_full_count = h.region_full_count.load(kRelaxed);
  sum.region_full_bytes = h.region_full_bytes.load(kRelaxed);
  sum.internal_failures = h.internal_failures.load(kRelaxed);
  sum.heap_errors = h.heap_errors.load(kRelaxed);
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
