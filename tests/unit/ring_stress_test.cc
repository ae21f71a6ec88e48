// Recorder, ring, stack table, collector's reader and the handshake under everything at once, for a thread sanitizer to
// watch: threads that come and go and leave their chunks open, slots and chunks that change hands, a collector that
// polls, marks, heap errors, tables that are emptied because modules changed. At the end the books must balance.
//
// What the kernel orders in real life, a thread's last store and the collector's finding that it is gone, is ordered by
// a join and a lock here, since a sanitizer does not see the kernel. Must not: wait for a time that a busy machine
// might need longer than.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "profiler/os.h"
#include "profiler/recorder.h"
#include "profiler/ring_writer.h"
#include "profiler/rule_cache.h"
#include "profiler/session_client.h"
#include "profiler/stack_table.h"
#include "tests/unit/fake_producer.h"
#include "tests/unit/ring_segment.h"

namespace tidemark {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint32_t kThreadsPerLane = 12, kEventsPerThread = 900;
#else
constexpr uint32_t kThreadsPerLane = 40, kEventsPerThread = 4000;
#endif
constexpr uint32_t kLanes = 5;  // threads that are alive at a time

// What one thread asked for, and what it was given for that.
struct Emitted {
  uint64_t calls[kKindCount] = {};
  uint64_t marks = 0, errors = 0;
  uint32_t serial = 0, slot = 0, tid = 0;
};

// The n-th event of a thread is told by its address: lane and generation above, n below.
uint64_t AddressOf(uint32_t name, uint64_t n) { return (uint64_t{name} << 20 | n) << 4; }

__attribute__((noinline)) void EmitBelow(uint32_t depth, uint32_t name, uint64_t n, Emitted* emitted) {
  if (depth != 0) {
    EmitBelow(depth - 1, name, n, emitted);
    __asm__ volatile("" ::: "memory");  // no tail call
    return;
  }
  const UnwindStart here = Here();
  const auto kind = static_cast<EventKind>(n % kKindCount);
  const auto* block = reinterpret_cast<void*>(AddressOf(name, n));
  emitted->calls[kind]++;
  ThreadState* thread = recorder::Enter(here.sp, kind);
  if (thread == nullptr) return;
  emitted->serial = thread->serial;
  emitted->slot = thread->slot_index;
  emitted->tid = thread->tid;
  if (kind == kKindAlloc) {
    recorder::OnAlloc(thread, Api::kMalloc, block, n + 1, here);
  } else if (kind == kKindFree) {
    recorder::OnFree(thread, block);
  } else {
    recorder::OnRealloc(thread, Api::kRealloc, block, block, n + 1, os::Tsc(), here);
  }
  if (n % 50 == 7) {
    recorder::OnMark(thread, "a mark of the stress");
    emitted->marks++;
  }
  if (n % 97 == 11) {
    recorder::OnHeapError(thread, HeapError::kDoubleFree, block, here);
    emitted->errors++;
  }
  // As when a module takes the addresses of another one, while the other threads walk and name stacks.
  if (n % 301 == 300) ResetStackTable(false);
  if (n % 401 == 400) FollowGeneration(uint64_t{name} << 32 | n);
  recorder::Leave(thread);
}

class Collecting {
 public:
  explicit Collecting(const SegmentLayout& layout) : reader_(session.header, layout) {
    thread_ = std::thread([this] { Run(); });
  }
  // A thread that was joined: as far as this process can tell it is gone.
  void Departed(uint32_t slot, uint32_t tid) {
    const std::lock_guard<std::mutex> lock(mutex_);
    departed_.emplace_back(slot, tid);
  }
  void Finish() {
    stop_ = true;
    thread_.join();
    RetireDeparted();
    while (reader_.Drain(RingReader::Take::kEverything, now_us_ += 1000, received_) != 0) {
    }
  }
  RingReader& reader() { return reader_; }
  Received& received() { return received_; }
  uint64_t retired() const { return retired_; }

