// A GoogleTest listener that fails each test which leaks: it counts lost blocks before and after the test.
//
//   int main(int argc, char** argv) {
//     testing::InitGoogleTest(&argc, argv);
//     tidemark_examples::FailTestsThatLeak();
//     return RUN_ALL_TESTS();
//   }
//   tidemark record --mode full --leak-check -- ./my_test
//
// Without tidemark it does nothing, so it may stay in. Death tests are unharmed: their children look for leaks of their
// own when they end, and no test ends there. What a test has lost while a stray copy of the pointer was left anywhere
// (in a register, in a variable of a frame that still stands) is found after one of the next tests, and blamed on it.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tidemark.h"

namespace tidemark_examples {

class LeakListener : public testing::EmptyTestEventListener {
 public:
  void OnTestStart(const testing::TestInfo& test) override {
    const std::string name = std::string("test ") + test.test_suite_name() + "." + test.name();
    TIDEMARK_MARK(name.c_str());  // in the trace, too, leaks can be told by test
    is_on_ = TIDEMARK_LEAK_CHECK(&before_) == 1;
  }

  void OnTestEnd(const testing::TestInfo&) override {
    tidemark_leak_counts after = {};
    if (!is_on_ || TIDEMARK_LEAK_CHECK(&after) != 1) return;
    const uint64_t blocks = Lost(after.definite_blocks, after.indirect_blocks);
    const uint64_t blocks_before = Lost(before_.definite_blocks, before_.indirect_blocks);
    if (blocks <= blocks_before) return;
    const uint64_t bytes = Lost(after.definite_bytes, after.indirect_bytes);
    const uint64_t bytes_before = Lost(before_.definite_bytes, before_.indirect_bytes);
    ADD_FAILURE() << "the test leaks " << bytes - bytes_before << " bytes in " << blocks - blocks_before
                  << " blocks; tidemark leaks TRACE tells where they were allocated";
  }

 private:
  static uint64_t Lost(uint64_t definite, uint64_t indirect) { return definite + indirect; }

  tidemark_leak_counts before_ = {};
  bool is_on_ = false;
};

// GoogleTest calls the listener that came last first when a test ends: its failure is counted and printed.
inline void FailTestsThatLeak() { testing::UnitTest::GetInstance()->listeners().Append(new LeakListener); }

}  // namespace tidemark_examples
