// Reaches a heap of many GiB of virtual memory, of which almost nothing is touched, with small blocks between the large
// ones: tables by address have to stand that.
//
//   large_heap GIB [SMALL]     GIB GiB in blocks of 64 MiB, SMALL small blocks after each
// Exits with 77 and says why if the system refuses so much address space. Must not: touch more than a page of a block.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

int main(int argc, char** argv) {
  const unsigned long gib = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 4;
  const unsigned long small = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1000;
  constexpr size_t kBlock = size_t{64} << 20;
  std::vector<char*> blocks, small_blocks;
  unsigned long checksum = 0;
  for (unsigned long i = 0; i < gib * 16; i++) {
    char* block = static_cast<char*>(std::malloc(kBlock));
    if (block == nullptr) {
      std::fprintf(stderr, "large_heap: no more than %lu MiB of virtual memory here: %s\n", i * 64,
                   std::strerror(errno));
      std::_Exit(77);
    }
    block[0] = static_cast<char>(i);
    blocks.push_back(block);
    for (unsigned long j = 0; j < small; j++) {
      small_blocks.push_back(static_cast<char*>(std::malloc(16 + j % 512)));
      small_blocks.back()[0] = static_cast<char>(j);
    }
    if (small_blocks.size() > 4 * small) {  // a window: most small blocks die young
      for (char* old : small_blocks) {
        checksum += static_cast<unsigned char>(old[0]);
        std::free(old);
      }
      small_blocks.clear();
    }
  }
  for (char* block : blocks) {
    checksum += static_cast<unsigned char>(block[0]);
    std::free(block);
  }
  for (char* block : small_blocks) std::free(block);
  std::printf("checksum %lu\n", checksum);
  return 0;
}
