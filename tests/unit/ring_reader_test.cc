// Decoding of one segment: every record kind, order over chunks, and whatever a hostile process may leave in it.
#include "profiler/ring_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <random>

#include "profiler/session_server.h"
#include "tests/unit/collected_events.h"
#include "tests/unit/fake_producer.h"

namespace tidemark {
namespace {

struct Captured : RingReader::Sink {
  void OnNode(TraceStackNode node) override { nodes.push_back(node); }
  void OnModule(TraceModule module) override { modules.push_back(module); }
  void OnThread(TraceThread thread) override { threads.push_back(thread); }
  void OnEvents(const EventsHeader& header, EventEncoder& encoder) override {
    sections.push_back({header.thread_serial, header.chunk_sequence, header.fragment});
    const std::vector<TraceEvent> more = EventsOf(header, encoder);
    events.insert(events.end(), more.begin(), more.end());
  }
  std::vector<TraceStackNode> nodes;
  std::vector<TraceModule> modules;
  std::vector<TraceThread> threads;
  std::vector<TraceEvent> events;
  std::vector<std::array<uint32_t, 3>> sections;
};

class RingReaderTest : public testing::Test {
 protected:
  RingReaderTest() {
    std::string error;
    segment_ = Segment::Create(SessionOptions(), 256 << 10, "tidemark-test", &error);
    EXPECT_NE(segment_, nullptr) << error;
    producer_ = FakeProducer(segment_->base());
    reader_ = std::make_unique<RingReader>(segment_->base(), segment_->layout());
  }
  uint64_t DrainAll() { return reader_->Drain(RingReader::Take::kEverything, 1, sink_); }