 private:
  void Run() {
    while (!stop_) {
      session.header->tick.fetch_add(1, std::memory_order_relaxed);
      const uint64_t taken = reader_.Drain(RingReader::Take::kClosed, now_us_ += 1000, received_);
      reader_.Counters();
      RetireDeparted();
      if (taken == 0) std::this_thread::yield();
    }
  }
  void RetireDeparted() {
    std::vector<std::pair<uint32_t, uint32_t>> dead;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      dead.swap(departed_);
    }
    if (dead.empty()) return;
    reader_.Drain(RingReader::Take::kClosed, now_us_ += 1000, received_);
    for (const auto& [slot, tid] : dead) reader_.RetireThread(slot, tid, now_us_, received_);
    retired_ += dead.size();
  }

  RingReader reader_;
  Received received_;
  uint64_t now_us_ = 0, retired_ = 0;
  std::mutex mutex_;
  std::vector<std::pair<uint32_t, uint32_t>> departed_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// One test, since a process has one recorder.
TEST(RingStress, BooksBalanceWhileThreadsComeAndGo) {
  const std::string name = NewSessionName();
  std::string error;
  SessionOptions session_options;
  session_options.mode = Mode::kFull;
  session_options.ring_bytes = 512 << 10;
  session_options.full_wait_us = 60'000'000;  // this is about races, not about patience
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  SessionServer server(SessionServer::Listen(name, &error), name, session_options, epoll_fd,
                       [](pid_t pid, uid_t) { return pid == getpid(); });
  const Options options = ParseOptions(("mode=full,session=" + name).c_str());
  std::vector<Attached> attached;
  recorder::Start start{};
  std::thread host([&] { start = recorder::Begin(options, nullptr, false); });
  for (int i = 0; i < 10000 && attached.empty(); i++) {
    attached = server.ServePending(0);
    usleep(1000);
  }
  host.join();
  ASSERT_EQ(start, recorder::Start::kRecording) << error;
  session.header->collector_alive.store(1);
  Collecting collecting(attached[0].segment->layout());

  std::mutex mutex;
  std::vector<Emitted> all;
  std::vector<std::thread> lanes;
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    lanes.emplace_back([&, lane] {
      for (uint32_t k = 0; k < kThreadsPerLane; k++) {
        Emitted emitted;
        std::thread worker([&emitted, id = lane * kThreadsPerLane + k + 1] {
          std::mt19937 random(id);
          for (uint64_t n = 0; n < kEventsPerThread; n++) EmitBelow(random() % 50, id, n, &emitted);
        });
        worker.join();
        collecting.Departed(emitted.slot, emitted.tid);
        const std::lock_guard<std::mutex> lock(mutex);
        all.push_back(emitted);
      }
    });
  }
  for (auto& lane : lanes) lane.join();
  collecting.Finish();

  RingReader& reader = collecting.reader();
  const Received& received = collecting.received();
  const SessionCounters counters = reader.Counters();
  EXPECT_EQ(all.size(), size_t{kLanes} * kThreadsPerLane);
  EXPECT_EQ(collecting.retired(), all.size());
  EXPECT_EQ(reader.damaged_chunks(), 0u);
  EXPECT_EQ(received.out_of_order, 0);
  EXPECT_EQ(received.repeated_nodes, 0);
  EXPECT_EQ(reader.FreeChunks(), attached[0].segment->layout().chunk_count) << "a chunk was lost";
  EXPECT_EQ(session.header->open_chunks.load(), 0u);
  EXPECT_EQ(session.header->waiters.load(), 0u);
  uint32_t most_slots = 0;
  for (uint32_t kind = 0; kind < kKindCount; kind++) {
    uint64_t calls = 0;
    for (const Emitted& emitted : all) calls += emitted.calls[kind];
    EXPECT_EQ(calls, counters.events[kind] + counters.dropped[kind] + counters.skipped[kind]) << kind;
    EXPECT_EQ(counters.events[kind], reader.received()[kind]) << kind;
    EXPECT_EQ(counters.dropped[kind] + counters.skipped[kind], 0u) << "nobody was slow, nothing was nested";
  }
  for (const Emitted& emitted : all) {
    most_slots = std::max(most_slots, emitted.slot + 1);
    const auto events = received.events.find(emitted.serial);
    ASSERT_NE(events, received.events.end());
    uint64_t n = 0, marks = 0, errors = 0;
    for (const TraceEvent& event : events->second) {
      marks += event.kind == RecordKind::kMark;
      errors += event.kind == RecordKind::kHeapError;
      if (event.kind == RecordKind::kMark || event.kind == RecordKind::kHeapError) continue;
      ASSERT_EQ(event.address >> 4 & 0xfffff, n) << "order within a thread";
      n++;
      if (event.kind == RecordKind::kFree) continue;
      uint32_t frames = 0;
      for (uint32_t node = event.node; node != 0; frames++) {
        const auto found = received.nodes.find(node);
        ASSERT_NE(found, received.nodes.end()) << "a node that nobody defined";
        ASSERT_LT(found->second.parent, node) << "parents come first";
        node = found->second.parent;
      }
      ASSERT_GE(frames, 2u);
    }
    EXPECT_EQ(n, kEventsPerThread);
    EXPECT_EQ(marks, emitted.marks);
    EXPECT_EQ(errors, emitted.errors);
  }
  EXPECT_LT(most_slots, all.size()) << "no slot was used twice: this test has tested nothing";
  close(epoll_fd);
}

