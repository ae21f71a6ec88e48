// Row I4: the process at the other end of a segment writes whatever it likes, while it is read.
//
// The fuzz target session_segment looks for cleverer attacks; here is the plain one, in two threads, and what the
// kernel promises about the segment itself. Must not: run under TSan; the race is the test.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "profiler/ring_reader.h"
#include "profiler/session_server.h"
#include "tests/unit/collected_events.h"

namespace tidemark {
namespace {

constexpr uint64_t kRingBytes = 256 << 10;

std::unique_ptr<Segment> NewSegment() {
  std::string error;
  std::unique_ptr<Segment> segment = Segment::Create(SessionOptions(), kRingBytes, "tidemark-test", &error);
  EXPECT_NE(segment, nullptr) << error;
  return segment;
}

// Every section that comes out has to be one that a reader of the trace takes.
struct Checked : RingReader::Sink {
  void OnNode(TraceStackNode node) override {
    EXPECT_LE(node.node, kMaxNodes);
    ++nodes;
  }
  void OnModule(TraceModule module) override { EXPECT_LE(module.path.size() + module.build_id.size(), 1u << 15); }
  void OnThread(TraceThread thread) override { EXPECT_LE(thread.name.size(), 16u); }
  void OnEvents(const EventsHeader& header, EventEncoder& encoder) override {
    events += EventsOf(header, encoder).size();
  }
  uint64_t nodes = 0, events = 0;
};

// Writes all over the segment until it is told to stop: any word, but more often than not one that makes sense.
class Scribbler {
 public:
  explicit Scribbler(const Segment& segment)
      : layout_(segment.layout()), words_(static_cast<uint64_t*>(segment.base())), thread_([this] { Run(); }) {}
  ~Scribbler() {
    stop_.store(true);
    thread_.join();
  }

 private:
  void Store(uint64_t offset, uint64_t value) {
    std::atomic_ref<uint64_t>(words_[offset / 8]).store(value, std::memory_order_relaxed);
  }
  void Run() {
    while (!stop_.load(std::memory_order_relaxed)) {
      const uint32_t chunk = static_cast<uint32_t>(random_() % layout_.chunk_count);
      const uint64_t header = layout_.chunk_headers_offset + chunk * sizeof(ChunkHeader);
      const uint64_t content = layout_.chunks_offset + uint64_t{chunk} * layout_.chunk_bytes;
      for (uint64_t at = 0; at < 512; at += 8) Store(content + at, (random_() & ~uint64_t{15}) | random_() % 13);
      Store(header + 8, random_() % 5 | (random_() % 3) << 32);   // thread serial, thread id
      Store(header + 16, random_() % 4 | (random_() % 4) << 32);  // sequence, slot
      const uint64_t committed = random_() % 4 == 0 ? random_() : random_() % 600;
      Store(header, (1 + random_() % 2) | committed << 32);
      Store(random_() % sizeof(SessionHeader), random_());
      Store(layout_.thread_slots_offset + random_() % (layout_.thread_slot_count * sizeof(ThreadSlot)), random_() % 9);
      Store(random_() % layout_.segment_bytes, random_());
    }
  }

  const SegmentLayout layout_;
  uint64_t* const words_;
  std::atomic<bool> stop_{false};
  std::mt19937_64 random_{4};
  std::thread thread_;  // the last member: it uses the others
};

TEST(HostileProducer, I4ScribblesWhileItIsRead) {
  const std::unique_ptr<Segment> segment = NewSegment();
  RingReader reader(segment->base(), segment->layout(), 10);
  Checked sink;
  {
    const Scribbler scribbler(*segment);
    uint64_t now_us = 0;
    // Rounds, not seconds: on a busy machine the other thread may not have run at all yet.
    const auto enough = [&] { return reader.damaged_chunks() >= 100 && sink.events > 1000 && sink.nodes > 100; };
    for (int round = 0; round < 400 || (!enough() && round < 1'000'000); ++round) {
      reader.Drain(round % 16 == 0 ? RingReader::Take::kEverything : RingReader::Take::kClosed, now_us += 50'000, sink);
      std::vector<std::pair<uint32_t, uint32_t>> owners;
      reader.ForEachOwner([&](uint32_t slot, uint32_t tid) { owners.emplace_back(slot, tid); });
      for (size_t i = 0; i < owners.size() && i < 3; ++i) {
        reader.RetireThread(owners[i].first, owners[i].second, now_us, sink);
      }
      EXPECT_LE(reader.FreeChunks(), segment->layout().chunk_count);
      (void)reader.Counters();
    }
  }
  EXPECT_GE(reader.damaged_chunks(), 100u);
  EXPECT_GT(sink.events, 1000u);
  EXPECT_GT(sink.nodes, 100u);
}

// The descriptor that a process gets can do nothing to the collector's mapping: SIGBUS would kill it.
TEST(HostileProducer, I4CannotChangeTheSizeOfTheSegment) {
  const std::unique_ptr<Segment> segment = NewSegment();
  const int fd = segment->fd();
  struct stat before {};
  ASSERT_EQ(fstat(fd, &before), 0);
  EXPECT_EQ(static_cast<uint64_t>(before.st_size), segment->layout().segment_bytes);
  for (const off_t size : {off_t{0}, off_t{4096}, before.st_size - 1, before.st_size + 4096}) {
    EXPECT_EQ(ftruncate(fd, size), -1);
    EXPECT_EQ(errno, EPERM);
  }
  EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);  // would make the collector's own stores fail
  EXPECT_EQ(errno, EPERM);
  // Opened once more, as /proc lets its owner do.
  const int again = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(again, 0);
  EXPECT_EQ(ftruncate(again, 0), -1);
  close(again);
}

// Holes may be punched even so. They read as zeros and fill up again; they are no end of the file.
TEST(HostileProducer, I4PunchesHoles) {
  const std::unique_ptr<Segment> segment = NewSegment();
  const SegmentLayout& layout = segment->layout();
  RingReader reader(segment->base(), layout);
  Checked sink;
  void* theirs = mmap(nullptr, layout.segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd(), 0);
  ASSERT_NE(theirs, MAP_FAILED);
  ASSERT_EQ(madvise(theirs, layout.segment_bytes, MADV_REMOVE), 0);
  EXPECT_EQ(static_cast<SessionHeader*>(theirs)->magic, 0u);
  EXPECT_EQ(reader.Drain(RingReader::Take::kEverything, 1, sink), 0u);
  ASSERT_EQ(fallocate(segment->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
  (void)reader.Counters();
  EXPECT_EQ(reader.FreeChunks(), 0u);
  // And it goes on working: a chunk that is filled now is read.
  auto* bytes = static_cast<char*>(theirs);
  auto* chunk = reinterpret_cast<ChunkHeader*>(bytes + layout.chunk_headers_offset);
  auto* words = reinterpret_cast<uint64_t*>(bytes + layout.chunks_offset);
  words[0] = static_cast<uint64_t>(RecordKind::kFree) | uint64_t{0x1234} << 4;
  chunk->thread_serial.store(1);
  chunk->committed.store(8);
  chunk->state.store(kChunkClosed);
  EXPECT_EQ(reader.Drain(RingReader::Take::kEverything, 2, sink), 8u);
  EXPECT_EQ(sink.events, 1u);
  munmap(theirs, layout.segment_bytes);
}

}  // namespace
}  // namespace tidemark
