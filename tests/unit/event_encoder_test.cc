// What makes events sections small: predictions of addresses, origins, numbers of shapes. That they are lossless is
// tested with whole traces (trace_format_test.cc).
#include "profiler/event_encoder.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/unit/sample_traces.h"
#include "tools/table_view.h"

namespace tidemark {
namespace {

using namespace sample;

// Pages of 64-byte blocks with the two lists of mimalloc: blocks come from one, go to the other, and the lists change
// places when the first is empty.
class ModelAllocator {
 public:
  uint64_t Malloc() {
    if (ready_.empty()) ready_.swap(freed_);
    if (ready_.empty()) return fresh_ += 64;
    const uint64_t block = ready_.back();
    ready_.pop_back();
    return block;
  }
  void Free(uint64_t block) { freed_.push_back(block); }

 private:
  uint64_t fresh_ = 0x7f0000000000;
  std::vector<uint64_t> ready_, freed_;
};

size_t BytesOf(EventEncoder* encoder, EventColumn column) {
  Payload payload;
  encoder->Finish(EventsHeader(), &payload);
  TableView table;
  EXPECT_TRUE(table.Parse(payload.bytes));
  return table.BytesOf(column);
}

TEST(EventEncoder, KnowsTheNextAddressOfAnAllocatorWithFreeLists) {
  ModelAllocator heap;
  Random random(3);
  EventEncoder encoder;
  encoder.Start(50'000, 0, 0);
  std::vector<uint64_t> live;
  while (encoder.events() < 50'000) {
    if (live.size() < 10 || (live.size() < 900 && random.Below(2) == 0)) {
      live.push_back(heap.Malloc());
      encoder.Alloc(0, Api::kMalloc, 7, 64, live.back());
    } else {
      const size_t at = random.Below(live.size());
      heap.Free(live[at]);
      encoder.Free(0, live[at]);
      live[at] = live.back();
      live.pop_back();
    }
  }
  // 25,000 addresses. News are only those of fresh blocks when the last block was not a fresh one.
  EXPECT_LE(BytesOf(&encoder, EventColumn::kAddress), 500u);
}

TEST(EventEncoder, CountsByKind) {
  EventEncoder encoder;
  encoder.Start(10, 0, 0);
  encoder.Alloc(0, Api::kMalloc, 1, 8, 16);
  encoder.Alloc(0, Api::kMalloc, 1, 8, 32);
  encoder.Realloc(0, Api::kRealloc, 1, 8, 48, 16, 0);
  encoder.Realloc(0, Api::kRealloc, 1, 9, 48, 48, 0);
  encoder.Realloc(0, Api::kRealloc, 1, 9, 64, 48, 0);
  encoder.Free(0, 32);
  encoder.Gap(0, kKindFree, 5, 0);
  encoder.Mark(0, "m");
  EXPECT_EQ(encoder.count(kKindAlloc), 2u);
  EXPECT_EQ(encoder.count(kKindRealloc), 3u);
  EXPECT_EQ(encoder.count(kKindFree), 1u);
  EXPECT_EQ(encoder.events(), 8u);
}

TEST(EventEncoder, IsFullBeforeItIsStartedAndWhenItsSectionIs) {
  EventEncoder encoder;
  EXPECT_TRUE(encoder.full());
  encoder.Start(kMaxEventsPerSection, 0, 0);
  Random random(1);
  while (!encoder.full()) {  // as large as events get
    encoder.Realloc(random.Next(), Api::kRealloc, static_cast<uint32_t>(random.Next()), random.Next() | kMax64 << 63,
                    random.Next(), random.Next(), random.Next());
  }
  EXPECT_GT(encoder.events(), 50'000u);
  encoder.Mark(0, std::string(kMaxTextBytes, 'x'));  // the one for which room is kept
  Payload payload;
  encoder.Finish(EventsHeader(), &payload);
  EXPECT_LE(payload.bytes.size(), kMaxEventSectionBytes);
  EXPECT_TRUE(encoder.full());
}

TEST(OriginTable, NamesOnlyEventsThatObtainedTheBlock) {
  OriginTable origins;
  Random random(2);
  size_t found = 0, asked = 0;
  for (int section = 0; section < 3; section++) {
    origins.Start(20'000);
    std::map<uint64_t, uint32_t> truth;
    std::vector<uint64_t> obtained;
    for (uint32_t event = 0; event < 20'000; event++) {
      const uint64_t units = 0x7f000000000 + random.Below(30'000);
      origins.Obtain(units, event % 7);
      truth[units] = event;
      obtained.push_back(units);
      const uint64_t other = 0x7f000000000 + random.Below(30'000);
      const uint32_t origin = origins.Find(other);
      asked += truth.count(other);
      if (origin == OriginTable::kNone) continue;
      ASSERT_LT(origin, obtained.size());
      ASSERT_EQ(obtained[origin], other);
      ASSERT_EQ(origins.PageOf(origin), origin % 7);
      found++;
    }
  }
  EXPECT_GT(found, asked * 9 / 10);
}

struct Number {
  uint64_t value;
  bool operator==(const Number&) const = default;
  uint64_t Hash() const { return value % 3 == 0 ? 0 : value * 0x9e3779b97f4a7c15; }  // a third of them collides
};

TEST(Numbering, CountsFirstOccurrences) {
  Numbering<Number> numbers;
  for (uint64_t round = 0; round < 3; round++) {
    numbers.Start();
    for (uint32_t i = 0; i < 6000; i++) {
      ASSERT_EQ(numbers.NumberOf({i + round}), i);
      ASSERT_EQ(numbers.NumberOf({i / 2 + round}), i / 2);
    }
    EXPECT_EQ(numbers.size(), 6000u);
    EXPECT_EQ(numbers[17].value, 17 + round);
  }
}

}  // namespace
}  // namespace tidemark
