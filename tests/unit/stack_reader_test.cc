// The interval of readable pages: it grows over gaps, moves to other memory, and never faults.
#include "profiler/stack_reader.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace tidemark {
namespace {

constexpr size_t kPage = 4096;

class StackReaderTest : public testing::Test {
 protected:
  // 64 pages, of which page 20 cannot be read.
  StackReaderTest()
      : memory_(
            static_cast<char*>(mmap(nullptr, 64 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    EXPECT_NE(memory_, MAP_FAILED);
    EXPECT_EQ(mprotect(memory_ + 20 * kPage, kPage, PROT_NONE), 0);
    for (size_t page = 0; page < 64; page++) {
      if (page != 20) *reinterpret_cast<uintptr_t*>(memory_ + page * kPage) = page + 1000;
    }
  }
  ~StackReaderTest() override { munmap(memory_, 64 * kPage); }

  uintptr_t Read(size_t page) {
    uintptr_t value = 0;
    return reader_.Read(reinterpret_cast<uintptr_t>(memory_ + page * kPage), &value) ? value : 0;
  }
  char* memory_;
  StackReader reader_;
};

// A function with large locals leaves pages out. Once this made the interval move to and fro with each event, at one
// system call a word, depending on where the stack happened to begin.
TEST_F(StackReaderTest, GrowsOverPagesThatWereLeftOut) {
  EXPECT_EQ(Read(5), 1005u);
  EXPECT_EQ(Read(12), 1012u);
  EXPECT_EQ(Read(1), 1001u);
  EXPECT_EQ(reader_.moves(), 1u) << "from nowhere to the first page";
  EXPECT_EQ(reader_.length(), 12 * kPage);
  EXPECT_EQ(reader_.low(), reinterpret_cast<uintptr_t>(memory_) + kPage);
}

TEST_F(StackReaderTest, WhatCannotBeReadIsNotInTheInterval) {
  EXPECT_EQ(Read(20), 0u);
  EXPECT_EQ(Read(18), 1018u);
  EXPECT_EQ(Read(20), 0u);
  EXPECT_EQ(Read(22), 1022u) << "beyond the hole: the interval moves";
  EXPECT_EQ(reader_.moves(), 2u);
  EXPECT_EQ(reader_.length(), kPage);
  EXPECT_EQ(Read(18), 1018u);
  EXPECT_EQ(reader_.moves(), 3u);
}

// A stack that was given back must not stay in the interval because another one lies next to it.
TEST_F(StackReaderTest, WhatIsGoneIsNotGrownOnto) {
  EXPECT_EQ(Read(40), 1040u);
  EXPECT_EQ(reader_.moves(), 1u);
  reader_.StartWalk();
  ASSERT_EQ(mprotect(memory_ + 40 * kPage, kPage, PROT_NONE), 0);
  EXPECT_EQ(Read(39), 1039u);
  EXPECT_EQ(reader_.moves(), 2u) << "the interval moves instead of growing";
  EXPECT_EQ(reader_.length(), kPage);
  EXPECT_EQ(Read(40), 0u);
}

TEST_F(StackReaderTest, WhatIsForgottenIsAskedForAgain) {
  EXPECT_EQ(Read(40), 1040u);
  EXPECT_EQ(Read(44), 1044u);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory_);
  reader_.ForgetFrom(StackReader::PagesEnd(begin + 41 * kPage + 8));
  EXPECT_EQ(reader_.low(), begin + 40 * kPage);
  EXPECT_EQ(reader_.length(), 2 * kPage);
  reader_.ForgetFrom(begin + 50 * kPage);
  reader_.ForgetFrom(begin + 30 * kPage);
  EXPECT_EQ(reader_.length(), 2 * kPage) << "neither end is inside";
  ASSERT_EQ(mprotect(memory_ + 43 * kPage, kPage, PROT_NONE), 0);
  EXPECT_EQ(Read(43), 0u);
  EXPECT_EQ(Read(42), 1042u);
  EXPECT_EQ(reader_.moves(), 1u) << "growth is no move";
}

TEST_F(StackReaderTest, MisalignedAndLowAddressesAreRefused) {
  uintptr_t value;
  EXPECT_FALSE(reader_.Read(reinterpret_cast<uintptr_t>(memory_) + 4, &value));
  EXPECT_FALSE(reader_.Read(8, &value));
  EXPECT_FALSE(reader_.Read(0, &value));
  EXPECT_EQ(Read(3), 1003u);
  EXPECT_FALSE(reader_.Read(reinterpret_cast<uintptr_t>(memory_) + 3 * kPage + 1, &value));
}

TEST_F(StackReaderTest, ALoggedReaderTellsWhatItRead) {
  LoggedReader log(&reader_);
  uintptr_t value;
  EXPECT_TRUE(log.Read(reinterpret_cast<uintptr_t>(memory_), &value));
  EXPECT_FALSE(log.Read(reinterpret_cast<uintptr_t>(memory_ + 20 * kPage), &value));
  ASSERT_EQ(log.count(), 1u);
  ASSERT_NE(log.words(), nullptr);
  EXPECT_EQ(log.words()[0].address, reinterpret_cast<uintptr_t>(memory_));
  EXPECT_EQ(log.words()[0].value, 1000u);
  for (size_t page = 1; page <= LoggedReader::kMaxWords; page++) {
    EXPECT_TRUE(log.Read(reinterpret_cast<uintptr_t>(memory_ + page * kPage), &value));
  }
  EXPECT_EQ(log.words(), nullptr) << "too many to remember";
}

}  // namespace
}  // namespace tidemark
