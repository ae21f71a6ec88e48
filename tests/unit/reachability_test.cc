// Marking against an oracle that follows pointers the slow way, over heaps of every shape; and the classes by example.
#include "profiler/reachability.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace tidemark {
namespace {

// A heap in one arena: blocks with gaps, whose words the tests fill in.
class Heap {
 public:
  explicit Heap(size_t bytes) : memory_(bytes / 8) {}

  // The next block, `gap` bytes behind the last one.
  uint32_t Add(uint64_t size, uint64_t gap = 16) {
    used_ = (used_ + gap + 15) & ~uint64_t{15};
    blocks_.push_back({reinterpret_cast<uint64_t>(memory_.data()) + used_, size});
    used_ += size;
    EXPECT_LE(used_, memory_.size() * 8);
    return static_cast<uint32_t>(blocks_.size() - 1);
  }
  uint64_t at(uint32_t block, uint64_t offset = 0) const { return blocks_[block].start + offset; }
  void Put(uint32_t block, uint64_t offset, uint64_t word) {
    std::memcpy(reinterpret_cast<void*>(at(block, offset)), &word, sizeof word);
  }
  void Link(uint32_t from, uint64_t offset, uint32_t to, uint64_t inside = 0) { Put(from, offset, at(to, inside)); }
  const std::vector<HeapBlock>& blocks() const { return blocks_; }

