// The unwinder on stacks that are made up: whatever the registers and the words of a stack are, it reads nothing that
// is not mapped, comes to an end, and what it keeps of the previous stack changes no result.
//
// The stacks lie in memory of their own with holes, filled with what stacks consist of: return addresses of real code
// (so that real rules are applied to nonsense), frame pointers, and anything.
#include "profiler/unwind.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "profiler/stack_table.h"
#include "tests/unit/ring_segment.h"

namespace tidemark {
namespace {

constexpr size_t kPage = 4096, kPages = 48, kWords = kPages * kPage / 8;

class MadeUpStackTest : public testing::Test {
 protected:
  MadeUpStackTest() : ring_(Mode::kFull, 8 << 20, false), random_(20261121) {
    EXPECT_TRUE(ResetStackTable(true));
    EXPECT_TRUE(ResetUnwinder());
    void* memory = mmap(nullptr, (kPages + 2) * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    base_ = static_cast<char*>(memory);
    words_ = reinterpret_cast<uintptr_t*>(base_ + kPage);
    // Nothing before, nothing behind, and two holes.
    munmap(base_, kPage);
    munmap(base_ + (kPages + 1) * kPage, kPage);
    for (size_t hole : {17, 33}) mprotect(base_ + (1 + hole) * kPage, kPage, PROT_NONE);
    first_ = ring_.NewThread(0);
    second_ = ring_.NewThread(1);
  }
  ~MadeUpStackTest() override { munmap(base_ + kPage, kPages * kPage); }

  static bool InHole(size_t word) { return word / 512 == 17 || word / 512 == 33; }
  uint64_t Random() { return random_(); }
  uintptr_t AddressInStack() { return reinterpret_cast<uintptr_t>(words_) + Random() % (kWords * 8); }

  // An instruction of libc, libstdc++ or this program, mostly one that follows a call by chance only.
  uintptr_t Code() {
    const uintptr_t anchors[] = {reinterpret_cast<uintptr_t>(&std::printf), reinterpret_cast<uintptr_t>(&std::qsort),
                                 reinterpret_cast<uintptr_t>(&TakeStack), reinterpret_cast<uintptr_t>(&mmap),
                                 reinterpret_cast<uintptr_t>(&munmap)};
    return anchors[Random() % 5] + Random() % 4096 - 1024;
  }
  uintptr_t Anything() {
    switch (Random() % 8) {
      case 0:
      case 1:
      case 2:
        return Code();
      case 3:
      case 4:
        return AddressInStack() & ~uintptr_t{7};
      case 5:
        return AddressInStack();
      case 6:
        return Random() % 4 == 0 ? 0 : Random() % 64;
      default:
        return Random();
    }
  }
  void FillWords() {
    for (size_t i = 0; i < kWords; i++) {
      if (!InHole(i)) words_[i] = Anything();
    }
  }
  UnwindStart Start() {
    UnwindStart start{};
    start.ip = Random() % 16 == 0 ? Anything() : Code();
    start.sp = Random() % 16 == 0 ? Anything() : AddressInStack() & ~uintptr_t{7};
    start.bp = Anything();
    return start;
  }
  // What a thread gets that has no previous stack.
  uint32_t TakeAfresh(const UnwindStart& start) {
    second_->frames.previous_count = 0;
    return TakeStack(second_.get(), start);
  }

  RingSegment ring_;
  std::mt19937_64 random_;
  char* base_;
  uintptr_t* words_;
  std::unique_ptr<ThreadState> first_, second_;
};

#if defined(__SANITIZE_ADDRESS__)
constexpr int kStacks = 6000;
#else
constexpr int kStacks = 20000;
#endif

TEST_F(MadeUpStackTest, AnyStackComesToAnEnd) {
  uint64_t taken = 0;
  for (int i = 0; i < kStacks; i++) {
    if (i % 50 == 0) FillWords();
    taken += TakeStack(first_.get(), Start()) != 0;
    if (i % 16 == 0) ring_.Drain(RingReader::Take::kEverything);
  }
  ring_.DrainRest();
  EXPECT_GT(taken, static_cast<uint64_t>(kStacks) * 9 / 10);
  EXPECT_GT(first_->slot->frames_walked.load(), static_cast<uint64_t>(kStacks) * 3 / 2) << "the stacks had no frames";
  EXPECT_EQ(ring_.reader().damaged_chunks(), 0u);
}

// One word or register differs from the stack before, or none: the worst that suffix reuse can be offered. A walk
// without a previous stack tells what is right.
TEST_F(MadeUpStackTest, ThePreviousStackChangesNothing) {
  uint64_t same = 0;
  for (int i = 0; i < kStacks / 10; i++) {
    if (i % 10 == 0) FillWords();
    UnwindStart start = Start();
    for (int change = 0; change < 10; change++) {
      const uint32_t node = TakeStack(first_.get(), start);
      ASSERT_EQ(node, TakeAfresh(start)) << "stack " << i << " change " << change;
      same += node != 0;
      switch (Random() % 4) {
        case 0: {
          const size_t word = Random() % kWords;
          if (!InHole(word)) words_[word] = Anything();
          break;
        }
        case 1: {  // near the stack pointer, where it matters
          const size_t word = (start.sp - reinterpret_cast<uintptr_t>(words_)) / 8 + Random() % 64;
          if (word < kWords && !InHole(word)) words_[word] = Anything();
          break;
        }
        case 2:
          start.bp = Anything();
          break;
        default:
          break;
      }
    }
    ring_.Drain(RingReader::Take::kEverything);
  }
  EXPECT_GT(same, 0u);
  EXPECT_GT(first_->slot->frames_reused.load(), static_cast<uint64_t>(kStacks) / 4) << "nothing was ever kept";
}

// Memory that the walk has once read is gone when it comes by again: above the root, so no frame of the stack is there.
TEST_F(MadeUpStackTest, WhatLiesAboveTheRootMayGo) {
  // Code without call frame information lets the walk go by the frame pointer.
  auto* code = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(code, MAP_FAILED);
  const uintptr_t ip = reinterpret_cast<uintptr_t>(code) + 64;
  // Two at different places: what could not be read is not looked at again.
  auto* both =
      static_cast<char*>(mmap(nullptr, 16 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(both, MAP_FAILED);
  for (const uintptr_t last_ip : {uintptr_t{0}, uintptr_t{12345}}) {
    char* const memory = both + (last_ip == 0 ? 0 : 8 * kPage);
    const auto word = [&](size_t offset) { return reinterpret_cast<uintptr_t*>(memory + offset); };
    // A frame in page 0, its caller's frame in page 1, whose own frame pointer and return address are in page 3.
    const size_t frames[] = {256, kPage + 512, 3 * kPage + 64, 3 * kPage + 128};
    for (int i = 0; i < 3; i++) {
      word(frames[i])[0] = reinterpret_cast<uintptr_t>(word(frames[i + 1]));
      word(frames[i])[1] = i == 2 ? last_ip : ip + static_cast<size_t>(i);
    }
    const UnwindStart start{ip, reinterpret_cast<uintptr_t>(word(128)), reinterpret_cast<uintptr_t>(word(256))};
    EXPECT_EQ(TakeStack(first_.get(), start), TakeAfresh(start));
    EXPECT_EQ(TakeStack(first_.get(), start), TakeAfresh(start));
    munmap(memory + 3 * kPage, 5 * kPage);
    EXPECT_EQ(TakeStack(first_.get(), start), TakeAfresh(start));
    EXPECT_EQ(TakeStack(first_.get(), start), TakeAfresh(start));
    munmap(memory, 3 * kPage);
  }
  munmap(code, kPage);
}

}  // namespace
}  // namespace tidemark
