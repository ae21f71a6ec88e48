// An array of blocks, one at random replaced at a time: malloc alone, but with blocks of many sizes and ages alive.
//
//   slots EVENTS [SLOTS]     EVENTS counts malloc and free; SLOTS blocks of 16 to 1,039 bytes live at a time
// Must not: depend on addresses; the checksum is the same with every allocator.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "random_source.h"

int main(int argc, char** argv) {
  const unsigned long events = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  const size_t count = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 10'000;
  struct Slot {
    unsigned char* block = nullptr;
    size_t size = 0;
  };
  std::vector<Slot> slots(count);
  RandomSource random(1);
  unsigned long checksum = 0;
  for (unsigned long done = 0; done < events; done += 2) {
    Slot& slot = slots[random.Below(count)];
    if (slot.block != nullptr) checksum = checksum * 31 + slot.block[0] + slot.block[slot.size - 1];
    std::free(slot.block);
    slot.size = 16 + random.Below(1024);
    slot.block = static_cast<unsigned char*>(std::malloc(slot.size));
    if (slot.block == nullptr) std::abort();
    slot.block[0] = static_cast<unsigned char>(done);
    slot.block[slot.size - 1] = static_cast<unsigned char>(slot.size);
  }
  for (Slot& slot : slots) std::free(slot.block);
  std::printf("checksum %lu\n", checksum);
  return 0;
}
