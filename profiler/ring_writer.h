// The writer's side of the ring: takes chunks from the pool of the shared segment and commits records into them.
//
// A chunk belongs to one thread from the moment its bit in free_chunks was cleared until the thread closes it or dies.
// Records are stored plainly and become visible by one release store of `committed`; the collector's acquire load of
// it is the partner. Nothing is published twice and nothing needs a lock: a writer that dies leaves a chunk whose
// committed length is right.
//
// Context: any thread, signal-safe under the recorder's guard, no allocation. System calls only when a chunk is taken
// (thread name) and while waiting for one (complete mode, bounded).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profiler/session.h"
#include "profiler/thread_state.h"

namespace tidemark {

// The mapped segment. Zero-initialised: no session.
struct Session {
  SessionHeader* header = nullptr;
  ThreadSlot* slots = nullptr;
  ChunkHeader* chunk_headers = nullptr;
  uint8_t* chunks = nullptr;
  size_t bytes = 0;
  const char* collector = nullptr;  // name of its socket; nullptr: unknown
};
extern Session session __attribute__((visibility("hidden")));

// True when more than one thread records: from then on records carry time stamps, which put threads in order. Relaxed:
// a record more or less without a stamp does no harm.
extern std::atomic<bool> stamp_records __attribute__((visibility("hidden")));

// A new session: what is known of the old one's collector is forgotten.
void ForgetCollector();
// Sampled mode, after an event was dropped, since it never waits: false when the collector is gone for good. Asks at
// most once a second, and only a collector that has not moved since.
bool CollectorMayReturn();
// Takes a new chunk. False: none to be had; nothing was counted.
bool NextChunk(ThreadState* thread);
inline bool HasRoom(const ThreadState* thread, uint32_t words) {
  return thread->cursor + words <= thread->limit;  // both null: no chunk
}
// Makes room for `words` words in the thread's chunk. False: none to be had; nothing was counted.
inline bool ReserveWords(ThreadState* thread, uint32_t words) {
  if (HasRoom(thread, words)) [[likely]]
    return true;
  return NextChunk(thread);
}
// The thread left the middle of a record by longjmp: forgets the words that were not committed.
void ForgetUncommitted(ThreadState* thread);
// Gives the chunk to the collector.
void CloseChunk(ThreadState* thread);

inline void PutWord(ThreadState* thread, uint64_t word) { *thread->cursor++ = word; }
inline void Commit(ThreadState* thread) {
  thread->chunk->committed.store(static_cast<uint32_t>((thread->cursor - thread->base) * 8), std::memory_order_release);
}

// Ends a group of records: gives the chunk back when the thread must not keep it.
inline void ReleaseIfOneShot(ThreadState* thread) {
  if (thread->one_shot) [[unlikely]]
    CloseChunk(thread);
}

uint64_t StampedTimeField(ThreadState* thread, uint64_t now, uint32_t bits);
// The time field of the next record, `bits` wide; emits a kTime record first when it does not fit, so call it with
// two words of room more than the record needs. `now`: TSC of the event, or 0 for "now, if time is due".
inline uint64_t TimeField(ThreadState* thread, uint64_t now, uint32_t bits) {
  if (!stamp_records.load(std::memory_order_relaxed)) {
    // One thread: order is implicit. Only when the collector's coarse clock moved is a stamp due.
    const uint64_t tick = session.header->tick.load(std::memory_order_relaxed);
    if (tick == thread->last_tick) [[likely]]
      return 0;
    thread->last_tick = tick;
  }
  return StampedTimeField(thread, now, bits);
}

}  // namespace tidemark
