// A test program with the listener: one test leaks, one does not, one dies in a child.
#include <cstdlib>
#include <memory>

#include "leak_listener.h"

namespace {

struct Node {
  std::unique_ptr<Node> next;
  int value = 0;
};

// Keeps the compiler from leaving allocations out.
template <typename T>
void Use(T* pointer) {
  asm volatile("" : : "r"(pointer) : "memory");
}

TEST(Example, FreesWhatItAllocates) {
  const auto list = std::make_unique<Node>();
  list->next = std::make_unique<Node>();
  Use(list.get());
  EXPECT_EQ(list->next->value, 0);
}

TEST(Example, Leaks) {
  for (int i = 0; i < 4; ++i) Use(new Node);
}

TEST(Example, IsCleanAfterOneThatLeaks) { Use(std::make_unique<Node>().get()); }

TEST(ExampleDeathTest, LeaksInTheChildOnly) {
  EXPECT_EXIT(
      {
        Use(new Node);
        std::exit(3);
      },
      testing::ExitedWithCode(3), "");
}

TEST(Example, LeaksByDesign) {
  auto* cache = new Node;
  TIDEMARK_IGNORE_LEAK(cache);
  Use(cache);
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  tidemark_examples::FailTestsThatLeak();
  return RUN_ALL_TESTS();
}
