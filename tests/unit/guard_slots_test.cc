// Guarded slots: what faults, what is found afterwards, how each error is described. Where a fault is needed to see
// one, a death test has it.
#include "interpose/guard_slots.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "interpose/sample_region.h"

namespace tidemark {
namespace {

constexpr StackOfThread kObtained = {7, 1}, kReleased = {9, 2};
constexpr uint32_t kImage = 4711;

class GuardSlotsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const bool started = region::Start();
    ASSERT_TRUE(started);
  }
};
using GuardSlotsDeathTest = GuardSlotsTest;

// Slots put blocks at the end and at the beginning of their page in turn.
char* Take(size_t size, bool at_the_end) {
  for (int i = 0; i < 200; i++) {
    auto* block = static_cast<char*>(guard::Allocate(size));
    if (block == nullptr) return nullptr;
    guard::SetAllocation(block, kObtained, kImage);
    const bool begins = reinterpret_cast<uintptr_t>(block) % guard::kPageBytes == 0;
    if (begins != at_the_end) return block;
    guard::Release(block, kReleased, kImage);
  }
  return nullptr;
}

void ExpectStacks(const GuardReport& report, bool released) {
  EXPECT_EQ(report.allocated.node, kObtained.node);
  EXPECT_EQ(report.allocated.thread_serial, kObtained.thread_serial);
  EXPECT_EQ(report.released.node, released ? kReleased.node : 0);
}

TEST_F(GuardSlotsTest, BlocksAreZeroAlignedAndDistinct) {
  std::vector<unsigned char*> blocks;
  for (uint32_t i = 0; i < guard::kSlots; i++) {
    const size_t size = 1 + i * 64;
    auto* block = static_cast<unsigned char*>(guard::Allocate(size));
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(guard::Contains(block));
    EXPECT_TRUE(region::Contains(block));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 16, 0u);
    EXPECT_EQ(guard::LiveSize(block), size);
    EXPECT_EQ(static_cast<size_t>(std::count(block, block + size, 0)), size);
    std::memset(block, 0xff, size);
    blocks.push_back(block);
  }
  EXPECT_EQ(guard::Allocate(1), nullptr);
  for (auto* block : blocks) {
    GuardReport report;
    EXPECT_FALSE(guard::FindDamage(block, &report));
    EXPECT_TRUE(guard::Release(block, kReleased, kImage));
    EXPECT_EQ(guard::LiveSize(block), 0u);
    EXPECT_FALSE(guard::Release(block, kReleased, kImage));
  }
}

TEST_F(GuardSlotsDeathTest, AccessesThatFault) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  char* volatile over = Take(112, true);
  ASSERT_NE(over, nullptr);
  over[111] = 1;
  EXPECT_DEATH(over[112] = 1, "");
  char* volatile under = Take(100, false);
  ASSERT_NE(under, nullptr);
  under[0] = 1;
  EXPECT_DEATH(under[-1] = 1, "");
  char* volatile freed = Take(100, true);
  ASSERT_NE(freed, nullptr);
  ASSERT_TRUE(guard::Release(freed, kReleased, kImage));
  EXPECT_DEATH(freed[0] = 1, "");
  guard::Release(over, kReleased, kImage);
  guard::Release(under, kReleased, kImage);
}

TEST_F(GuardSlotsTest, ChangedBytesBesideABlockAreFound) {
  for (const size_t size : {1, 15, 16, 100, 2000, 4000}) {
    for (const bool at_the_end : {false, true}) {
      char* block = Take(size, at_the_end);
      ASSERT_NE(block, nullptr);
      const auto page = reinterpret_cast<uintptr_t>(block) & ~(guard::kPageBytes - 1);
      GuardReport report;
      EXPECT_FALSE(guard::FindDamage(block, &report));
      if (reinterpret_cast<uintptr_t>(block) + size < page + guard::kPageBytes) {
        block[size] = 1;
        ASSERT_TRUE(guard::FindDamage(block, &report)) << size;
        EXPECT_EQ(report.error, HeapError::kOverflow);
        EXPECT_EQ(report.offset, static_cast<int64_t>(size));
        EXPECT_EQ(report.size, size);
        EXPECT_EQ(report.block, reinterpret_cast<uintptr_t>(block));
        EXPECT_EQ(report.access, Access::kUnknown);
        ExpectStacks(report, false);
        block[size] = static_cast<char>(0xa7);
      }
      if (reinterpret_cast<uintptr_t>(block) > page) {
        block[-3] = 0;
        ASSERT_TRUE(guard::FindDamage(block, &report)) << size;
        EXPECT_EQ(report.error, HeapError::kUnderflow);
        EXPECT_EQ(report.offset, -3);
        ExpectStacks(report, false);
      }
      EXPECT_TRUE(guard::Release(block, kReleased, kImage));
    }
  }
}

