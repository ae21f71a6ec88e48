// The rule cache while modules come and go: nobody uses a rule of a module that is gone.
#include "profiler/rule_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace tidemark {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint32_t kRounds = 200;
#else
constexpr uint32_t kRounds = 3000;
#endif

// An address that has entry `index`.
uintptr_t AddressOf(uint32_t index) {
  constexpr uintptr_t kHigh = uintptr_t{0x7f12} << 32;
  return kHigh | ((index ^ (kHigh >> 16)) & (kRuleEntries - 1));
}

void Fill() {
  for (uint32_t i = 0; i < kRuleEntries; i++) {
    const uintptr_t ip = AddressOf(i);
    RuleEntry(ip).store(Rule(ip, RuleKind::kFrame, false, 16, 0).word(), std::memory_order_relaxed);
  }
}

// All go on at the same instant where there are processors for them; where there are not, nobody waits for long.
void WaitFor(const std::atomic<uint32_t>& count, uint32_t wanted) {
  constexpr int kSpins = 20000;
  for (int spins = 0; count.load() != wanted; spins++) {
    if (spins >= kSpins) std::this_thread::yield();
  }
}

TEST(RuleCache, EachAddressOfTheTestHasItsEntry) {
  ASSERT_TRUE(ResetRules(1));
  Fill();
  for (uint32_t i = 0; i < kRuleEntries; i++) ASSERT_TRUE(CachedRule(AddressOf(i)).IsFrameFor(AddressOf(i))) << i;
  FollowGeneration(1);
  EXPECT_TRUE(CachedRule(AddressOf(0)).IsFrameFor(AddressOf(0))) << "nothing has changed";
}

// Several threads learn at once that modules have changed. One of them empties the cache, but the others must not look
// into it before that is done: the thread that has just loaded a module may be one of the others.
TEST(RuleCache, WhoeverHasSeenTheChangeFindsNoOldRule) {
  constexpr uint32_t kThreads = 3;
  ASSERT_TRUE(ResetRules(1));
  std::atomic<uint32_t> arrived{0}, left{0}, old_rules{0};
  std::vector<std::thread> threads;
  for (uint32_t thread = 0; thread < kThreads; thread++) {
    threads.emplace_back([&, thread] {
      for (uint32_t round = 1; round <= kRounds; round++) {
        if (thread == 0) Fill();
        arrived.fetch_add(1);
        WaitFor(arrived, round * kThreads);
        FollowGeneration(1 + round);
        for (uint32_t i = kRuleEntries; i-- > kRuleEntries - 64;) {
          old_rules += CachedRule(AddressOf(i)).IsFor(AddressOf(i));
        }
        left.fetch_add(1);
        WaitFor(left, round * kThreads);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(old_rules, 0u);
}

}  // namespace
}  // namespace tidemark
