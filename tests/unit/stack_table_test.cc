// Stack nodes: equal means equal number, one definition each, committed before anybody can use it.
#include "profiler/stack_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/unit/ring_segment.h"

namespace tidemark {
namespace {

class StackTableTest : public testing::Test {
 protected:
  StackTableTest() : ring_(Mode::kFull, 4 << 20, false) { EXPECT_TRUE(ResetStackTable(true)); }
  RingSegment ring_;
};

TEST_F(StackTableTest, SameParentAndAddressIsTheSameNode) {
  auto thread = ring_.NewThread(0);
  const StackPath root = ExtendPath(thread.get(), {}, 0x401000, 0);
  const StackPath child = ExtendPath(thread.get(), root, 0x402000, 0);
  EXPECT_NE(root.node, 0u);
  EXPECT_NE(child.node, root.node);
  EXPECT_EQ(child.hash, PathHash(PathHash(0, 0x401000, 0), 0x402000, 0));
  EXPECT_EQ(ExtendPath(thread.get(), {}, 0x401000, 0).node, root.node);
  EXPECT_EQ(ExtendPath(thread.get(), root, 0x402000, 0).node, child.node);
  EXPECT_NE(ExtendPath(thread.get(), {}, 0x402000, 0).node, child.node) << "another parent";
  EXPECT_NE(ExtendPath(thread.get(), root, 0x402001, 0).node, child.node) << "another address";
  EXPECT_NE(ExtendPath(thread.get(), root, 0x402000, kNodeSignal).node, child.node) << "other flags";
  ring_.DrainRest();
  EXPECT_EQ(ring_.received().nodes.size(), 5u);
  const TraceStackNode& defined = ring_.received().nodes[child.node];
  EXPECT_EQ(defined.parent, root.node);
  EXPECT_EQ(defined.ip, 0x402000u);
}

// Paths of equal hash are told apart by what they are.
TEST_F(StackTableTest, AHashIsNotAnIdentity) {
  auto thread = ring_.NewThread(0);
  const StackPath root = ExtendPath(thread.get(), {}, 0x401000, 0);
  const StackPath impostor{root.node + 1000, root.hash};
  EXPECT_NE(ExtendPath(thread.get(), root, 0x402000, 0).node, ExtendPath(thread.get(), impostor, 0x402000, 0).node);
}

TEST_F(StackTableTest, ResetsForgetNodesButNotNumbers) {
  auto thread = ring_.NewThread(0);
  const StackPath before = ExtendPath(thread.get(), {}, 0x401000, 0);
  const uint32_t epoch = StackTableEpoch();
  ASSERT_TRUE(ResetStackTable(false));
  EXPECT_NE(StackTableEpoch(), epoch);
  const StackPath after = ExtendPath(thread.get(), {}, 0x401000, 0);
  EXPECT_GT(after.node, before.node) << "the address may mean another function now";
  ASSERT_TRUE(ResetStackTable(true));
  EXPECT_EQ(ExtendPath(thread.get(), {}, 0x401000, 0).node, 1u) << "a new session counts anew";
}

TEST_F(StackTableTest, NoRoomInTheRingIsNoNode) {
  auto thread = ring_.NewThread(0);
  ring_.header().collector_alive.store(0);
  uintptr_t ip = 0x400000;
  while (ExtendPath(thread.get(), {}, ip, 0).node != 0) ip++;
  EXPECT_EQ(ring_.free_chunks(), 0u);
  EXPECT_NE(ExtendPath(thread.get(), {}, 0x400000, 0).node, 0u) << "a node that is known needs no room";
  ring_.DrainRest();
  EXPECT_NE(ExtendPath(thread.get(), {}, ip, 0).node, 0u);
  EXPECT_EQ(ring_.received().nodes.size(), ip - 0x400000);
}

// Eight threads build the same tree in different orders while the reader takes the definitions.
TEST_F(StackTableTest, ThreadsAgree) {
  constexpr uint32_t kThreads = 8, kPaths = 3000, kDepth = 6;
  ring_.header().full_wait_us = 60'000'000;
  std::vector<std::unique_ptr<ThreadState>> states;
  for (uint32_t i = 0; i < kThreads; i++) states.push_back(ring_.NewThread(i));
  std::vector<std::vector<uint32_t>> leaves(kThreads, std::vector<uint32_t>(kPaths));
  std::atomic<uint32_t> running{kThreads};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; i++) {
    threads.emplace_back([&, i] {
      for (uint32_t k = 0; k < kPaths; k++) {
        const uint32_t path = (k * 7919 + i * 104729) % kPaths;
        uint32_t bits = path;
        StackPath at;
        for (uint32_t depth = 0; depth < kDepth; depth++, bits /= 4) {
          at = ExtendPath(states[i].get(), at, 0x400000 + bits % 4 + (depth + 1 == kDepth ? path * 16 : 0), 0);
        }
        leaves[i][path] = at.node;
      }
      running--;
    });
  }
  while (running != 0) {
    if (ring_.Drain() == 0) std::this_thread::yield();
  }
  for (auto& thread : threads) thread.join();
  ring_.DrainRest();
  const Received& received = ring_.received();
  EXPECT_EQ(received.repeated_nodes, 0);
  const auto text = [&](uint32_t node) {
    std::vector<uint64_t> ips;
    for (; node != 0; node = received.nodes.at(node).parent) ips.push_back(received.nodes.at(node).ip);
    return ips;
  };
  uint32_t duplicates = 0;
  for (uint32_t path = 0; path < kPaths; path++) {
    const auto expected = text(leaves[0][path]);
    ASSERT_EQ(expected.size(), size_t{kDepth});
    for (uint32_t i = 1; i < kThreads; i++) {
      ASSERT_NE(leaves[i][path], 0u);
      duplicates += leaves[i][path] != leaves[0][path];
      ASSERT_EQ(text(leaves[i][path]), expected);
    }
  }
  EXPECT_EQ(duplicates, 0u) << "of two threads that insert at the same instant the second takes the first one's node";
}

}  // namespace
}  // namespace tidemark
