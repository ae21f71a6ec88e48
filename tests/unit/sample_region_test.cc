// The home of sampled blocks: sizes, alignments, zeroing, overlap, double frees, bounded memory.
//
// The region is one per process and never torn down; the tests share it and give back what they take.
#include "interpose/sample_region.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace tidemark {
namespace {

using region::Placement;

class SampleRegionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const bool started = region::Start();
    ASSERT_TRUE(started);
  }
};

void* Take(size_t size, size_t alignment = 16, bool zero = false) {
  return region::Allocate(size, alignment, zero, Placement::kPacked);
}

TEST_F(SampleRegionTest, EverySizeIsUsableToTheLastByte) {
  std::vector<size_t> sizes;
  for (size_t size = 0; size <= 5000; size++) sizes.push_back(size);
  for (size_t size = 5001; size <= 5 << 20; size = size * 9 / 8 + 1) sizes.push_back(size);
  std::vector<std::pair<unsigned char*, size_t>> blocks;
  for (const size_t size : sizes) {
    auto* block = static_cast<unsigned char*>(Take(size));
    ASSERT_NE(block, nullptr) << size;
    EXPECT_TRUE(region::Contains(block));
    EXPECT_TRUE(region::IsLive(block));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 16, 0u) << size;
    EXPECT_EQ(region::RequestedSize(block), std::max<size_t>(size, 1)) << size;
    const size_t usable = region::UsableSize(block);
    ASSERT_GE(usable, size);
    EXPECT_LE(usable, size <= 64 ? size + 16 : size * 3 / 2 + 4096) << size;
    std::memset(block, static_cast<int>(size & 0xff), usable);
    blocks.emplace_back(block, usable);
  }
  for (size_t i = 0; i < blocks.size(); i++) {  // every byte is still there: nobody shares one
    const auto [block, usable] = blocks[i];
    ASSERT_EQ(std::count(block, block + usable, static_cast<unsigned char>(sizes[i])), static_cast<ptrdiff_t>(usable));
    EXPECT_TRUE(region::Release(block));
    EXPECT_FALSE(region::IsLive(block));
  }
}

TEST_F(SampleRegionTest, EveryAlignment) {
  for (size_t alignment = 16; alignment <= size_t{64} << 20; alignment *= 2) {
    for (const size_t size : {size_t{1}, size_t{100}, size_t{4096}, size_t{70000}}) {
      auto* block = static_cast<unsigned char*>(Take(size, alignment));
      ASSERT_NE(block, nullptr) << alignment;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0u) << alignment;
      const size_t usable = region::UsableSize(block);
      ASSERT_GE(usable, size);
      block[0] = block[usable - 1] = 1;
      EXPECT_EQ(region::RequestedSize(block), size);
      EXPECT_TRUE(region::Release(block));
    }
  }
}

TEST_F(SampleRegionTest, TheImpossibleIsRefused) {
  EXPECT_EQ(Take(size_t{1} << 40), nullptr);
  EXPECT_EQ(Take(PTRDIFF_MAX), nullptr);
  EXPECT_EQ(Take(1, size_t{1} << 40), nullptr);
  EXPECT_EQ(Take(1, size_t{1} << 63), nullptr);
  EXPECT_EQ(Take(size_t{1} << 62, size_t{1} << 62), nullptr);
  int outside = 0;
  EXPECT_FALSE(region::Contains(&outside));
  EXPECT_FALSE(region::Contains(nullptr));
  EXPECT_FALSE(region::Contains(reinterpret_cast<void*>(~uintptr_t{0})));
}

TEST_F(SampleRegionTest, ZeroedAfterDirtyReuse) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; round++) {
    const size_t size = random() % (round % 50 == 0 ? 3 << 20 : 10000);
    const size_t alignment = size_t{16} << random() % 10;
    auto* dirty = static_cast<unsigned char*>(Take(size, alignment));
    ASSERT_NE(dirty, nullptr);
    std::memset(dirty, 0xee, region::UsableSize(dirty));
    ASSERT_TRUE(region::Release(dirty));
    auto* zeroed = static_cast<unsigned char*>(Take(size, alignment, true));
    ASSERT_NE(zeroed, nullptr);
    ASSERT_EQ(std::count(zeroed, zeroed + size, 0), static_cast<ptrdiff_t>(size)) << size << " " << alignment;
    ASSERT_TRUE(region::Release(zeroed));
  }
}

TEST_F(SampleRegionTest, DoubleAndInvalidFreesAreSeen) {
  for (const size_t size : {1, 16, 100, 2048, 2049, 100000, 3 << 20}) {
    auto* block = static_cast<char*>(region::Allocate(size, 16, false, Placement::kPacked));
    ASSERT_NE(block, nullptr);
    EXPECT_FALSE(region::Release(block + 1)) << "inside";
    if (size > 16) {
      EXPECT_FALSE(region::Release(block + 16)) << "inside, aligned";
    }
    EXPECT_TRUE(region::Release(block));
    EXPECT_FALSE(region::Release(block)) << "twice";
    EXPECT_FALSE(region::IsLive(block));
    EXPECT_EQ(region::UsableSize(block), 0u);
  }
}

// Every address of the region may be asked about, also where nothing was ever placed.
TEST_F(SampleRegionTest, AnyAddressMayBeAsked) {
  auto* block = static_cast<char*>(Take(1));
  ASSERT_NE(block, nullptr);
  auto base = reinterpret_cast<uintptr_t>(block), end = base;
  for (uintptr_t step = uintptr_t{1} << 40; step >= 4096; step /= 2) {  // the ends, by bisection
    while (region::Contains(reinterpret_cast<void*>(base - step))) base -= step;
    while (region::Contains(reinterpret_cast<void*>(end + step))) end += step;
  }
  std::mt19937_64 random(2);
  for (int i = 0; i < 200000; i++) {
    auto* any = reinterpret_cast<char*>(base + random() % (end - base + 4096));
    if (any == block) continue;
    EXPECT_FALSE(region::IsLive(any));
    EXPECT_FALSE(region::Release(any));
    EXPECT_EQ(region::UsableSize(any), 0u);
  }
  EXPECT_TRUE(region::Release(block));
}

