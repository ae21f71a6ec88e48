// The writer's side of the ring against the real reader: nothing lost, nothing torn, and what is lost is counted.
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <random>
#include <thread>

#include "profiler/os.h"
#include "profiler/recorder.h"
#include "profiler/ring_writer.h"
#include "tests/unit/ring_segment.h"

namespace tidemark {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kEventsPerThread = 20000;
#else
constexpr uint64_t kEventsPerThread = 100000;
#endif
constexpr uint32_t kThreads = 8;

// One event that names itself twice, so that a torn one is seen: the address has thread and number, the size a hash.
uint64_t AddressOf(uint32_t thread, uint64_t n) { return (uint64_t{thread} << 32 | n) << 4; }
uint64_t SizeOf(uint32_t thread, uint64_t n) {
  const uint64_t mixed = (n * 0x9e3779b97f4a7c15u) ^ thread;
  return n % 100 == 99 ? kSizeEscape + mixed % (uint64_t{1} << 35) : mixed % kSizeEscape;
}

bool PutEvent(ThreadState* thread, uint32_t name, uint64_t n) {
  if (!ReserveWords(thread, 5)) return false;
  const uint64_t size = SizeOf(name, n);
  const bool escaped = size >= kSizeEscape;
  const uint64_t time = TimeField(thread, 0, 20);
  PutWord(thread, 1 | (escaped ? kSizeEscape : size) << 8);
  PutWord(thread, AddressOf(name, n) >> 4 | time << 44);
  if (escaped) PutWord(thread, size);
  Commit(thread);
  ReleaseIfOneShot(thread);
  return true;
}

void ExpectComplete(const std::vector<TraceEvent>& events, uint32_t name, uint64_t count) {
  ASSERT_EQ(events.size(), count);
  uint64_t tsc = 0;
  for (uint64_t n = 0; n < count; n++) {
    ASSERT_EQ(events[n].address, AddressOf(name, n)) << n;
    ASSERT_EQ(events[n].size, SizeOf(name, n)) << n;
    ASSERT_GE(events[n].tsc, tsc) << n;
    tsc = events[n].tsc;
  }
}

class RingTest : public testing::TestWithParam<bool> {};  // parameter: records are stamped
INSTANTIATE_TEST_SUITE_P(Stamps, RingTest, testing::Bool(),
                         [](const auto& i) { return i.param ? "Stamped" : "Plain"; });

TEST_P(RingTest, NothingIsLostUnderStress) {
  RingSegment ring(Mode::kFull, 512 << 10, GetParam());
  ring.header().full_wait_us = 60'000'000;  // this test is about loss, not about patience
  std::vector<std::unique_ptr<ThreadState>> states;
  for (uint32_t i = 0; i < kThreads; i++) states.push_back(ring.NewThread(i));
  std::atomic<uint32_t> running{kThreads}, refused{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; i++) {
    threads.emplace_back([&, i] {
      for (uint64_t n = 0; n < kEventsPerThread; n++) refused += !PutEvent(states[i].get(), i, n);
      CloseChunk(states[i].get());
      running--;
    });
  }
  while (running != 0) {
    ring.header().tick.fetch_add(1);
    if (ring.Drain() == 0) std::this_thread::yield();
  }
  for (auto& thread : threads) thread.join();
  ring.DrainRest();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(ring.reader().damaged_chunks(), 0u);
  EXPECT_EQ(ring.received().out_of_order, 0);
  for (uint32_t i = 0; i < kThreads; i++)
    ExpectComplete(ring.received().events[states[i]->serial], i, kEventsPerThread);
  EXPECT_EQ(ring.reader().received()[kKindAlloc], kThreads * kEventsPerThread);
  EXPECT_EQ(ring.free_chunks(), ring.chunk_count());
}

// Twice as many threads as chunks: each still gets every event through, because chunks are given back at once.
TEST(Ring, MoreThreadsThanChunksTakeTurns) {
  RingSegment ring(Mode::kSampled, 256 << 10, true);
  const uint32_t count = 2 * ring.chunk_count();
  ASSERT_GE(ring.chunk_count(), 8u);
  ASSERT_LE(count, ring.header().thread_slot_count);
  std::vector<std::unique_ptr<ThreadState>> states;
  for (uint32_t i = 0; i < count; i++) states.push_back(ring.NewThread(i));
  constexpr uint64_t kRounds = 20;
  uint32_t one_shot = 0, fewest_free = ring.chunk_count();
  for (uint64_t n = 0; n < kRounds; n++) {
    for (uint32_t i = 0; i < count; i++) {
      ASSERT_TRUE(PutEvent(states[i].get(), i, n)) << "thread " << i << " round " << n;
      one_shot += states[i]->one_shot;
      fewest_free = std::min(fewest_free, ring.free_chunks());
      if (i % 4 == 3) ring.Drain();  // a collector that is always a little late
    }
  }
  EXPECT_GT(one_shot, count);
  EXPECT_GE(fewest_free, ring.chunk_count() / 2 - 5);
  ring.DrainRest();
  for (uint32_t i = 0; i < count; i++) ExpectComplete(ring.received().events[states[i]->serial], i, kRounds);
}

TEST(Ring, AnExhaustedPoolRefusesAndRecovers) {
  RingSegment ring(Mode::kSampled, 128 << 10, true);
  auto thread = ring.NewThread(0);
  uint64_t n = 0;
  while (PutEvent(thread.get(), 0, n)) n++;
  EXPECT_EQ(ring.free_chunks(), 0u);
  EXPECT_GT(n, ring.chunk_count() * 100);
  for (int i = 0; i < 3; i++) EXPECT_FALSE(PutEvent(thread.get(), 0, n));
  thread->gap_count[kKindAlloc] = 3;
  thread->gap_bytes[kKindAlloc] = 300;
  thread->gap_count[kKindFree] = 1;
  ring.Drain();
  EXPECT_EQ(ring.free_chunks(), ring.chunk_count());
  ASSERT_TRUE(PutEvent(thread.get(), 0, n));
  ring.DrainRest();
  const auto& events = ring.received().events[thread->serial];
  ASSERT_EQ(events.size(), n + 3);
  EXPECT_EQ(events[n].kind, RecordKind::kGap);
  EXPECT_EQ(events[n].gap_kind, kKindAlloc);
  EXPECT_EQ(events[n].count, 3u);
  EXPECT_EQ(events[n].size, 300u);
  EXPECT_EQ(events[n + 1].kind, RecordKind::kGap);
  EXPECT_EQ(events[n + 1].gap_kind, kKindFree);
  EXPECT_EQ(events[n + 2].address, AddressOf(0, n));
  EXPECT_EQ(thread->gap_count[kKindAlloc], 0u);
}

TEST(Ring, CompleteModeWaitsOnceThenStalls) {
  RingSegment ring(Mode::kFull, 128 << 10, true);
  ring.header().full_wait_us = 50'000;
  auto thread = ring.NewThread(0);
  const auto time_refusal = [&] {
    const uint64_t start = os::MonotonicNs();
    EXPECT_FALSE(PutEvent(thread.get(), 0, 0));
    return (os::MonotonicNs() - start) / 1000;
  };
  while (ring.free_chunks() != 0) PutEvent(thread.get(), 0, 0);
  while (thread->cursor + 5 <= thread->limit) PutEvent(thread.get(), 0, 0);
  EXPECT_GE(time_refusal(), 50'000u);
  EXPECT_LT(time_refusal(), 50'000u) << "a stalled thread must not wait at every event";
  ring.Drain();
  ASSERT_TRUE(PutEvent(thread.get(), 0, 0));
  while (ring.free_chunks() != 0) PutEvent(thread.get(), 0, 0);
  while (thread->cursor + 5 <= thread->limit) PutEvent(thread.get(), 0, 0);
  ring.header().collector_alive.store(0);
  EXPECT_LT(time_refusal(), 50'000u) << "nobody will ever free a chunk";
}

// A signal handler left a record by siglongjmp: the words that were not committed must not reach the reader.
TEST(Ring, AHalfWrittenRecordIsForgotten) {
  RingSegment ring(Mode::kSampled, 128 << 10, true);
  auto thread = ring.NewThread(0);
  for (uint64_t n = 0; n < 100; n++) {
    ASSERT_TRUE(ReserveWords(thread.get(), 5));
    PutWord(thread.get(), 1 | uint64_t{77} << 8);
    ForgetUncommitted(thread.get());
    ASSERT_TRUE(PutEvent(thread.get(), 0, n));
  }
  // Left after a chunk was claimed and before it was open.
  CloseChunk(thread.get());
  ASSERT_TRUE(ReserveWords(thread.get(), 5));
  const uint32_t free_before = ring.free_chunks();
  thread->chunk->state.store(kChunkFree);
  ForgetUncommitted(thread.get());
  EXPECT_EQ(thread->chunk, nullptr);
  EXPECT_EQ(ring.free_chunks(), free_before + 1);
  ForgetUncommitted(thread.get());
  CloseChunk(thread.get());
  ring.DrainRest();
  ExpectComplete(ring.received().events[thread->serial], 0, 100);
  EXPECT_EQ(ring.reader().damaged_chunks(), 0u);
}

TEST(Ring, ThreadsAreNamedAndLongPausesStamped) {
  RingSegment ring(Mode::kSampled, 128 << 10, true);
  auto thread = ring.NewThread(0);
  ASSERT_TRUE(PutEvent(thread.get(), 0, 0));
  const uint64_t later = os::Tsc() + (uint64_t{1} << 40);
  ASSERT_TRUE(ReserveWords(thread.get(), 5));
  const uint64_t time = TimeField(thread.get(), later, 20);
  PutWord(thread.get(), 1 | SizeOf(0, 1) << 8);
  PutWord(thread.get(), AddressOf(0, 1) >> 4 | time << 44);
  Commit(thread.get());
  ring.DrainRest();
  const auto& events = ring.received().events[thread->serial];
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].tsc, later);
  EXPECT_EQ(ring.received().names[thread->serial], "ring_test");
}

// ---- The recorder on top: threads with stacks of their own, a ring that is too small, and the books at the end.

struct Emitted {
  uint64_t calls[kKindCount] = {};
  std::vector<uint64_t> addresses;  // of allocations, in order
};

// The stack has `depth` frames of this function.
__attribute__((noinline)) void EmitBelow(uint32_t depth, uint32_t name, uint64_t n, Emitted* emitted) {
  if (depth != 0) {
    EmitBelow(depth - 1, name, n, emitted);
    __asm__ volatile("" ::: "memory");  // no tail call
    return;
  }
  const UnwindStart here = Here();
  const EventKind kind = n % 3 == 0 ? kKindAlloc : n % 3 == 1 ? kKindRealloc : kKindFree;
  const auto* block = reinterpret_cast<void*>(AddressOf(name, n));
  emitted->calls[kind]++;
  ThreadState* thread = recorder::Enter(here.sp, kind);
  if (thread == nullptr) return;
  if (kind == kKindAlloc) {
    emitted->addresses.push_back(AddressOf(name, n));
    recorder::OnAlloc(thread, Api::kMalloc, block, SizeOf(name, n), here);
  } else if (kind == kKindFree) {
    recorder::OnFree(thread, block);
  } else {
    recorder::OnRealloc(thread, Api::kRealloc, block, block, SizeOf(name, n), os::Tsc(), here);
  }
  recorder::Leave(thread);
}

// One test, since a process has one recorder.
TEST(Recorder, BooksBalanceUnderOverload) {
  const std::string name = NewSessionName();
  std::string error;
  SessionOptions session_options;
  session_options.ring_bytes = 512 << 10;
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  SessionServer server(SessionServer::Listen(name, &error), name, session_options, epoll_fd,
                       [](pid_t pid, uid_t) { return pid == getpid(); });
  Options options = ParseOptions(("mode=sampled,session=" + name).c_str());
  ASSERT_STREQ(options.error, "");
  std::vector<Attached> attached;
  recorder::Start start{};
  std::thread host([&] { start = recorder::Begin(options, nullptr, false); });
  for (int i = 0; i < 5000 && attached.empty(); i++) {
    attached = server.ServePending(0);
    usleep(1000);
  }
  host.join();
  ASSERT_EQ(start, recorder::Start::kRecording) << error;
  ASSERT_EQ(attached.size(), 1u);
  // RememberExecutable() was not called: as with no /proc, this program's module record has neither path nor build-id.
  // On the library's own mapping, as RingSegment says.
  RingReader reader(session.header, attached[0].segment->layout());
  Received received;
  session.header->collector_alive.store(1);

  std::vector<Emitted> emitted(kThreads);
  std::atomic<uint32_t> running{kThreads};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; i++) {
    threads.emplace_back([&, i] {
      std::mt19937 random(i);
      for (uint64_t n = 0; n < kEventsPerThread / 2; n++) EmitBelow(random() % 40, i, n, &emitted[i]);
      running--;
    });
  }
  uint64_t now_us = 0;
  while (running != 0) {
    session.header->tick.fetch_add(1);
    usleep(2000);  // too slow on purpose, and at first not there at all
    const SessionCounters so_far = reader.Counters();
    if (so_far.dropped[kKindAlloc] + so_far.dropped[kKindFree] + so_far.dropped[kKindRealloc] == 0) continue;
    reader.Drain(RingReader::Take::kClosed, now_us += 1000, received);
  }
  for (auto& thread : threads) thread.join();
  while (reader.Drain(RingReader::Take::kEverything, now_us += 1000, received) != 0) {
  }
  const SessionCounters counters = reader.Counters();
  EXPECT_EQ(reader.damaged_chunks(), 0u);
  EXPECT_EQ(received.out_of_order, 0);
  EXPECT_EQ(received.repeated_nodes, 0);
  EXPECT_GE(received.events.size(), 2u);  // under overload a thread may starve
  uint64_t all_dropped = 0;
  for (uint32_t kind = 0; kind < kKindCount; kind++) {
    uint64_t calls = 0;
    for (const Emitted& e : emitted) calls += e.calls[kind];
    EXPECT_EQ(calls, counters.events[kind] + counters.dropped[kind] + counters.skipped[kind]) << kind;
    EXPECT_EQ(counters.events[kind], reader.received()[kind]) << kind;
    EXPECT_GT(counters.events[kind], 0u);
    all_dropped += counters.dropped[kind];
  }
  EXPECT_GT(all_dropped, 0u) << "the ring was not overloaded: this test has tested nothing";
  uint64_t in_gaps = 0;
  uint32_t with_stack = 0;
  for (const auto& [serial, events] : received.events) {
    uint64_t last = 0;
    for (const TraceEvent& event : events) {
      if (event.kind == RecordKind::kGap) {
        in_gaps += event.count;
        continue;
      }
      const uint64_t n = event.address >> 4 & 0xffffffff;
      const auto thread = static_cast<uint32_t>(event.address >> 36);
      ASSERT_LT(thread, kThreads);
      ASSERT_TRUE(last == 0 || n > last) << "order within a thread";
      last = n;
      if (event.kind == RecordKind::kFree) continue;
      ASSERT_EQ(event.size, SizeOf(thread, n));
      uint32_t frames = 0;
      for (uint32_t node = event.node; node != 0; frames++) {
        const auto found = received.nodes.find(node);
        ASSERT_NE(found, received.nodes.end()) << "a node that nobody defined";
        ASSERT_LT(found->second.parent, node) << "parents come first";
        node = found->second.parent;
      }
      with_stack += frames >= 3;
    }
  }
  EXPECT_LE(in_gaps, all_dropped);
  EXPECT_GT(in_gaps, 0u);
  EXPECT_GT(with_stack, 1000u);
  EXPECT_GE(received.modules.size(), 2u);
  EXPECT_GE(counters.stacks, counters.events[kKindAlloc] + counters.events[kKindRealloc]);
  close(epoll_fd);
}

}  // namespace
}  // namespace tidemark