 private:
  std::vector<uint64_t> memory_;
  std::vector<HeapBlock> blocks_;
  uint64_t used_ = 0;
};

struct Found {
  std::vector<Reachability> blocks;
  LeakClass leak_class(uint32_t block) const { return blocks[block].leak_class; }
};

Found Mark(const Heap& heap, const std::vector<std::pair<uint64_t, RootKind>>& roots) {
  const auto& blocks = heap.blocks();
  const auto count = static_cast<uint32_t>(blocks.size());
  const size_t bytes = ReachabilityMarker::WorkspaceBytes(blocks.data(), count);
  const std::unique_ptr<void, decltype(&std::free)> workspace(std::calloc(1, bytes + 16), &std::free);
  ReachabilityMarker marker(blocks.data(), count, workspace.get());
  // One by one, and as a range of words that only look like pointers around them.
  for (size_t i = 0; i < roots.size(); ++i) {
    const auto [word, kind] = roots[i];
    if (i % 2 == 0) {
      marker.MarkWord(word, kind);
      continue;
    }
    const uint64_t words[] = {1, ~uint64_t{0}, word, 0, 42};
    marker.MarkRoots({reinterpret_cast<uint64_t>(words), reinterpret_cast<uint64_t>(words + 5), kind});
  }
  marker.Finish();
  Found found;
  for (uint32_t i = 0; i < count; ++i) found.blocks.push_back(marker.ResultOf(i));
  return found;
}

TEST(Reachability, NoBlocks) {
  std::vector<HeapBlock> none;
  EXPECT_EQ(ReachabilityMarker::WorkspaceBytes(none.data(), 0), 0u);
  ReachabilityMarker marker(none.data(), 0, nullptr);
  const uint64_t word = 1;
  marker.MarkRoots({reinterpret_cast<uint64_t>(&word), reinterpret_cast<uint64_t>(&word + 1), RootKind::kGlobal});
  marker.MarkWord(1, RootKind::kStack);
  marker.Finish();
}

TEST(Reachability, ChainsFromARoot) {
  Heap heap(4096);
  const uint32_t a = heap.Add(32), b = heap.Add(32), c = heap.Add(32), lost = heap.Add(32);
  heap.Link(a, 24, b);
  heap.Link(b, 0, c);
  const Found found = Mark(heap, {{heap.at(a), RootKind::kGlobal}});
  for (const uint32_t block : {a, b, c}) {
    EXPECT_EQ(found.leak_class(block), LeakClass::kReachable);
    EXPECT_EQ(found.blocks[block].root, RootKind::kGlobal);
  }
  EXPECT_EQ(found.leak_class(lost), LeakClass::kDefinitelyLost);
  EXPECT_EQ(found.blocks[lost].leader, lost);
  EXPECT_EQ(found.blocks[lost].root, RootKind::kNone);
}

TEST(Reachability, PointersInsideAndBehindAreWeak) {
  Heap heap(4096);
  const uint32_t inside = heap.Add(48), behind = heap.Add(64), child = heap.Add(16), both = heap.Add(32),
                 far = heap.Add(40);
  heap.Link(inside, 8, child);
  const Found found = Mark(heap, {{heap.at(inside, 40), RootKind::kStack},
                                  {heap.at(behind, 64), RootKind::kStack},
                                  {heap.at(both, 8), RootKind::kStack},
                                  {heap.at(both), RootKind::kRegisters},
                                  {heap.at(far, 41), RootKind::kStack}});
  EXPECT_EQ(found.leak_class(inside), LeakClass::kPossiblyLost);
  EXPECT_EQ(found.leak_class(behind), LeakClass::kPossiblyLost);
  EXPECT_EQ(found.leak_class(child), LeakClass::kPossiblyLost);  // its chain has a weak link
  EXPECT_EQ(found.blocks[child].root, RootKind::kStack);
  EXPECT_EQ(found.leak_class(both), LeakClass::kReachable);
  EXPECT_EQ(found.blocks[both].root, RootKind::kRegisters);
  EXPECT_EQ(found.leak_class(far), LeakClass::kDefinitelyLost);
}

TEST(Reachability, TheBeginningOfTheNextBlockIsNotTheEndOfThisOne) {
  Heap heap(4096);
  const uint32_t first = heap.Add(32), second = heap.Add(32, 0);
  ASSERT_EQ(heap.at(first, 32), heap.at(second));
  const Found found = Mark(heap, {{heap.at(second), RootKind::kGlobal}});
  EXPECT_EQ(found.leak_class(first), LeakClass::kDefinitelyLost);
  EXPECT_EQ(found.leak_class(second), LeakClass::kReachable);
}

TEST(Reachability, UnalignedWordsAndLastBytesAreNoPointers) {
  Heap heap(4096);
  const uint32_t holder = heap.Add(32), odd = heap.Add(16), cut = heap.Add(20), at_the_end = heap.Add(16);
  heap.Put(holder, 12, heap.at(odd));
  heap.Put(cut, 16, heap.at(at_the_end));  // only four bytes of it belong to the block
  const Found found = Mark(heap, {{heap.at(holder), RootKind::kGlobal}, {heap.at(cut), RootKind::kGlobal}});
  EXPECT_EQ(found.leak_class(odd), LeakClass::kDefinitelyLost);
  EXPECT_EQ(found.leak_class(at_the_end), LeakClass::kDefinitelyLost);
}

TEST(Reachability, CirclesHaveOneLeader) {
  Heap heap(4096);
  const uint32_t a = heap.Add(16), b = heap.Add(16), c = heap.Add(16), tail = heap.Add(16), self = heap.Add(16);
  heap.Link(a, 0, b);
  heap.Link(b, 0, c);
  heap.Link(c, 0, a);
  heap.Link(c, 8, tail, 4);  // into the middle: among lost blocks any pointer counts
  heap.Link(self, 0, self);
  const Found found = Mark(heap, {});
  EXPECT_EQ(found.leak_class(a), LeakClass::kDefinitelyLost);
  for (const uint32_t block : {b, c, tail}) {
    EXPECT_EQ(found.leak_class(block), LeakClass::kIndirectlyLost);
    EXPECT_EQ(found.blocks[block].leader, a);
  }
  EXPECT_EQ(found.leak_class(self), LeakClass::kDefinitelyLost);
}

TEST(Reachability, LeadersOfTreesAndSharedChildren) {
  Heap heap(4096);
  const uint32_t child = heap.Add(16), first = heap.Add(16), second = heap.Add(16), deep = heap.Add(16);
  heap.Link(first, 0, child);
  heap.Link(second, 0, child);
  heap.Link(child, 8, deep);
  const Found found = Mark(heap, {});
  EXPECT_EQ(found.leak_class(first), LeakClass::kDefinitelyLost);
  EXPECT_EQ(found.leak_class(second), LeakClass::kDefinitelyLost);
  EXPECT_EQ(found.blocks[child].leader, first);  // once, to the first
  EXPECT_EQ(found.blocks[deep].leader, first);
}

TEST(Reachability, ADeepListDoesNotOverflowTheStack) {
  constexpr uint32_t kCount = 300'000;
  Heap heap(kCount * 32 + 4096);
  for (uint32_t i = 0; i < kCount; ++i) heap.Add(16);
  for (uint32_t i = 0; i + 1 < kCount; ++i) heap.Link(i + 1, 0, i);  // against the order of addresses
  Found found = Mark(heap, {});
  EXPECT_EQ(found.leak_class(kCount - 1), LeakClass::kDefinitelyLost);
  EXPECT_EQ(found.blocks[0].leader, kCount - 1);
  found = Mark(heap, {{heap.at(kCount - 1), RootKind::kMapping}});
  EXPECT_EQ(found.leak_class(0), LeakClass::kReachable);
}

// The slow way: sets of blocks, no tables.
class Oracle {
 public:
  explicit Oracle(const Heap& heap) : blocks_(heap.blocks()) {
    for (uint32_t i = 0; i < blocks_.size(); ++i) {
      strong_.emplace_back();
      any_.emplace_back();
      for (uint64_t at = blocks_[i].start; at + 8 <= blocks_[i].start + blocks_[i].size; at += 8) {
        uint64_t word;
        std::memcpy(&word, reinterpret_cast<const void*>(at), sizeof word);
        if (const auto [to, is_start] = Target(word); to >= 0) {
          any_[i].insert(static_cast<uint32_t>(to));
          if (is_start) strong_[i].insert(static_cast<uint32_t>(to));
        }
      }
    }
  }

