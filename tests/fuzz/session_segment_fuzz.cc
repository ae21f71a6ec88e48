// Fuzzes the collector's reading of a session segment whose other side is hostile: the input is what that side does.
//
// One script drives both ends of one segment. The producer's part writes records as the library would, scribbles over
// any word of header, slots, chunk headers and chunks, and does so again while the reader is in the middle of a drain:
// at every call back into the sink, which is repeatable, and, in every fourth script, from a second thread the whole
// time, which is not. What the reader hands out goes through the trace's encoder and its reader, so that a hostile
// process cannot make a trace that the tools refuse.
// Must not: check what hostile events mean. Atomic stores only: the race is the reader's to survive, not ours to have.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "profiler/ring_reader.h"
#include "profiler/section_file.h"
#include "profiler/session_server.h"
#include "tools/event_decoder.h"

namespace {

using namespace tidemark;

void Require(bool condition) {
  if (!condition) abort();
}

class Script {
 public:
  Script(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool more() const { return at_ != end_; }
  uint8_t Byte() { return at_ == end_ ? 0 : *at_++; }
  uint64_t Number(size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= uint64_t{Byte()} << (8 * i);
    return value;
  }
  // Often small, sometimes extreme: what lengths, states and sequences break on.
  uint64_t Value() {
    switch (const uint8_t form = Byte(); form & 7) {
      case 0:
        return form >> 3;
      case 1:
        return ~uint64_t{0} - (form >> 3);
      case 2:
        return uint64_t{1} << (form >> 3 << 1);
      case 3:
        return Number(2);
      case 4:
        return 4096 - 16 + (form >> 3);  // around the size of a chunk
      default:
        return Number(8);
    }
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

// The segment and what the hostile side does to it.
class Hostile {
 public:
  Hostile() {
    SessionOptions options;
    std::string error;
    segment_ = Segment::Create(options, 64 << 10, "tidemark-fuzz", &error);
    Require(segment_ != nullptr);
    pristine_.assign(static_cast<const char*>(segment_->base()), layout().segment_bytes);
  }
  void Reset() { memcpy(segment_->base(), pristine_.data(), pristine_.size()); }

  const SegmentLayout& layout() const { return segment_->layout(); }
  void* base() const { return segment_->base(); }

  // One store somewhere.
  void Scribble(Script& script) {
    const uint8_t where = script.Byte();
    switch (where & 3) {
      case 0:
        return Store64(script.Number(2) * 8 % sizeof(SessionHeader), script.Value());
      case 1:
        return Store64(layout().thread_slots_offset + (where >> 2) % layout().thread_slot_count * sizeof(ThreadSlot) +
                           script.Byte() % (sizeof(ThreadSlot) / 8) * 8,
                       script.Value());
      case 2:
        return Store32(ChunkHeaderAt(where >> 2) + script.Byte() % (sizeof(ChunkHeader) / 4) * 4,
                       static_cast<uint32_t>(script.Value()));
      default:
        return Store64(ChunkAt(where >> 2) + script.Number(2) * 8 % layout().chunk_bytes, script.Value());
    }
  }

  // Claims and describes a chunk as the library does, for one of four threads.
  void Open(Script& script) {
    const uint8_t what = script.Byte();
    const uint32_t index = what % layout().chunk_count, thread = script.Byte() & 3;
    ChunkHeader& chunk = ChunkOf(index);
    segment_->header().free_chunks[index / 64].fetch_and(~(uint64_t{1} << (index % 64)));
    chunk.committed.store(0);
    chunk.thread_serial.store(thread + 1);
    chunk.tid.store(100 + thread);
    chunk.sequence.store(sequence_[thread]++ & 0xff);
    chunk.slot.store(thread);
    chunk.first_tsc.store(script.Value());
    chunk.name[0].store(script.Value());
    chunk.state.store(kChunkOpen);
    SlotOf(thread).serial.store(thread + 1);
    SlotOf(thread).owner.store(100 + thread);
    open_ = index;
  }
  void Close() { ChunkOf(open_).state.store(kChunkClosed); }

  // A record of the kind that the script wants, not always whole, behind what is committed.
  void Put(Script& script) {
    const uint8_t what = script.Byte();
    const uint64_t kind = what & 15;
    uint64_t words[40];
    size_t count = 2;
    for (uint64_t& word : words) word = 0;
    const auto fill = [&](size_t from) {
      for (size_t i = from; i < count; ++i) words[i] = script.Value();
    };
    switch (static_cast<RecordKind>(kind)) {
      case RecordKind::kFree:
      case RecordKind::kTime:
        count = 1;
        break;
      case RecordKind::kRealloc:
        count = 3 + (what >> 7);
        break;
      case RecordKind::kAlloc:
        count = 2 + (what >> 7);
        break;
      case RecordKind::kModule:
        count = 5 + (what >> 4) % 8;
        fill(1);
        words[0] = kind | count << 4 | script.Number(1) % 32 << 16 | script.Number(1) << 24;
        return Commit(words, count);
      case RecordKind::kMark:
        count = 1 + (what >> 4);
        fill(1);
        words[0] = kind | count << 4 | script.Number(1) << 16 | script.Number(2) << 32;
        return Commit(words, count);
      case RecordKind::kGuardReport:
        count = 6;
        break;
      default:
        break;
    }
    fill(0);
    words[0] = (words[0] & ~uint64_t{15}) | kind;
    Commit(words, count);
  }

  // Bytes of the input as they are.
  void PutRaw(Script& script) {
    uint64_t words[32];
    const size_t count = script.Byte() % 32;
    for (size_t i = 0; i < count; ++i) words[i] = script.Number(8);
    Commit(words, count);
  }

 private:
  void Store64(uint64_t offset, uint64_t value) {
    std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(static_cast<char*>(base()) + offset))
        .store(value, std::memory_order_relaxed);
  }
  void Store32(uint64_t offset, uint32_t value) {
    std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(static_cast<char*>(base()) + offset))
        .store(value, std::memory_order_relaxed);
  }
  uint64_t ChunkHeaderAt(uint32_t index) const {
    return layout().chunk_headers_offset + index % layout().chunk_count * sizeof(ChunkHeader);
  }
  uint64_t ChunkAt(uint32_t index) const {
    return layout().chunks_offset + uint64_t{index % layout().chunk_count} * layout().chunk_bytes;
  }
  ChunkHeader& ChunkOf(uint32_t index) const {
    return *reinterpret_cast<ChunkHeader*>(static_cast<char*>(base()) + ChunkHeaderAt(index));
  }
  ThreadSlot& SlotOf(uint32_t index) const {
    return reinterpret_cast<ThreadSlot*>(static_cast<char*>(base()) + layout().thread_slots_offset)[index];
  }
  void Commit(const uint64_t* words, size_t count) {
    ChunkHeader& chunk = ChunkOf(open_);
    const uint32_t at = chunk.committed.load() & ~7u;
    if (at > layout().chunk_bytes || count * 8 > layout().chunk_bytes - at) return Close();
    for (size_t i = 0; i < count; ++i) Store64(ChunkAt(open_) + at + i * 8, words[i]);
    chunk.committed.store(at + static_cast<uint32_t>(count * 8));
  }

  std::unique_ptr<Segment> segment_;
  std::string pristine_;
  uint32_t sequence_[4] = {};
  uint32_t open_ = 0;
};

// Scribbles over and over while it is told to. Started with the first script that wants it, and never ended: it would
// have to be made anew for every input.
class SecondThread {
 public:
  void Run(Hostile* hostile, const uint8_t* data, size_t size) {
    if (size == 0) return;
    hostile_ = hostile;
    script_.assign(data, data + size);
    if (!started_) std::thread([this] { Loop(); }).detach();
    started_ = true;
    state_.store(kRun);
    state_.notify_one();
    running_ = true;
  }
  void Stop() {
    if (!running_) return;
    running_ = false;
    uint32_t expected = kRun;
    state_.compare_exchange_strong(expected, kStop);
    while (state_.load() != kIdle) state_.wait(kStop);
  }

