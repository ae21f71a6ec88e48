// C++ with templates, inlined calls, recursion and threads, for the page's tests; one function is named like markup.
//
// Deterministic but for the threads' order. Some memory is temporary, some lives to the end, the peak is in the middle.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace shop {

template <typename Item, int kCopies>
class Shelf {
 public:
  void Fill(int items) {
    for (int i = 0; i < items; ++i) Put(std::to_string(i) + " a name that is too long to be kept in place");
  }
  size_t size() const { return items_.size(); }

 private:
  inline void Put(const Item& item) {
    for (int copy = 0; copy < kCopies; ++copy) items_[static_cast<int>(items_.size())].push_back(item);
  }
  std::map<int, std::vector<Item>> items_;
};

struct Branch {
  std::vector<std::unique_ptr<Branch>> branches;
};

__attribute__((noinline)) std::unique_ptr<Branch> Grow(int depth) {
  auto branch = std::make_unique<Branch>();
  for (int i = 0; depth > 0 && i < 3; ++i) branch->branches.push_back(Grow(depth - 1));
  return branch;
}

}  // namespace shop

extern "C" __attribute__((noinline)) void* MarkupFunction(size_t size) {
  void* block = std::malloc(size);
  *static_cast<volatile char*>(block) = 1;
  return block;
}

static void* volatile kept;

int main() {
  auto tree = shop::Grow(6);
  size_t sum = 0;
  for (int round = 0; round < 30; ++round) {
    shop::Shelf<std::string, 3> shelf;
    shelf.Fill(100 + 20 * (15 - std::abs(15 - round)));
    sum += shelf.size();
  }
  std::vector<std::thread> threads;
  for (int i = 1; i <= 3; ++i) {
    threads.emplace_back([i] {
      for (int k = 0; k < 200 * i; ++k) std::free(MarkupFunction(static_cast<size_t>(1000 * i + k)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  kept = MarkupFunction(123456);
  return sum == 0;
}