// Many processes (threads here) attach, write, and leave their segments to the collector; some are refused. The first
// one asks as the library does, which a process does once at a time, the others by hand.
TEST(HandshakeStress, EverySegmentIsReadToItsEnd) {
  constexpr uint32_t kThreads = 6, kAttaches = 12;
  constexpr uint64_t kEvents = 500;
  const std::string name = NewSessionName();
  std::string error;
  SessionOptions options;
  options.ring_bytes = 128 << 10;
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  uint32_t asked = 0;
  SessionServer server(SessionServer::Listen(name, &error), name, options, epoll_fd,
                       [&asked](pid_t, uid_t) { return ++asked % 5 != 0; });
  std::atomic<uint32_t> running{kThreads}, given{0}, refused{0};
  std::atomic<uint64_t> written{0};
  std::vector<Session> sessions(kAttaches);  // unmapped at the end: a sanitizer does not see raw system calls
  const auto attach = [&](uint32_t thread, uint32_t k) -> std::optional<FakeProducer> {
    FakeProducer producer;
    if (thread != 0 && producer.Attach(name, k % 2 == 1)) return producer;
    if (thread != 0 || AttachToCollector(name.c_str(), k % 2 == 1, false, &sessions[k]) != Attach::kAttached) return {};
    return FakeProducer(sessions[k].header);
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; i++) {
    threads.emplace_back([&, i] {
      for (uint32_t k = 0; k < kAttaches; k++) {
        std::optional<FakeProducer> producer = attach(i, k);
        ++(producer ? given : refused);
        if (!producer) continue;
        FakeProducer::Thread thread = producer->MainThread();
        for (uint64_t n = 0; n < kEvents; n++) written += thread.Alloc((n + 1) << 4, 64);
        thread.Close();
        producer->header().exiting.store(1, std::memory_order_release);
      }
      running--;
    });
  }
  struct Live {
    Attached attached;
    std::unique_ptr<RingReader> reader;
    Received received;
  };
  std::vector<std::unique_ptr<Live>> live;
  uint64_t now_us = 0;
  const auto poll = [&](RingReader::Take take) {
    for (Attached& attached : server.ServePending(live.size())) {
      live.push_back(std::make_unique<Live>());
      live.back()->attached = std::move(attached);
      const Segment& segment = *live.back()->attached.segment;
      live.back()->reader = std::make_unique<RingReader>(segment.base(), segment.layout());
    }
    now_us += 1000;
    for (auto& one : live) one->reader->Drain(take, now_us, one->received);
    server.Idle(now_us, live.size());
  };
  while (running != 0) {
    poll(RingReader::Take::kClosed);
    std::this_thread::yield();
  }
  for (auto& thread : threads) thread.join();
  poll(RingReader::Take::kEverything);
  for (Session& session : sessions) DetachSession(&session);
  EXPECT_EQ(given + refused, kThreads * kAttaches);
  EXPECT_EQ(live.size(), given);
  EXPECT_EQ(server.refused(), refused) << "somebody was not answered in time";
  EXPECT_GT(refused, 0u);
  uint64_t read = 0;
  for (auto& one : live) {
    EXPECT_EQ(one->attached.segment->header().exiting.load(std::memory_order_acquire), 1u);
    EXPECT_EQ(one->reader->damaged_chunks(), 0u);
    read += one->reader->received()[kKindAlloc];
  }
  EXPECT_EQ(read, written);
  EXPECT_EQ(read, given * kEvents);
  close(epoll_fd);
}

}  // namespace
}  // namespace tidemark
