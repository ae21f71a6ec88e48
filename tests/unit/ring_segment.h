// A session segment with both of its ends in this process: the library's writer and the collector's reader.
//
// Both use the same mapping, so that a thread sanitizer sees the chunks' words change hands. Must not: be used by two
// tests at once (the writer's side knows one session per process).
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "profiler/ring_reader.h"
#include "profiler/ring_writer.h"
#include "profiler/session_server.h"
#include "profiler/unwind.h"
#include "tests/unit/collected_events.h"

namespace tidemark {

// Everything that the reader hands out, by thread.
struct Received : RingReader::Sink {
  void OnNode(TraceStackNode node) override {
    if (!nodes.emplace(node.node, node).second) repeated_nodes++;
  }
  void OnModule(TraceModule module) override { modules.push_back(std::move(module)); }
  void OnThread(TraceThread thread) override { names[thread.serial] = thread.name; }
  void OnEvents(const EventsHeader& header, EventEncoder& encoder) override {
    const uint64_t position = uint64_t{header.chunk_sequence} << 32 | header.fragment;
    auto& last = positions[header.thread_serial];
    if (position < last) out_of_order++;
    last = position;
    std::vector<TraceEvent> more = EventsOf(header, encoder);
    auto& all = events[header.thread_serial];
    all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  }
  std::map<uint32_t, TraceStackNode> nodes;
  std::vector<TraceModule> modules;
  std::map<uint32_t, std::string> names;
  std::map<uint32_t, std::vector<TraceEvent>> events;
  std::map<uint32_t, uint64_t> positions;
  int repeated_nodes = 0, out_of_order = 0;
};

class RingSegment {
 public:
  RingSegment(Mode mode, uint64_t ring_bytes, bool stamped) {
    SessionOptions options;
    options.mode = mode;
    std::string error;
    segment_ = Segment::Create(options, ring_bytes, "tidemark-test", &error);
    if (segment_ == nullptr) return;
    auto* bytes = static_cast<uint8_t*>(segment_->base());
    SessionHeader& header = segment_->header();
    header.collector_alive.store(1);
    session = Session{&header, reinterpret_cast<ThreadSlot*>(bytes + header.thread_slots_offset),
                      reinterpret_cast<ChunkHeader*>(bytes + header.chunk_headers_offset), bytes + header.chunks_offset,
                      header.segment_bytes};
    stamp_records.store(stamped);
    reader_ = std::make_unique<RingReader>(segment_->base(), segment_->layout());
  }
  ~RingSegment() { session = Session{}; }

  SessionHeader& header() { return segment_->header(); }
  RingReader& reader() { return *reader_; }
  Received& received() { return received_; }
  uint32_t chunk_count() const { return segment_->layout().chunk_count; }
  uint32_t free_chunks() const { return reader_->FreeChunks(); }
  // `now_us` goes on by one poll.
  uint64_t Drain(RingReader::Take take = RingReader::Take::kClosed) {
    return reader_->Drain(take, now_us_ += 1000, received_);
  }
  void DrainRest() {
    while (Drain(RingReader::Take::kEverything) != 0) {
    }
  }
  // A thread's state as the recorder makes it, in slot `index`.
  std::unique_ptr<ThreadState> NewThread(uint32_t index) {
    auto thread = std::make_unique<ThreadState>();
    std::memset(static_cast<void*>(thread.get()), 0, sizeof(ThreadState));
    thread->slot = &session.slots[index];
    thread->slot_index = index;
    thread->tid = static_cast<uint32_t>(syscall(SYS_gettid));
    thread->serial = header().thread_serials.fetch_add(1) + 1;
    thread->slot->serial.store(thread->serial);
    thread->slot->owner.store(thread->tid);
    return thread;
  }

 private:
  std::unique_ptr<Segment> segment_;
  std::unique_ptr<RingReader> reader_;
  Received received_;
  uint64_t now_us_ = 0;
};

// Where a hook that is called here would begin to unwind.
__attribute__((always_inline)) inline UnwindStart Here() {
  UnwindStart here;
  __asm__ volatile("leaq 0(%%rip), %0\n\tmovq %%rsp, %1\n\tmovq %%rbp, %2"
                   : "=r"(here.ip), "=r"(here.sp), "=r"(here.bp));
  return here;
}

}  // namespace tidemark
