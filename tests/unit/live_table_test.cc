// The table of live blocks: what is entered is found, with what was entered, and nothing else is; from many threads at
// once, and across images of a chain of forks. Runs under ThreadSanitizer, too.
#include "profiler/live_table.h"

#include <gtest/gtest.h>

#include <map>
#include <thread>
#include <vector>

#include "profiler/own_memory.h"

namespace tidemark {
namespace {

const void* At(uint64_t address) { return reinterpret_cast<const void*>(address); }

std::map<uint64_t, live_table::LiveBlock> Everything() {
  std::map<uint64_t, live_table::LiveBlock> blocks;
  const live_table::UnitRange units = live_table::UsedUnits();
  for (uint64_t unit = units.first; unit < units.last; unit++) {
    const live_table::Entry* table = live_table::TableOf(unit);
    for (uint64_t i = 0; table != nullptr && i < live_table::kEntriesPerUnit; i++) {
      if (const uint64_t word = table[i].load(std::memory_order_relaxed); word != 0) {
        const live_table::LiveBlock block = live_table::Decode(unit, i, word);
        blocks[block.address] = block;
      }
    }
  }
  return blocks;
}

class LiveTable : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    own_memory::Start();
    ASSERT_TRUE(live_table::Start());
  }
};

TEST_F(LiveTable, TellsWhatWasEntered) {
  live_table::Enter(At(0x7f0000000010), 5, 0);
  live_table::Enter(At(0x7f0000000020), 0, 0);  // no stack, no bytes: a block all the same
  live_table::Enter(At(0x7fffffffffe0), (1u << 28) - 1, 0xfffffffe);
  live_table::Enter(At(0x10), 1, uint64_t{5} << 32);
  live_table::Enter(At(uint64_t{1} << 47), 1, 1);  // not an address of a program
  live_table::Enter(nullptr, 1, 1);
  auto blocks = Everything();
  ASSERT_EQ(blocks.size(), 4u);
  EXPECT_EQ(blocks[0x7f0000000010].node, 5u);
  EXPECT_EQ(blocks[0x7f0000000010].size, 0u);
  EXPECT_EQ(blocks[0x7f0000000020].node, 0u);
  EXPECT_EQ(blocks[0x7fffffffffe0].node, (1u << 28) - 1);
  EXPECT_EQ(blocks[0x7fffffffffe0].size, 0xfffffffeu);
  EXPECT_EQ(blocks[0x10].size, live_table::kLargestSize);

  EXPECT_NE(live_table::Take(At(0x7f0000000010)), 0u);
  EXPECT_EQ(Everything().size(), 3u);
  EXPECT_EQ(live_table::Take(At(0x7f0000000010)), 0u) << "it was taken out already";
  live_table::Enter(At(0x7f0000000010), 5, 0);
  blocks = Everything();
  EXPECT_EQ(blocks[0x7f0000000010].node, 5u);
  for (const auto& [address, block] : blocks) live_table::Take(At(address));
  EXPECT_TRUE(Everything().empty());
  EXPECT_FALSE(live_table::IsIncomplete());
}

TEST_F(LiveTable, AnotherImageInheritsWithoutStacks) {
  live_table::Enter(At(0x7f0000001000), 7, 70);
  for (int generation = 0; generation < 14; generation++) {
    live_table::BeginImage();
    const auto blocks = Everything();
    EXPECT_TRUE(blocks.at(0x7f0000001000).inherited) << generation;
    EXPECT_EQ(blocks.at(0x7f0000001000).node, 0u);
    EXPECT_EQ(blocks.at(0x7f0000001000).size, 70u);
  }
  live_table::Enter(At(0x7f0000001000), 8, 80);
  EXPECT_FALSE(Everything().at(0x7f0000001000).inherited);
  live_table::Take(At(0x7f0000001000));
}

TEST_F(LiveTable, ThreadsShareUnits) {
  constexpr uint32_t kThreads = 8, kRounds = 20'000;
  constexpr uint64_t kBase = 0x600000000000;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; t++) {
    threads.emplace_back([t] {
      // All of them make the first block of a unit at about the same time.
      for (uint64_t i = 0; i < kRounds; i++) {
        const uint64_t unit = i % 4, place = i * kThreads + t;
        live_table::Enter(At(kBase + (unit << live_table::kUnitBits) + place * 16), t + 1, i);
        if (i % 2 == 0) live_table::Take(At(kBase + (unit << live_table::kUnitBits) + place * 16));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto blocks = Everything();
  EXPECT_EQ(blocks.size(), kThreads * kRounds / 2);
  for (const auto& [address, block] : blocks) {
    EXPECT_EQ(block.node, (address >> 4) % kThreads + 1);
    live_table::Take(At(address));
  }
}

TEST(OwnMemory, RangesComeAndGo) {
  own_memory::Start();
  const auto has = [](const void* memory) {
    std::vector<own_memory::Range> ranges(own_memory::kMaxRanges);
    ranges.resize(own_memory::Ranges(ranges.data(), ranges.size()));
    const auto start = reinterpret_cast<uint64_t>(memory);
    for (const own_memory::Range& range : ranges) {
      if (range.start == start) return range.end - range.start;
    }
    return uint64_t{0};
  };
  void* memory = own_memory::Map(12288);
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(has(memory), 12288u);
  own_memory::Unmap(memory, 12288);
  EXPECT_EQ(has(memory), 0u);
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= 4; t++) {
    threads.emplace_back([t] {
      for (uint64_t i = 0; i < 1000; i++) {
        own_memory::Remember(At(t << 40 | i << 12), 4096);
        if (i % 4 != 0) own_memory::Forget(At(t << 40 | i << 12));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (uint64_t t = 1; t <= 4; t++) {
    for (uint64_t i = 0; i < 1000; i++) ASSERT_EQ(has(At(t << 40 | i << 12)), i % 4 == 0 ? 4096u : 0u);
  }
  EXPECT_FALSE(own_memory::IsIncomplete());
}

}  // namespace
}  // namespace tidemark
