// Chunk acquisition, waiting, and time stamps; see ring_writer.h.
#include "profiler/ring_writer.h"

#include <sys/prctl.h>

#include "profiler/os.h"
#include "profiler/session_client.h"

namespace tidemark {

Session session;
std::atomic<bool> stamp_records{false};

namespace {

// More than half of the pool is held open: whoever comes now must give its chunk back after each event, so that the
// other half keeps circulating however many threads there are.
bool PoolIsCrowded() {
  return session.header->open_chunks.load(std::memory_order_relaxed) * 2 > session.header->chunk_count;
}

// Claims a free chunk; -1: none.
int64_t ClaimChunk(uint32_t hint) {
  const uint32_t words = (session.header->chunk_count + 63) / 64;
  for (uint32_t i = 0; i < words; i++) {
    const uint32_t word = (hint + i) % words;
    uint64_t bits = session.header->free_chunks[word].load(std::memory_order_relaxed);
    while (bits != 0) {
      const uint64_t bit = bits & -bits;
      // Acquire: pairs with the collector's release when it set the bit, after its last read of the chunk.
      const uint64_t before = session.header->free_chunks[word].fetch_and(~bit, std::memory_order_acquire);
      if ((before & bit) != 0) return word * 64 + __builtin_ctzll(bit);
      bits = before & ~bit;
    }
  }
  return -1;
}

// The collector's tick when a wait was in vain; 0: none was. A collector that stands still is not waited for again, by
// whatever thread, until it moves.
std::atomic<uint64_t> stalled_tick{0};

// When the collector was last asked whether it is there, and its tick then.
std::atomic<uint64_t> asked_ns{0}, asked_tick{0};

// Waiters sleep on a futex, since a thousand of them that woke up by themselves would keep the collector from its
// processor.
int64_t SleepUntilChunk(ThreadState* thread, uint32_t hint) {
  SessionHeader* header = session.header;
  // A busy machine may keep the collector from its processor for long: wait. A collector that was killed never comes
  // back: ask its socket when its clock has stood still for a while.
  constexpr uint64_t kPatience_ns = 500'000'000;
  constexpr long kSlice_ns = 100'000'000;
  const uint64_t start_ns = os::MonotonicNs();
  if (start_ns == 0 || os::IsForbidden(SYS_futex)) return -1;  // it could not tell when it has waited long enough
  const uint64_t limit_ns = header->full_wait_us * 1000;
  uint64_t last_tick = header->tick.load(std::memory_order_relaxed), last_sign_ns = start_ns;
  for (;;) {
    if (header->collector_alive.load(std::memory_order_relaxed) == 0) return -1;
    const uint32_t seen = header->freed_chunks.load(std::memory_order_seq_cst);
    const int64_t chunk = ClaimChunk(hint);
    if (chunk >= 0) return chunk;
    const uint64_t now_ns = os::MonotonicNs();
    if (now_ns - start_ns >= limit_ns) {
      thread->stalled = true;
      if (last_tick == header->tick.load(std::memory_order_relaxed))
        stalled_tick.store(last_tick, std::memory_order_relaxed);
      return -1;
    }
    const uint64_t left_ns = limit_ns - (now_ns - start_ns);
    os::WaitWhileEqual(&header->freed_chunks, seen, left_ns < kSlice_ns ? static_cast<long>(left_ns) : kSlice_ns);
    const uint64_t tick = header->tick.load(std::memory_order_relaxed);
    if (tick != last_tick) {
      last_tick = tick;
      last_sign_ns = now_ns;
    } else if (now_ns - last_sign_ns >= kPatience_ns) {
      last_sign_ns = now_ns;
      if (session.collector != nullptr && !CollectorListens(session.collector)) {
        header->collector_alive.store(0, std::memory_order_relaxed);
        return -1;
      }
    }
  }
}

int64_t WaitForChunk(ThreadState* thread, uint32_t hint) {
  SessionHeader* header = session.header;
  if ((header->mode != static_cast<uint32_t>(Mode::kFull) && !thread->waits) || thread->stalled) return -1;
  const uint64_t stalled = stalled_tick.load(std::memory_order_relaxed);
  if (stalled != 0 && stalled == header->tick.load(std::memory_order_relaxed)) return -1;
  // Sequentially consistent, with the collector's fence between freeing and looking here: either it sees us, or we see
  // what it has freed.
  header->waiters.fetch_add(1, std::memory_order_seq_cst);
  const int64_t chunk = SleepUntilChunk(thread, hint);
  header->waiters.fetch_sub(1, std::memory_order_relaxed);
  return chunk;
}

void PutGaps(ThreadState* thread) {
  for (uint32_t kind = 0; kind < kKindCount; kind++) {
    if (thread->gap_count[kind] == 0) continue;
    PutWord(thread, static_cast<uint64_t>(RecordKind::kGap) | kind << 4 | thread->gap_count[kind] << 8);
    PutWord(thread, thread->gap_bytes[kind]);
    thread->gap_count[kind] = thread->gap_bytes[kind] = 0;
  }
}

bool OpenChunk(ThreadState* thread) {
  const uint32_t hint = thread->slot_index;
  int64_t index = ClaimChunk(hint);
  if (index < 0) index = WaitForChunk(thread, hint);
  if (index < 0) return false;
  thread->stalled = false;
  ChunkHeader* chunk = &session.chunk_headers[index];
  thread->chunk = chunk;
  thread->base = reinterpret_cast<uint64_t*>(session.chunks + static_cast<size_t>(index) * session.header->chunk_bytes);
  thread->cursor = thread->base;
  thread->limit = thread->base + session.header->chunk_bytes / 8;
  thread->last_tsc = os::Tsc();
  thread->last_tick = session.header->tick.load(std::memory_order_relaxed);
  // A thread may be renamed; now and then is soon enough to ask.
  constexpr uint32_t kChunksPerName = 16;
  if (thread->next_sequence % kChunksPerName == 0) {
    os::Syscall(SYS_prctl, PR_GET_NAME, reinterpret_cast<long>(thread->name));
  }
  uint64_t words[2];
  __builtin_memcpy(words, thread->name, sizeof(words));
  chunk->name[0].store(words[0], std::memory_order_relaxed);
  chunk->name[1].store(words[1], std::memory_order_relaxed);
  chunk->committed.store(0, std::memory_order_relaxed);
  chunk->thread_serial.store(thread->serial, std::memory_order_relaxed);
  chunk->tid.store(thread->tid, std::memory_order_relaxed);
  chunk->slot.store(thread->slot_index, std::memory_order_relaxed);
  chunk->sequence.store(thread->next_sequence++, std::memory_order_relaxed);
  chunk->first_tsc.store(thread->last_tsc, std::memory_order_relaxed);
  session.header->open_chunks.fetch_add(1, std::memory_order_relaxed);
  chunk->state.store(kChunkOpen, std::memory_order_release);  // pairs with the collector's acquire load of state
  thread->one_shot = PoolIsCrowded();
  PutGaps(thread);
  return true;
}

}  // namespace

void CloseChunk(ThreadState* thread) {
  if (thread->chunk == nullptr) return;
  // In this order: whoever interrupts in between and never comes back must not leave a chunk here that is not ours.
  ChunkHeader* chunk = thread->chunk;
  thread->chunk = nullptr;
  thread->cursor = thread->limit = nullptr;
  chunk->state.store(kChunkClosed, std::memory_order_release);
  session.header->open_chunks.fetch_sub(1, std::memory_order_relaxed);
}

void ForgetUncommitted(ThreadState* thread) {
  ChunkHeader* chunk = thread->chunk;
  if (chunk == nullptr) return;
  if (chunk->state.load(std::memory_order_relaxed) == kChunkOpen) {
    thread->cursor = thread->base + chunk->committed.load(std::memory_order_relaxed) / 8;
    return;
  }
  // It was left before the chunk was open: nobody else has seen it, so it simply becomes free again.
  thread->chunk = nullptr;
  thread->cursor = thread->limit = nullptr;
  const auto index = static_cast<uint32_t>(chunk - session.chunk_headers);
  session.header->free_chunks[index / 64].fetch_or(uint64_t{1} << (index % 64), std::memory_order_release);
}

void ForgetCollector() {
  stalled_tick.store(0, std::memory_order_relaxed);
  asked_ns.store(0, std::memory_order_relaxed);
}

bool CollectorMayReturn() {
  constexpr uint64_t kBetweenQuestions_ns = 1'000'000'000;
  SessionHeader* header = session.header;
  const uint64_t now_ns = os::MonotonicNs(), tick = header->tick.load(std::memory_order_relaxed);
  uint64_t last_ns = asked_ns.load(std::memory_order_relaxed);
  if (now_ns - last_ns < kBetweenQuestions_ns) return true;
  if (!asked_ns.compare_exchange_strong(last_ns, now_ns, std::memory_order_relaxed)) return true;
  const bool moved = asked_tick.exchange(tick, std::memory_order_relaxed) != tick;
  if (moved || last_ns == 0 || session.collector == nullptr || CollectorListens(session.collector)) return true;
  header->collector_alive.store(0, std::memory_order_relaxed);
  return false;
}

bool NextChunk(ThreadState* thread) {
  CloseChunk(thread);
  return OpenChunk(thread);
}

uint64_t StampedTimeField(ThreadState* thread, uint64_t now, uint32_t bits) {
  if (now == 0) now = os::Tsc();
  const uint64_t delta = now - thread->last_tsc;
  if (static_cast<int64_t>(delta) <= 0) return 0;  // a stamp taken before the previous record was written
  thread->last_tsc = now;
  if (delta < uint64_t{1} << bits) [[likely]]
    return delta;
  PutWord(thread, static_cast<uint64_t>(RecordKind::kTime) | now << 4);
  return 0;
}

}  // namespace tidemark