 private:
  enum : uint32_t { kIdle, kRun, kStop };
  void Loop() {
    for (;;) {
      state_.wait(kIdle);
      while (state_.load(std::memory_order_relaxed) == kRun) {
        Script script(script_.data(), script_.size());
        while (script.more()) hostile_->Scribble(script);
      }
      state_.store(kIdle);
      state_.notify_one();
    }
  }
  Hostile* hostile_ = nullptr;
  std::vector<uint8_t> script_;
  std::atomic<uint32_t> state_{kIdle};
  bool started_ = false, running_ = false;
};

// Takes what the reader hands out, and lets the other side act at every call.
class Sink : public RingReader::Sink {
 public:
  Sink(Hostile* hostile, Script* script) : hostile_(hostile), script_(script) {}

  void OnNode(TraceStackNode node) override {
    Require(node.node <= kMaxNodes && node.parent <= kMaxNodes && node.flags < 16);
    Act();
  }
  void OnModule(TraceModule module) override {
    Require(module.build_id.size() <= 255 && module.path.size() <= kMaxTextBytes);
    Act();
  }
  void OnThread(TraceThread thread) override {
    Require(thread.name.size() <= 16);
    Act();
  }
  void OnEvents(const EventsHeader& header, EventEncoder& encoder) override {
    uint64_t expected[kKindCount];
    for (uint32_t kind = 0; kind < kKindCount; ++kind) expected[kind] = encoder.count(static_cast<EventKind>(kind));
    const size_t events = encoder.events();
    Payload payload;
    encoder.Finish(header, &payload);
    Require(payload.bytes.size() <= kMaxEventSectionBytes);
    EventDecoder decoder;
    Require(decoder.Start(std::move(payload.bytes), &workspace_));
    TraceEvent event;
    while (decoder.Next(&event)) {
      if (event.kind == RecordKind::kAlloc) --expected[kKindAlloc];
      if (event.kind == RecordKind::kFree) --expected[kKindFree];
      if (event.kind == RecordKind::kRealloc) --expected[kKindRealloc];
    }
    Require(!decoder.failed() && decoder.events_read() == events);
    for (uint32_t kind = 0; kind < kKindCount; ++kind) {
      Require(expected[kind] == 0);
      received_[kind] += encoder.count(static_cast<EventKind>(kind));
    }
    Act();
  }
  void BetweenChunks() override { Act(); }