TEST_F(GuardSlotsTest, FaultsAreDescribedOnce) {
  char* block = Take(100, true);
  ASSERT_NE(block, nullptr);
  const auto address = reinterpret_cast<uintptr_t>(block);
  GuardReport report;
  EXPECT_EQ(guard::ExamineFault(address, &report), guard::Fault::kPassed);  // live: accessible by now
  ASSERT_TRUE(guard::Release(block, kReleased, kImage));
  ASSERT_EQ(guard::ExamineFault(address + 8, &report), guard::Fault::kError);
  EXPECT_EQ(report.error, HeapError::kUseAfterFree);
  EXPECT_EQ(report.offset, 8);
  EXPECT_EQ(report.block, address);
  EXPECT_EQ(report.size, 100u);
  ExpectStacks(report, true);
  guard::Open(address + 8);
  block[8] = 1;  // goes through now
  EXPECT_EQ(guard::ExamineFault(address + 16, &report), guard::Fault::kPassed);
}

TEST_F(GuardSlotsTest, TheNearerBlockIsBlamed) {
  char* block = Take(112, true);
  ASSERT_NE(block, nullptr);
  const auto end = reinterpret_cast<uintptr_t>(block) + 112;
  GuardReport report;
  ASSERT_EQ(guard::ExamineFault(end + 5, &report), guard::Fault::kError);
  EXPECT_EQ(report.error, HeapError::kOverflow);
  EXPECT_EQ(report.block, reinterpret_cast<uintptr_t>(block));
  EXPECT_EQ(report.offset, 117);
  EXPECT_EQ(guard::ExamineFault(end + 6, &report), guard::Fault::kPassed);  // told once
  EXPECT_TRUE(guard::Release(block, kReleased, kImage));

  block = Take(64, false);  // its slot may be the next one: the page between is closed again
  ASSERT_NE(block, nullptr);
  ASSERT_EQ(guard::ExamineFault(reinterpret_cast<uintptr_t>(block) - 2, &report), guard::Fault::kError);
  EXPECT_EQ(report.error, HeapError::kUnderflow);
  EXPECT_EQ(report.block, reinterpret_cast<uintptr_t>(block));
  EXPECT_EQ(report.offset, -2);
  EXPECT_TRUE(guard::Release(block, kReleased, kImage));
}

TEST_F(GuardSlotsTest, WrongReleases) {
  char* block = Take(100, true);
  ASSERT_NE(block, nullptr);
  GuardReport report;
  guard::ExamineRelease(block + 16, &report);
  EXPECT_EQ(report.error, HeapError::kInvalidFree);
  EXPECT_EQ(report.offset, 16);
  ExpectStacks(report, false);
  EXPECT_FALSE(guard::Release(block + 16, kReleased, kImage));
  ASSERT_TRUE(guard::Release(block, kReleased, kImage));
  guard::ExamineRelease(block, &report);
  EXPECT_EQ(report.error, HeapError::kDoubleFree);
  EXPECT_EQ(report.offset, 0);
  ExpectStacks(report, true);
}

TEST_F(GuardSlotsTest, StacksOfAnotherImageAreForgotten) {
  char* block = Take(100, true);
  ASSERT_NE(block, nullptr);
  guard::SetAllocation(block, kObtained, kImage + 1);
  ASSERT_TRUE(guard::Release(block, kReleased, kImage));
  GuardReport report;
  guard::ExamineRelease(block, &report);
  ExpectStacks(report, true);
  guard::ForgetStacksOfOthers(kImage, &report);
  EXPECT_EQ(report.allocated.node, 0u);
  EXPECT_EQ(report.released.node, kReleased.node);
}

TEST_F(GuardSlotsTest, ThreadsShareTheSlots) {
  std::atomic<uint64_t> given{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; t++) {
    threads.emplace_back([t, &given] {
      std::minstd_rand random(t + 1);
      std::vector<std::pair<unsigned char*, size_t>> mine;
      for (int i = 0; i < 3000; i++) {
        const size_t size = 1 + random() % guard::kPageBytes;
        if (auto* block = static_cast<unsigned char*>(guard::Allocate(size))) {
          std::memset(block, static_cast<int>(t), size);
          mine.emplace_back(block, size);
          given++;
        }
        if (mine.size() > 12 || (!mine.empty() && random() % 2 == 0)) {
          const auto [block, size_then] = mine[random() % mine.size()];
          ASSERT_EQ(guard::LiveSize(block), size_then);
          ASSERT_EQ(static_cast<size_t>(std::count(block, block + size_then, static_cast<unsigned char>(t))),
                    size_then);
          GuardReport report;
          ASSERT_FALSE(guard::FindDamage(block, &report));
          ASSERT_TRUE(guard::Release(block, kReleased, kImage));
          std::erase(mine, std::pair(block, size_then));
        }
      }
      for (const auto& [block, size] : mine) ASSERT_TRUE(guard::Release(block, kReleased, kImage));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(given, 1000u);
}

// Last: nothing is guarded any more afterwards.
TEST_F(GuardSlotsTest, ZGivingUpOpensEverything) {
  char* block = Take(100, true);
  char* freed = Take(50, true);
  ASSERT_NE(block, nullptr);
  ASSERT_NE(freed, nullptr);
  ASSERT_TRUE(guard::Release(freed, kReleased, kImage));
  guard::GiveUp();
  freed[0] = 1;
  block[100 + 12] = 1;  // in the page behind
  EXPECT_EQ(guard::Allocate(1), nullptr);
  EXPECT_TRUE(guard::Release(block, kReleased, kImage));
  block[0] = 1;
}

}  // namespace
}  // namespace tidemark
