// The model's numbers: equal to what valgrind's DHAT counted for the same calls, equal to a slow and obvious recount on
// random histories, and sane when threads are skewed or events are lost.
#include "tools/model/heap_model.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/fake_trace_reader.h"
#include "tools/model/metric.h"

namespace tidemark {
namespace {

constexpr uint64_t kA = 0x10000, kB = 0x20000, kC = 0x30000;

// What valgrind 3.19 --tool=dhat printed for the program in the comment.
struct DhatCase {
  const char* program;
  void (*record)(FakeTraceReader&);
  uint64_t total_bytes, total_blocks, peak_bytes, peak_blocks;
};
const DhatCase kDhatCases[] = {
    {"p=malloc(100); p=realloc(p,300); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 100), r.Realloc(kA, kA, 300), r.Free(kA); }, 400, 2, 300, 1},
    {"p=malloc(300); p=realloc(p,100); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 300), r.Realloc(kA, kA, 100), r.Free(kA); }, 400, 2, 300, 1},
    {"p=malloc(100); q=malloc(50); p=realloc(p,100000); free(q); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 100), r.Alloc(kB, 50), r.Realloc(kA, kC, 100000), r.Free(kB), r.Free(kC); },
     100150, 3, 100050, 2},
    {"p=memalign(64,100); free(p); p=calloc(10,30); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 100), r.Free(kA), r.Alloc(kA, 300), r.Free(kA); }, 400, 2, 300, 1},
    {"p=malloc(0); free(p)", [](FakeTraceReader& r) { r.Alloc(kA, 0), r.Free(kA); }, 1, 1, 1, 1},
    {"p=malloc(100); realloc(p,0)", [](FakeTraceReader& r) { r.Alloc(kA, 100), r.Free(kA); }, 100, 1, 100, 1},
    {"p=malloc(100); realloc(p,0), recorded as a realloc to nothing",
     [](FakeTraceReader& r) { r.Alloc(kA, 100), r.Realloc(kA, 0, 0); }, 100, 1, 100, 1},
    {"p=realloc(NULL,77); free(p)", [](FakeTraceReader& r) { r.Realloc(0, kA, 77), r.Free(kA); }, 77, 1, 77, 1},
    {"p=malloc(100); p=realloc(p,100); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 100), r.Realloc(kA, kA, 100), r.Free(kA); }, 200, 2, 100, 1},
    {"p=malloc(1000); q=malloc(1000); free(p); p=malloc(1000); free(p); free(q)",
     [](FakeTraceReader& r) {
       r.Alloc(kA, 1000), r.Alloc(kB, 1000), r.Free(kA), r.Alloc(kA, 1000), r.Free(kA), r.Free(kB);
     },
     3000, 3, 2000, 2},
    {"p=malloc(0); p=realloc(p,50); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 0), r.Realloc(kA, kA, 50), r.Free(kA); }, 51, 2, 50, 1},
    {"p=malloc(1000); p=realloc(p,999); p=realloc(p,1001); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 1000), r.Realloc(kA, kA, 999), r.Realloc(kA, kB, 1001), r.Free(kB); }, 3000,
     3, 1001, 1},
    {"p=memalign(64,64); p=realloc(p,128); free(p)",
     [](FakeTraceReader& r) { r.Alloc(kA, 64), r.Realloc(kA, kB, 128), r.Free(kB); }, 192, 2, 128, 1},
};

TEST(HeapModel, AgreesWithDhat) {
  for (const DhatCase& it : kDhatCases) {
    SCOPED_TRACE(it.program);
    FakeTraceReader reader;
    it.record(reader);
    const HeapModel model = HeapModel::Build(reader);
    EXPECT_EQ(model.total().Allocated().bytes.seen, it.total_bytes);
    EXPECT_EQ(model.total().Allocated().blocks.seen, it.total_blocks);
    EXPECT_EQ(model.total().Peak(model.epoch()).bytes.seen, it.peak_bytes);
    EXPECT_EQ(model.total().Peak(model.epoch()).blocks.seen, it.peak_blocks);
    EXPECT_EQ(model.total().Live().bytes.seen, 0u);
    EXPECT_EQ(model.oddities().unknown_releases, 0u);
  }
}

const StackUse* StackAt(const HeapModel& model, uint32_t node) {
  for (const StackUse& use : model.stacks()) {
    if (use.node == node) return &use;
  }
  return nullptr;
}

TEST(HeapModel, CompositionAtTheLastMomentOfThePeak) {
  FakeTraceReader reader;
  const uint32_t one = reader.Node(0, 0x1000), two = reader.Node(0, 0x2000), three = reader.Node(0, 0x3000);
  reader.Alloc(kA, 100, one);
  reader.Alloc(kB, 50, two);
  reader.Free(kA);
  reader.Alloc(kC, 100, three).tsc = 7000000;  // 150 again: the peak is now {two, three}
  reader.Free(kB);
  reader.Free(kC);
  const HeapModel model = HeapModel::Build(reader);
  EXPECT_EQ(StackAt(model, one)->tally.Peak(model.epoch()).bytes.seen, 0u);
  EXPECT_EQ(StackAt(model, two)->tally.Peak(model.epoch()).bytes.seen, 50u);
  EXPECT_EQ(StackAt(model, three)->tally.Peak(model.epoch()).bytes.seen, 100u);
  EXPECT_EQ(model.peak_ns(), 7000000);
}

TEST(HeapModel, TemporaryIsReleasedByTheNextEventOfTheThread) {
  FakeTraceReader reader;
  reader.Alloc(kA, 10, 0, 1);
  reader.Alloc(kB, 20, 0, 2);  // another thread's event in between does not matter
  reader.Free(kA, 1);          // temporary
  reader.Alloc(kC, 30, 0, 2);
  reader.Free(kB, 2);  // not: kC came in between
  reader.Free(kC, 2);  // not: a free came in between
  reader.Alloc(kA, 40, 0, 1);
  reader.Realloc(kA, kB, 80, 0, 1);  // realloc releases kA: temporary
  reader.Free(kB, 1);                // and its new block is temporary as well
  reader.Alloc(kA, 5, 0, 1);
  reader.Free(kA, 2);  // by another thread: not the allocating thread's next event
  const HeapModel model = HeapModel::Build(reader);
  EXPECT_EQ(model.total().Temporary().blocks.seen, 3u);
  EXPECT_EQ(model.total().Temporary().bytes.seen, 10u + 40 + 80);
}

TEST(HeapModel, ReallocDetail) {
  FakeTraceReader reader;
  reader.Alloc(kA, 100);
  reader.Realloc(kA, kA, 150);
  reader.Realloc(kA, kB, 400);
  reader.Realloc(kB, kB, 400);
  reader.Realloc(kB, kC, 10);
  const HeapModel model = HeapModel::Build(reader);
  const ReallocDetail& detail = model.reallocs();
  EXPECT_EQ(detail.grown_blocks, 2u);
  EXPECT_EQ(detail.grown_bytes, 300u);
  EXPECT_EQ(detail.same_size_blocks, 1u);
  EXPECT_EQ(detail.shrunk_blocks, 1u);
  EXPECT_EQ(detail.shrunk_bytes, 390u);
  EXPECT_EQ(detail.moved_blocks, 2u);
  EXPECT_EQ(detail.moved_bytes, 160u);
  EXPECT_EQ(model.total().Live().bytes.seen, 10u);
}

TEST(HeapModel, OlderBlockDiesFirstWhenStampsAreSkewed) {
  FakeTraceReader reader;
  const uint32_t one = reader.Node(0, 0x1000), two = reader.Node(0, 0x2000);
  reader.Alloc(kB, 1, one, 1);
  reader.Alloc(kC, 1, one, 2);
  reader.Alloc(kA, 100, one, 1).tsc = 10000000;
  reader.Alloc(kA, 200, two, 2).tsc = 20000000;
  reader.Free(kA, 1).tsc = 20000200;  // thread 1's free, 200 ns late
  const HeapModel model = HeapModel::Build(reader);
  EXPECT_EQ(StackAt(model, one)->tally.Live().bytes.seen, 2u);
  EXPECT_EQ(StackAt(model, two)->tally.Live().bytes.seen, 200u);
  EXPECT_EQ(model.oddities().implied_releases, 0u);
}

TEST(HeapModel, SkewedReallocWithALongCopy) {
  FakeTraceReader reader;
  reader.Alloc(kC, 1, 0, 2);
  reader.Alloc(kA, 100, 0, 1).tsc = 10000000;
  reader.Alloc(kA, 7, 0, 2).tsc = 20000000;  // got kA as soon as realloc let go of it ...
  TraceEvent& event = reader.Realloc(kA, kB, 100000, 0, 1);
  event.tsc = 30000000;  // ... which was stamped when its copy was done
  event.elapsed = 10000100;
  const HeapModel model = HeapModel::Build(reader);
  EXPECT_EQ(model.total().Live().bytes.seen, 1u + 7 + 100000);
  EXPECT_EQ(model.oddities().implied_releases, 0u);
  EXPECT_EQ(model.reallocs().grown_bytes, 99900u);
}

TEST(HeapModel, LostReleasesAreImpliedByReuse) {
  FakeTraceReader reader;
  reader.Alloc(kC, 1, 0, 2);
  reader.Alloc(kA, 100, 0, 1);
  TraceEvent& gap = reader.Add(RecordKind::kGap, 1);
  gap.gap_kind = kKindFree;
  gap.count = 2;
  reader.Alloc(kA, 200, 0, 2);
  reader.Free(kA, 2);  // milliseconds later: no skew, this is the younger block
  reader.Alloc(kB, 10, 0, 1);
  reader.Alloc(kB, 20, 0, 2);  // never freed: only the last can be alive
  const HeapModel model = HeapModel::Build(reader);
  EXPECT_EQ(model.total().Live().bytes.seen, 1u + 20);
  EXPECT_EQ(model.total().Live().blocks.seen, 2u);
  EXPECT_EQ(model.oddities().implied_releases, 2u);
  EXPECT_EQ(model.oddities().lost[kKindFree], 2u);
}

TEST(HeapModel, SingleThreadNeedsNoClock) {
  FakeTraceReader reader;
  reader.Alloc(kA, 100).tsc = 5;
  reader.Alloc(kA, 200).tsc = 5;
  reader.Free(kA).tsc = 5;
  const HeapModel model = HeapModel::Build(reader);
  EXPECT_EQ(model.total().Live().blocks.seen, 0u);
  EXPECT_EQ(model.oddities().implied_releases, 1u);
  EXPECT_EQ(model.total().Peak(model.epoch()).bytes.seen, 200u);
}

TEST(HeapModel, UnknownAddressesAndNodesAreCountedNotFatal) {
  FakeTraceReader reader;
  reader.Node(0, 0x1000);
  reader.Free(kA);
  reader.Realloc(kB, kC, 50);
  reader.Alloc(0, 10);
  reader.Alloc(uint64_t{1} << 60, 10);
  reader.Alloc(kA, 10, 12345);
  reader.Realloc(0, 0, 0);
  reader.Free(0);
  const HeapModel model = HeapModel::Build(reader);
  EXPECT_EQ(model.oddities().unknown_releases, 3u);
  EXPECT_EQ(model.oddities().unusable_events, 2u);
  EXPECT_EQ(model.oddities().unknown_nodes, 1u);
  EXPECT_EQ(model.total().Live().bytes.seen, 60u);
}

TEST(HeapModel, SizeBucketsCoverEverySize) {
  EXPECT_EQ(SizeBucketOf(1), kFirstSizeBucket);
  EXPECT_EQ(SizeBucketOf(16), kFirstSizeBucket);
  EXPECT_EQ(SizeBucketOf(17), 5u);
  EXPECT_EQ(SizeBucketOf(UINT64_MAX), 64u);
  for (uint32_t i = kFirstSizeBucket; i < kSizeBucketCount; ++i) {
    EXPECT_EQ(SizeBucketOf(SizeBucketLow(i)), i);
    EXPECT_EQ(SizeBucketOf(SizeBucketHigh(i)), i);
  }
}

// Recounts a random history the slow way: copies everything at every maximum.
TEST(HeapModel, AgreesWithASlowRecount) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    FakeTraceReader reader;
    std::vector<uint32_t> nodes = {0};
    for (int i = 1; i < 8; ++i) nodes.push_back(reader.Node(0, 0x1000u * static_cast<uint32_t>(i)));
    struct Block {
      uint64_t size;
      uint32_t node;
    };
    std::map<uint64_t, Block> live;
    std::map<uint32_t, uint64_t> live_of, peak_of, allocated_of;
    uint64_t live_bytes = 0, peak_bytes = 0, allocated = 0, blocks = 0;
    auto die = [&](uint64_t address) {
      live_bytes -= live[address].size;
      live_of[live[address].node] -= live[address].size;
      live.erase(address);
    };
    auto live_up = [&](uint64_t address, uint64_t size, uint32_t node) {
      live[address] = {size, node};
      live_of[node] += size;
      allocated_of[node] += size;
      live_bytes += size;
      allocated += size;
      ++blocks;
      if (live_bytes >= peak_bytes) {
        peak_bytes = live_bytes;
        peak_of = live_of;
      }
    };
    // Few addresses, close together: long probe runs, deletions in their middle.
    auto free_address = [&] {
      uint64_t address = 0;
      do address = 0x1000 + 16 * (random() % 9000);
      while (live.count(address) != 0);
      return address;
    };
    auto some_block = [&] { return std::next(live.begin(), static_cast<long>(random() % live.size()))->first; };
    for (int i = 0; i < 20000; ++i) {
      const uint32_t serial = 1 + random() % 3, node = nodes[random() % nodes.size()];
      const uint64_t size = 1 + random() % 1000;
      const uint32_t what = random() % 100;
      if (what < 50 && live.size() < 6000) {
        const uint64_t address = free_address();
        reader.Alloc(address, size, node, serial);
        live_up(address, size, node);
      } else if (what < 65 && !live.empty()) {
        const uint64_t old = some_block(), address = random() % 2 ? old : free_address();
        reader.Realloc(old, address, size, node, serial);
        die(old);
        live_up(address, size, node);
      } else if (!live.empty()) {
        const uint64_t address = some_block();
        reader.Free(address, serial);
        die(address);
      }
    }
    const HeapModel model = HeapModel::Build(reader);
    EXPECT_EQ(model.total().Allocated().bytes.seen, allocated);
    EXPECT_EQ(model.total().Allocated().blocks.seen, blocks);
    EXPECT_EQ(model.total().Live().bytes.seen, live_bytes);
    EXPECT_EQ(model.total().Live().blocks.seen, live.size());
    EXPECT_EQ(model.total().Peak(model.epoch()).bytes.seen, peak_bytes);
    uint64_t by_thread = 0, by_size = 0;
    for (const StackUse& use : model.stacks()) {
      EXPECT_EQ(use.tally.Peak(model.epoch()).bytes.seen, peak_of[use.node]);
      EXPECT_EQ(use.tally.Live().bytes.seen, live_of[use.node]);
      EXPECT_EQ(use.tally.Allocated().bytes.seen, allocated_of[use.node]);
    }
    for (const ThreadUse& use : model.threads()) by_thread += use.tally.Peak(model.epoch()).bytes.seen;
    for (const Tally& tally : model.size_buckets()) by_size += tally.Peak(model.epoch()).bytes.seen;
    EXPECT_EQ(by_thread, peak_bytes);
    EXPECT_EQ(by_size, peak_bytes);
    EXPECT_EQ(model.oddities().unknown_releases + model.oddities().implied_releases, 0u);
  }
}

TEST(HeapModel, SampledNumbersAreWeightedAndVanishWhenFreed) {
  FakeTraceReader reader;
  reader.mode_ = Mode::kSampled;
  reader.sample_bytes_ = 1000;
  reader.Alloc(kA, 10);
  reader.Alloc(kB, 1000000);
  HeapModel model = HeapModel::Build(reader);
  // 10 / (1 - exp(-0.01)) = 1005.0083...; the large block is certain.
  EXPECT_NEAR(model.total().Allocated().bytes.value(), 1000000 + 1005.0083, 0.001);
  EXPECT_NEAR(model.total().Allocated().blocks.value(), 1 + 100.50083, 0.0001);
  EXPECT_FALSE(model.knows_temporary());
  EXPECT_TRUE(WhyNotAvailable(Metric::kTemporary, model));
  reader.Free(kA);
  reader.Free(kB);
  model = HeapModel::Build(reader);
  EXPECT_EQ(model.total().Live().bytes.value(), 0);
  EXPECT_EQ(model.total().Live().bytes.variance, 0);
  EXPECT_NEAR(model.total().Peak(model.epoch()).bytes.value(), 1000000 + 1005.0083, 0.001);
}

// Recounts what the model counts from what it tells an observer.
struct Recount : BlockObserver {
  uint64_t allocated = 0, live = 0, peak = 0, temporary = 0, last_tsc = 0;
  std::map<uint32_t, uint64_t> live_of_stack, live_of_thread;
  std::vector<std::string> marks;
  void OnAllocate(const LiveBlock& block, bool new_peak) override {
    allocated += block.size;
    live += block.size;
    live_of_stack[block.stack] += block.size;
    live_of_thread[block.thread] += block.size;
    EXPECT_EQ(new_peak, live >= peak);
    if (new_peak) peak = live;
    last_tsc = block.tsc;
  }
  void OnRelease(const LiveBlock& block, uint64_t tsc, bool was_temporary) override {
    live -= block.size;
    live_of_stack[block.stack] -= block.size;
    live_of_thread[block.thread] -= block.size;
    temporary += was_temporary ? 1 : 0;
    EXPECT_GE(tsc, block.tsc);
    last_tsc = tsc;
  }
  void OnMark(uint32_t thread_serial, uint64_t, const std::string& text) override {
    marks.push_back(std::to_string(thread_serial) + text);
  }
};

TEST(HeapModel, ObserverSeesWhatIsCounted) {
  FakeTraceReader reader;
  const uint32_t one = reader.Node(0, 0x1000), two = reader.Node(0, 0x2000);
  reader.Alloc(kA, 100, one);
  reader.Alloc(kB, 50, two, 2);
  reader.Add(RecordKind::kMark).text = "half";
  reader.Free(kB, 2);
  reader.Realloc(kA, kC, 300, two);
  reader.Alloc(kA, 10, one);
  reader.Free(kA);
  reader.Alloc(kC, 20, one);  // the release of the 300 bytes there was lost
  Recount recount;
  const HeapModel model = HeapModel::Build(reader, &recount);
  EXPECT_EQ(recount.allocated, model.total().Allocated().bytes.seen);
  EXPECT_EQ(recount.live, model.total().Live().bytes.seen);
  EXPECT_EQ(recount.peak, model.total().Peak(model.epoch()).bytes.seen);
  EXPECT_EQ(recount.temporary, model.total().Temporary().blocks.seen);
  EXPECT_EQ(recount.marks, std::vector<std::string>{"1half"});
  for (uint32_t i = 0; i < model.stacks().size(); ++i) {
    EXPECT_EQ(recount.live_of_stack[i], model.stacks()[i].tally.Live().bytes.seen);
  }
  for (uint32_t i = 0; i < model.threads().size(); ++i) {
    EXPECT_EQ(recount.live_of_thread[i], model.threads()[i].tally.Live().bytes.seen);
  }
}

}  // namespace
}  // namespace tidemark