  const uint64_t* received() const { return received_; }

 private:
  void Act() {
    if (script_->more() && (script_->Byte() & 1) != 0) hostile_->Scribble(*script_);
  }
  Hostile* hostile_;
  Script* script_;
  EventDecoder::Workspace workspace_;
  uint64_t received_[kKindCount] = {};
};

void Play(Hostile* hostile, Script& script) {
  RingReader reader(hostile->base(), hostile->layout(), 10);
  Sink sink(hostile, &script);
  uint64_t now_us = 1'000'000;
  while (script.more()) {
    switch (script.Byte() % 10) {
      case 0:
      case 1:
        hostile->Open(script);
        break;
      case 2:
      case 3:
        hostile->Put(script);
        break;
      case 4:
        hostile->PutRaw(script);
        break;
      case 5:
        hostile->Close();
        break;
      case 6:
        hostile->Scribble(script);
        break;
      case 7:
        reader.Drain(RingReader::Take::kClosed, now_us += script.Number(2) * 64, sink);
        break;
      case 8: {
        // As RetireDeadThreads does, for one of them.
        std::vector<std::pair<uint32_t, uint32_t>> owners;
        reader.ForEachOwner([&](uint32_t slot, uint32_t tid) { owners.emplace_back(slot, tid); });
        if (owners.empty()) break;
        const auto [slot, tid] = owners[script.Byte() % owners.size()];
        reader.RetireThread(slot, tid, now_us, sink);
        break;
      }
      default:
        Require(reader.FreeChunks() <= hostile->layout().chunk_count);
        (void)reader.Counters();
        break;
    }
  }
  reader.Drain(RingReader::Take::kEverything, now_us + 1, sink);
  for (uint32_t kind = 0; kind < kKindCount; ++kind) Require(reader.received()[kind] == sink.received()[kind]);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Hostile* const hostile = new Hostile;
  static SecondThread* const second = new SecondThread;
  hostile->Reset();
  Script script(data, size);
  // The second thread goes by the end of the script, backwards from what the first one reads.
  if (script.more() && (script.Byte() & 3) == 3) second->Run(hostile, data + size / 2, size - size / 2);
  Play(hostile, script);
  second->Stop();
  return 0;
}