// Random operations; each block is filled with its owner's pattern, which somebody else's block would destroy.
void RandomOperations(uint32_t seed, int operations, std::atomic<int>* failures) {
  struct Block {
    unsigned char* at;
    size_t usable;
    unsigned char pattern;
  };
  std::mt19937 random(seed);
  std::vector<Block> live;
  const auto release = [&](size_t i) {
    const Block block = live[i];
    live[i] = live.back();
    live.pop_back();
    const size_t probe = std::min<size_t>(block.usable, 256);
    bool intact = std::count(block.at, block.at + probe, block.pattern) == static_cast<ptrdiff_t>(probe);
    intact &= block.at[block.usable - 1] == block.pattern && block.at[block.usable / 2] == block.pattern;
    if (!intact || !region::Release(block.at)) ++*failures;
  };
  for (int i = 0; i < operations; i++) {
    if (live.size() > 300 || (!live.empty() && random() % 2 == 0)) {
      release(random() % live.size());
      continue;
    }
    const uint32_t kind = random() % 100;
    const size_t size = kind < 70 ? random() % 2049 : kind < 98 ? random() % 40000 : random() % (2 << 20);
    const size_t alignment = kind % 10 == 0 ? size_t{16} << random() % 12 : 16;
    const bool zero = kind % 2 == 0;
    auto* block = static_cast<unsigned char*>(region::Allocate(size, alignment, zero, Placement::kPacked));
    if (block == nullptr || reinterpret_cast<uintptr_t>(block) % alignment != 0) {
      ++*failures;
      continue;
    }
    if (zero && std::count(block, block + size, 0) != static_cast<ptrdiff_t>(size)) ++*failures;
    const size_t usable = region::UsableSize(block);
    const auto pattern = static_cast<unsigned char>(1 + random() % 255);
    std::memset(block, pattern, usable);
    live.push_back({block, usable, pattern});
  }
  while (!live.empty()) release(live.size() - 1);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kOperations = 2000;
#else
constexpr int kOperations = 12000;
#endif

TEST_F(SampleRegionTest, BlocksNeverOverlapInOneThread) {
  std::atomic<int> failures{0};
  RandomOperations(3, kOperations, &failures);
  EXPECT_EQ(failures, 0);
}

TEST_F(SampleRegionTest, BlocksNeverOverlapInEightThreads) {
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 8; i++) threads.emplace_back(RandomOperations, 100 + i, kOperations, &failures);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

// One thread allocates, another one frees: what queues and pipelines do.
TEST_F(SampleRegionTest, BlocksMayBeFreedElsewhere) {
  std::mutex mutex;
  std::vector<unsigned char*> queue;
  std::atomic<bool> done{false};
  std::atomic<int> failures{0};
  std::thread consumer([&] {
    for (;;) {
      std::vector<unsigned char*> taken;
      const bool last = done;
      {
        const std::lock_guard lock(mutex);
        taken.swap(queue);
      }
      for (unsigned char* block : taken) {
        if (block[0] != 0x5a || !region::Release(block)) failures++;
      }
      if (last && taken.empty()) return;
    }
  });
  std::mt19937 random(4);
  for (int i = 0; i < kOperations; i++) {
    auto* block = static_cast<unsigned char*>(region::Allocate(1 + random() % 6000, 16, false, Placement::kPacked));
    if (block == nullptr) {
      failures++;
      continue;
    }
    block[0] = 0x5a;
    const std::lock_guard lock(mutex);
    queue.push_back(block);
  }
  done = true;
  consumer.join();
  EXPECT_EQ(failures, 0);
}

// Of several threads that free the same block, one wins.
TEST_F(SampleRegionTest, RacingFreesHaveOneWinner) {
  for (int round = 0; round < 200; round++) {
    void* block = region::Allocate(round % 3 == 0 ? 100000 : 64, 16, false, Placement::kPacked);
    ASSERT_NE(block, nullptr);
    std::atomic<int> wins{0}, ready{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++) {
      threads.emplace_back([&] {
        for (ready++; ready < 3;) std::this_thread::yield();
        wins += region::Release(block);
      });
    }
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(wins, 1);
  }
}

size_t ResidentBytes(const void* block, size_t bytes) {
  std::vector<unsigned char> pages(bytes / 4096);
  EXPECT_EQ(mincore(const_cast<void*>(block), pages.size() * 4096, pages.data()), 0);
  return 4096 * static_cast<size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; }));
}

TEST_F(SampleRegionTest, FreedMemoryGoesBack) {
  for (int round = 0; round < 3; round++) {
    std::vector<std::pair<void*, size_t>> blocks;
    for (size_t size = 1 << 20; size < 5 << 20; size += 4096 * 25) {
      blocks.emplace_back(Take(size), size);
      ASSERT_NE(blocks.back().first, nullptr);
      std::memset(blocks.back().first, 1, size);
    }
    size_t used = 0, kept = 0;
    for (const auto& [block, size] : blocks) used += ResidentBytes(block, size);
    EXPECT_GE(used, 100u << 20);
    for (const auto& [block, size] : blocks) ASSERT_TRUE(region::Release(block));
    for (const auto& [block, size] : blocks) kept += ResidentBytes(block, size);
    EXPECT_LE(kept, 8u << 20);
  }
}

}  // namespace
}  // namespace tidemark
