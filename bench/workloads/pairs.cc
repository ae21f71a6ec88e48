// Pairs of malloc and free and nothing else, on any number of threads: the price of the hooks with no program around.
//
//   pairs PAIRS SIZE [THREADS]     every thread makes PAIRS pairs of SIZE bytes
// Must not: touch the blocks more than a program that uses one would; the compiler may not see that they are unused.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

void MakePairs(unsigned long pairs, size_t size) {
  // As in any real heap, the page has other blocks: freeing a page's last block is another, longer path.
  void* neighbour = std::malloc(size);
  asm volatile("" : "+r"(neighbour) : : "memory");
  for (unsigned long i = 0; i < pairs; i++) {
    char* block = static_cast<char*>(std::malloc(size));
    if (block == nullptr) std::abort();
    asm volatile("" : : "r"(block) : "memory");
    *block = static_cast<char>(i);
    std::free(block);
  }
  std::free(neighbour);
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long pairs = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  const size_t size = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 64;
  const unsigned threads = argc > 3 ? static_cast<unsigned>(std::strtoul(argv[3], nullptr, 10)) : 1;
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; i++) others.emplace_back(MakePairs, pairs, size);
  MakePairs(pairs, size);
  for (std::thread& thread : others) thread.join();
  std::printf("%lu pairs on %u threads\n", pairs * threads, threads);
  return 0;
}
