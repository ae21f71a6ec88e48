// Takes records out of one session segment and decodes them.
//
// The process on the other side may be hostile, damaged or dead in the middle of a store. So: the layout comes from
// the collector's own copy, never from the segment's header; every length is loaded once and clamped; the bytes of a
// chunk are copied out of the shared memory before anything in them is looked at; a record that does not fit ends its
// chunk and is counted as damage. Memory held here has a bound, whatever the segment claims.
//
// The copies wait until they fill a section; then they go to the encoder, record by record.
//
// Context: collector process, one thread. Must not: touch files, know process ids beyond the numbers in the segment.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "profiler/event_encoder.h"
#include "profiler/session.h"
#include "profiler/trace_writer.h"

namespace tidemark {

// Constant part of a segment, decided by whoever creates it (session_server.h).
struct SegmentLayout {
  uint64_t segment_bytes = 0;
  uint32_t chunk_bytes = 0;
  uint32_t chunk_count = 0;
  uint32_t thread_slot_count = 0;
  uint64_t thread_slots_offset = 0;
  uint64_t chunk_headers_offset = 0;
  uint64_t chunks_offset = 0;

  // Layout of a segment of about `ring_bytes`, with as many chunks as fit behind headers and slots.
  static SegmentLayout For(uint64_t ring_bytes, uint32_t chunk_bytes, uint32_t thread_slot_count);
};

// Sums over all thread slots, plus what the segment's header counts.
struct SessionCounters {
  uint64_t events[kKindCount] = {};
  uint64_t dropped[kKindCount] = {};
  uint64_t skipped[kKindCount] = {};
  uint64_t allocated_bytes = 0;
  uint64_t stacks = 0, frames_walked = 0, frames_reused = 0, rule_misses = 0, truncated = 0, fp_guesses = 0;
  uint64_t stacks_checked = 0, stacks_wrong = 0, timed_events = 0, timed_ticks = 0, rule_miss_ticks = 0;
  uint64_t foreign_frees = 0, region_full_count = 0, region_full_bytes = 0, internal_failures = 0, heap_errors = 0,
           guards_given_up = 0;
};

class RingReader {
 public:
  // Where in a thread's chunks a section begins; fragments count the sections that begin in one chunk.
  struct SectionPlace {
    uint32_t sequence = 0, fragment = ~0u;  // the first one has fragment 0
  };

  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void OnNode(TraceStackNode node) = 0;
    virtual void OnModule(TraceModule module) = 0;
    virtual void OnThread(TraceThread thread) = 0;  // first chunk of a thread, or its name changed
    // Events of one thread in program order, whose section is to be finished; (chunk_sequence, fragment) of the header
    // grows from call to call of one thread. The nodes and modules that the events refer to have been handed out.
    virtual void OnEvents(const EventsHeader& header, EventEncoder& events) = 0;
    // A leak check begins, or has ended; what it found comes in between, row by row.
    virtual void OnLeakCheck(const TraceLeakCheck& /*check*/, bool /*ended*/) {}
    virtual void OnLeakRow(uint32_t /*check_number*/, const TraceLeakRow& /*row*/) {}
    // After each chunk; the place to look after something urgent.
    virtual void BetweenChunks() {}
  };

  enum class Take {
    kClosed,      // closed chunks, and open ones whose data has waited long enough
    kEverything,  // the writers are dead, or shall be believed to have stopped
  };

  // `base` is the collector's own mapping of the segment; it stays the caller's. Times are handed out in units of
  // 1 << tsc_shift ticks.
  RingReader(void* base, const SegmentLayout& layout, uint32_t tsc_shift = 0);

  // Takes what is there; frees chunks that are closed and read. Returns the bytes of records taken.
  uint64_t Drain(Take take, uint64_t now_us, Sink& sink);
  // Reads out what a thread left behind that no longer exists, frees its chunk and its slot.
  void RetireThread(uint32_t slot, uint32_t owner_tid, uint64_t now_us, Sink& sink);

  // (slot, tid) of all slots that are owned by a thread.
  void ForEachOwner(const std::function<void(uint32_t slot, uint32_t tid)>& visit) const;
  SessionCounters Counters() const;
  // Chunks that no thread holds, of all.
  uint32_t FreeChunks() const;
  // Changes when a thread found no slot.
  uint32_t slots_wanted() const { return header().slots_wanted.load(std::memory_order_relaxed); }
  // How many threads have taken a slot so far.
  uint32_t threads_started() const { return header().thread_serials.load(std::memory_order_relaxed); }

  const uint64_t* received() const { return received_; }
  uint64_t damaged_chunks() const { return damaged_chunks_; }

 private:
  // What is known about the content of a chunk since it was first seen in use.
  struct Progress {
    bool known = false;
    uint32_t thread_serial = 0;
    uint32_t tid = 0;
    uint32_t sequence = 0;
    uint32_t slot = 0;
    uint32_t consumed_bytes = 0;
    uint64_t first_tsc = 0;
    uint64_t first_waiting_us = 0;  // since when data has been waiting; 0: none does
  };
  // Consecutive words of one chunk.
  struct Run {
    uint32_t sequence = 0;  // of the chunk
    bool starts = false;    // at the chunk's beginning
    uint64_t first_tsc = 0;
    size_t words = 0;
  };
  // What is known at some place in the words of a thread.
  struct Cursor {
    uint64_t tsc = 0;
    bool damaged = false;  // the rest of the chunk is ignored
  };
  struct Thread {
    bool ordered = false;        // next_sequence is known
    uint32_t next_sequence = 0;  // of the chunk whose records come next
    std::string name;
    // Copies of records that wait to become sections.
    std::vector<uint64_t> words;
    std::vector<Run> runs;
    size_t scanned_runs = 0, scanned_words = 0;  // their nodes and modules have been handed out already
    Cursor scanned, encoded;
    uint64_t since_us = 0;  // words are waiting or, when there are none, missing
    SectionPlace last_section;
  };
  struct Ready {
    uint32_t chunk, state, committed;
  };

  SessionHeader& header() const { return *static_cast<SessionHeader*>(base_); }
  ThreadSlot& slot(uint32_t index) const;
  ChunkHeader& chunk(uint32_t index) const;

  void LearnIdentity(uint32_t index, Progress& progress, Sink& sink);
  uint64_t TakeChunk(const Ready& ready, uint64_t now_us, Sink& sink);
  void FreeChunk(uint32_t index);
  // Those that wait for a chunk, as many as were freed since the last time.
  void WakeWaiters();
  uint32_t freed_ = 0;
  Thread& ThreadOf(uint32_t serial, Sink& sink);
  void Scan(Thread& thread, Sink& sink);
  void Encode(uint32_t serial, Thread& thread, uint64_t now_us, Sink& sink);
  void EncodeOld(bool all, uint64_t now_us, Sink& sink);

  void* const base_;
  const SegmentLayout layout_;
  const uint32_t tsc_shift_;
  std::vector<Progress> progress_;
  std::unordered_map<uint32_t, Thread> threads_;
  EventEncoder encoder_;
  size_t waiting_words_ = 0;  // of all threads
  uint64_t received_[kKindCount] = {};
  uint64_t damaged_chunks_ = 0;
};

}  // namespace tidemark