  std::unique_ptr<Segment> segment_;
  FakeProducer producer_;
  std::unique_ptr<RingReader> reader_;
  Captured sink_;
};

// A trace that cannot be created: the events are taken and counted, and thrown away.
TEST_F(RingReaderTest, ASinkMayIgnoreSections) {
  struct Careless : Captured {
    void OnEvents(const EventsHeader& header, EventEncoder& encoder) override {
      sections.push_back({header.thread_serial, header.chunk_sequence, header.fragment});
      seen += encoder.events();
    }
    size_t seen = 0;
  } careless;
  constexpr uint64_t kThreads = 4, kEvents = 200;
  for (uint32_t i = 0; i < kThreads; ++i) {
    auto thread = producer_.NewThread(i, 42 + i);
    for (uint64_t event = 1; event <= kEvents; ++event) ASSERT_TRUE(thread.Alloc(event * 16, 100));
  }
  reader_->Drain(RingReader::Take::kEverything, 1, careless);
  EXPECT_EQ(careless.sections.size(), kThreads);
  EXPECT_EQ(careless.seen, kThreads * kEvents);
  EXPECT_EQ(reader_->received()[kKindAlloc], kThreads * kEvents);
}

TEST_F(RingReaderTest, SegmentIsSealedAndAllocated) {
  const int fd = segment_->fd();
  EXPECT_EQ(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  EXPECT_NE(ftruncate(fd, 4096), 0);
  struct stat s {};
  ASSERT_EQ(fstat(fd, &s), 0);
  EXPECT_GE(static_cast<uint64_t>(s.st_blocks) * 512, segment_->layout().segment_bytes);
  EXPECT_LE(segment_->layout().segment_bytes, 256u << 10);
  EXPECT_EQ(reader_->FreeChunks(), segment_->layout().chunk_count);
}

TEST_F(RingReaderTest, DecodesEveryRecordKind) {
  auto thread = producer_.NewThread(0, 42);
  const uint64_t address = 0x7f1234567890;
  thread.Put({4 | uint64_t{7} << 4 | uint64_t{3} << 32 | uint64_t{4} << 60, 0xabcdef});  // node 7, parent 3, signal
  thread.Put({1 | 6 << 4 | uint64_t{100} << 8 | uint64_t{7} << 36, address >> 4 | uint64_t{20} << 44});
  thread.Put({1 | kSizeEscape << 8, address >> 4, uint64_t{1} << 40});
  thread.Put({2 | (address >> 4) << 4 | uint64_t{9} << 48});
  thread.Put({5 | uint64_t{123456} << 4});
  thread.Put({3 | 2 << 4 | uint64_t{64} << 8 | uint64_t{7} << 36, 0x1000 >> 4 | uint64_t{1} << 44,
              0x2000 >> 4 | uint64_t{11} << 44});
  thread.Put({3 | kSizeEscape << 8, 0x1000 >> 4, 0x2000 >> 4, uint64_t{1} << 33});
  thread.Put({7 | 1 << 4 | uint64_t{12} << 8, 345});
  thread.Put({8 | 1 << 4 | uint64_t{7} << 36, 0x3000 >> 4});
  uint64_t text = 0;
  std::memcpy(&text, "marked", 6);
  thread.Put({9 | 3 << 4 | uint64_t{6} << 16 | uint64_t{4} << 32, 0, text});
  uint64_t path = 0;
  std::memcpy(&path, "IDpath", 6);
  thread.Put({6 | 6 << 4 | uint64_t{2} << 16 | uint64_t{4} << 24, 0x400000, 0x500000, 0x10, 33, path});
  thread.Put({0});
  EXPECT_GT(DrainAll(), 0u);
  ASSERT_EQ(sink_.nodes.size(), 1u);
  EXPECT_EQ(sink_.nodes[0].node, 7u);
  EXPECT_EQ(sink_.nodes[0].parent, 3u);
  EXPECT_EQ(sink_.nodes[0].flags, 4u);
  EXPECT_EQ(sink_.nodes[0].ip, 0xabcdefu);
  ASSERT_EQ(sink_.events.size(), 8u);
  const auto& e = sink_.events;
  EXPECT_EQ(e[0].api, Api::kPosixMemalign);
  EXPECT_EQ(e[0].size, 100u);
  EXPECT_EQ(e[0].node, 7u);
  EXPECT_EQ(e[0].address, address);
  EXPECT_EQ(e[0].tsc, 1020u);
  EXPECT_EQ(e[1].size, uint64_t{1} << 40);
  EXPECT_EQ(e[2].kind, RecordKind::kFree);
  EXPECT_EQ(e[2].address, address);
  EXPECT_EQ(e[2].tsc, 1029u);
  EXPECT_EQ(e[3].tsc, 123457u);
  EXPECT_EQ(e[3].old_address, 0x2000u);
  EXPECT_EQ(e[3].elapsed, 11u);
  EXPECT_EQ(e[4].size, uint64_t{1} << 33);
  EXPECT_EQ(e[5].kind, RecordKind::kGap);
  EXPECT_EQ(e[5].gap_kind, 1u);
  EXPECT_EQ(e[5].count, 12u);
  EXPECT_EQ(e[5].size, 345u);
  EXPECT_EQ(e[6].kind, RecordKind::kHeapError);
  EXPECT_EQ(e[6].count, 1u);
  EXPECT_EQ(e[7].text, "marked");
  ASSERT_EQ(sink_.modules.size(), 1u);
  EXPECT_EQ(sink_.modules[0].first_node, 33u);
  EXPECT_EQ(sink_.modules[0].build_id, "ID");
  EXPECT_EQ(sink_.modules[0].path, "path");
  ASSERT_EQ(sink_.threads.size(), 1u);
  EXPECT_EQ(sink_.threads[0].name, "worker");
  EXPECT_EQ(reader_->received()[kKindAlloc], 2u);
  EXPECT_EQ(reader_->received()[kKindFree], 1u);
  EXPECT_EQ(reader_->received()[kKindRealloc], 2u);
  EXPECT_EQ(reader_->damaged_chunks(), 0u);
}

TEST_F(RingReaderTest, LeavesYoungOpenChunksAloneAndFreesClosedOnes) {
  auto thread = producer_.NewThread(0, 42);
  thread.Alloc(16, 1);
  EXPECT_EQ(reader_->Drain(RingReader::Take::kClosed, 1000, sink_), 0u);
  EXPECT_EQ(reader_->Drain(RingReader::Take::kClosed, 100'000, sink_), 0u);
  EXPECT_EQ(reader_->Drain(RingReader::Take::kClosed, 300'000, sink_), 16u);
  EXPECT_EQ(reader_->FreeChunks(), segment_->layout().chunk_count - 1);
  thread.Close();
  reader_->Drain(RingReader::Take::kClosed, 300'001, sink_);
  EXPECT_EQ(reader_->FreeChunks(), segment_->layout().chunk_count);
}

// The scan meets a thread's next chunk before it has seen the one before closed: the younger one must wait.
TEST_F(RingReaderTest, KeepsTheOrderOfAThreadsChunks) {
  auto thread = producer_.NewThread(0, 42);
  thread.Alloc(16, 1);
  auto late = thread;  // sequence 0, still open
  thread.chunk = -1;
  thread.Alloc(32, 2);
  thread.Close();  // sequence 1, closed
  reader_->Drain(RingReader::Take::kClosed, 10, sink_);
  EXPECT_EQ(reader_->received()[kKindAlloc], 0u);
  late.Free(16);
  late.Close();
  reader_->Drain(RingReader::Take::kClosed, 20, sink_);
  DrainAll();
  ASSERT_EQ(sink_.events.size(), 3u);
  EXPECT_EQ(sink_.events[0].address, 16u);
  EXPECT_EQ(sink_.events[1].kind, RecordKind::kFree);
  EXPECT_EQ(sink_.events[2].address, 32u);
}

TEST_F(RingReaderTest, SectionsOfAThreadGrowInSequenceAndFragment) {
  auto thread = producer_.NewThread(0, 42);
  uint64_t now_us = 1;
  for (int i = 0; i < 40'000; ++i) {
    ASSERT_TRUE(thread.Alloc(16 + 16 * uint64_t(i), uint64_t(i)));
    if (i % 100 == 0) reader_->Drain(RingReader::Take::kClosed, now_us += 90'000, sink_);
  }
  DrainAll();
  ASSERT_EQ(sink_.events.size(), 40'000u);
  for (size_t i = 0; i < sink_.events.size(); ++i) ASSERT_EQ(sink_.events[i].size, i);
  EXPECT_GT(sink_.sections.size(), 4u);
  for (size_t i = 1; i < sink_.sections.size(); ++i) EXPECT_LT(sink_.sections[i - 1], sink_.sections[i]);
}

TEST_F(RingReaderTest, RetiresDeadThreads) {
  auto thread = producer_.NewThread(3, 42);
  thread.Alloc(16, 1);
  std::vector<uint32_t> owners;
  reader_->ForEachOwner([&](uint32_t slot, uint32_t tid) { owners = {slot, tid}; });
  EXPECT_EQ(owners, (std::vector<uint32_t>{3, 42}));
  reader_->RetireThread(3, 42, 5, sink_);
  EXPECT_EQ(sink_.events.size(), 1u);
  EXPECT_EQ(producer_.slot(3).owner.load(), kSlotDead);
  EXPECT_EQ(reader_->FreeChunks(), segment_->layout().chunk_count);
  EXPECT_EQ(reader_->Counters().events[kKindAlloc], 1u);  // counters outlive the thread
}

TEST_F(RingReaderTest, ARecordThatDoesNotFitEndsItsChunkOnly) {
  auto bad = producer_.NewThread(0, 42);
  bad.Alloc(16, 1);
  bad.Put({1});  // kAlloc needs two words
  auto good = producer_.NewThread(1, 43);
  good.Alloc(32, 2);
  DrainAll();
  EXPECT_EQ(sink_.events.size(), 2u);
  EXPECT_EQ(reader_->damaged_chunks(), 1u);
}

TEST_F(RingReaderTest, LengthsBeyondTheChunkAreClamped) {
  auto thread = producer_.NewThread(0, 42);
  thread.Alloc(16, 1);
  producer_.chunk(static_cast<uint32_t>(thread.chunk)).committed.store(0xffffffff);
  EXPECT_EQ(DrainAll(), segment_->layout().chunk_bytes);
  EXPECT_EQ(sink_.events.size(), 1u);  // the rest is zero: padding
}

TEST_F(RingReaderTest, SurvivesArbitrarySegments) {
  std::mt19937_64 random(1);
  const SegmentLayout& layout = segment_->layout();
  uint64_t events = 0;
  for (int round = 0; round < 300; ++round) {
    auto* words = static_cast<uint64_t*>(segment_->base());
    // All of it, header and slots included; every other round with plausible chunk states so that much is decoded.
    for (uint64_t i = 0; i < layout.segment_bytes / 8; ++i) words[i] = random();
    for (uint64_t i = layout.chunks_offset / 8; i < layout.segment_bytes / 8; ++i) {
      if (round % 3 != 0) words[i] = (words[i] & ~uint64_t{15}) | random() % 10;
    }
    auto* chunks = reinterpret_cast<ChunkHeader*>(static_cast<char*>(segment_->base()) + layout.chunk_headers_offset);
    for (uint32_t i = 0; i < layout.chunk_count; ++i) {
      if (round % 2 == 0) continue;
      chunks[i].state.store(1 + random() % 2);
      chunks[i].committed.store(static_cast<uint32_t>(random() % 5000));
      chunks[i].thread_serial.store(static_cast<uint32_t>(random() % 5));
    }
    reader_->Drain(round % 2 ? RingReader::Take::kEverything : RingReader::Take::kClosed,
                   static_cast<uint64_t>(round) * 1'000'000, sink_);
    reader_->RetireThread(static_cast<uint32_t>(random() % layout.thread_slot_count), 1, 1, sink_);
    reader_->ForEachOwner([](uint32_t, uint32_t) {});
    events += sink_.events.size();
    sink_ = Captured();
  }
  EXPECT_GT(events, 1000u);
  EXPECT_GT(reader_->damaged_chunks(), 100u);
}

}  // namespace
}  // namespace tidemark