  std::pair<int64_t, bool> Target(uint64_t word) const {
    int64_t behind = -1;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (word == blocks_[i].start) return {static_cast<int64_t>(i), true};
      if (word > blocks_[i].start && word < blocks_[i].start + blocks_[i].size) return {static_cast<int64_t>(i), false};
      if (word == blocks_[i].start + blocks_[i].size) behind = static_cast<int64_t>(i);
    }
    return {behind, false};
  }

  std::vector<LeakClass> Classes(const std::vector<std::pair<uint64_t, RootKind>>& roots) const {
    std::set<uint32_t> strong, any;
    for (const auto& [word, kind] : roots) {
      if (const auto [to, is_start] = Target(word); to >= 0) {
        any.insert(static_cast<uint32_t>(to));
        if (is_start) strong.insert(static_cast<uint32_t>(to));
      }
    }
    strong = Closure(strong, strong_);
    any = Closure(any, any_);
    std::vector<LeakClass> classes(blocks_.size(), LeakClass::kIndirectlyLost);
    for (uint32_t i = 0; i < blocks_.size(); ++i) {
      if (strong.count(i)) {
        classes[i] = LeakClass::kReachable;
      } else if (any.count(i)) {
        classes[i] = LeakClass::kPossiblyLost;
      } else if (IsFirstOfUnreferenced(i)) {
        classes[i] = LeakClass::kDefinitelyLost;
      }
    }
    return classes;
  }

  bool Leads(uint32_t from, uint32_t to) const { return Closure({from}, any_).count(to) != 0; }

 private:
  std::set<uint32_t> Closure(std::set<uint32_t> set, const std::vector<std::set<uint32_t>>& edges) const {
    std::vector<uint32_t> work(set.begin(), set.end());
    while (!work.empty()) {
      const uint32_t at = work.back();
      work.pop_back();
      for (const uint32_t to : edges[at]) {
        if (set.insert(to).second) work.push_back(to);
      }
    }
    return set;
  }
  // Whoever leads here can be reached from here; and of those, this is the first.
  bool IsFirstOfUnreferenced(uint32_t block) const {
    for (uint32_t other = 0; other < blocks_.size(); ++other) {
      if (other == block || !Leads(other, block)) continue;
      if (!Leads(block, other) || other < block) return false;
    }
    return true;
  }

  const std::vector<HeapBlock>& blocks_;
  std::vector<std::set<uint32_t>> strong_, any_;
};

TEST(Reachability, AgreesWithTheOracleOnRandomHeaps) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    std::mt19937_64 random(seed);
    Heap heap(1 << 16);
    const uint32_t count = 1 + random() % 24;
    for (uint32_t i = 0; i < count; ++i) heap.Add(1 + random() % (random() % 5 == 0 ? 3000 : 60), random() % 3 * 16);
    const uint32_t links = static_cast<uint32_t>(random() % (2 * count));
    for (uint32_t i = 0; i < links; ++i) {
      const auto from = static_cast<uint32_t>(random() % count), to = static_cast<uint32_t>(random() % count);
      const uint64_t size = heap.blocks()[from].size;
      if (size < 8) continue;
      const uint64_t inside = random() % 3 == 0 ? random() % (heap.blocks()[to].size + 1) : 0;
      heap.Link(from, random() % (size / 8) * 8, to, inside);
    }
    std::vector<std::pair<uint64_t, RootKind>> roots;
    for (uint64_t i = random() % 4; i > 0; --i) {
      const auto to = static_cast<uint32_t>(random() % count);
      roots.emplace_back(heap.at(to, random() % 2 == 0 ? 0 : random() % (heap.blocks()[to].size + 1)),
                         RootKind::kStack);
    }
    const Oracle oracle(heap);
    const std::vector<LeakClass> expected = oracle.Classes(roots);
    const Found found = Mark(heap, roots);
    for (uint32_t i = 0; i < count; ++i) {
      ASSERT_EQ(found.leak_class(i), expected[i]) << "seed " << seed << " block " << i;
      const uint32_t leader = found.blocks[i].leader;
      if (expected[i] == LeakClass::kIndirectlyLost) {
        ASSERT_EQ(expected[leader], LeakClass::kDefinitelyLost) << "seed " << seed;
        ASSERT_TRUE(oracle.Leads(leader, i)) << "seed " << seed;
      } else {
        ASSERT_EQ(leader, i);
      }
    }
  }
}

}  // namespace
}  // namespace tidemark
