// Which blocks are live, by address: what a leak check in complete mode starts from.
//
//   directory, by 32 MiB of addresses  ->  table, 8 bytes for each 16 of them, 0 where no block begins
//
// A word holds the stack that obtained the block, its size, and which image of a chain of forks obtained it, so that a
// child knows what it has inherited. Tables are mapped when their first block comes and never given back; untouched
// pages cost nothing. What is resident is half of the heap, as long as its blocks are smaller than 8 KiB.
//
// A block is entered after it was obtained and taken out before it is released: an address is never entered for two
// blocks.
//
// Context: any thread, also in nested hooks and signal handlers; no locks, no allocation but of tables.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tidemark::live_table {

inline constexpr uint32_t kUnitBits = 25, kGranuleBits = 4, kAddressBits = 47;
inline constexpr uint64_t kEntriesPerUnit = uint64_t{1} << (kUnitBits - kGranuleBits);
inline constexpr uint32_t kLargestSize = 0xffffffff;  // stands for itself and everything above

using Entry = std::atomic<uint64_t>;
// By unit; nullptr while there is no table at all.
extern std::atomic<Entry*>* directory __attribute__((visibility("hidden")));

// Maps the directory. False: no address space; the table stays off.
bool Start();
inline bool IsOn() { return directory != nullptr; }
// What is entered from now on is another image's: a forked child's.
void BeginImage();
// A table could not be mapped: some live block is not entered.
bool IsIncomplete();

// bits 0..27 node, 28..59 size, 60..63 image, which is never 0.
struct LiveBlock {
  uint64_t address;
  uint32_t node, size;
  bool inherited;  // entered in an earlier image: the node means nothing here
};

void EnterBlock(const void* block, uint32_t node, size_t size);
uint64_t TakeBlock(const void* block);

// `block` may be nullptr.
inline void Enter(const void* block, uint32_t node, size_t size) {
  if (IsOn()) [[unlikely]]
    EnterBlock(block, node, size);
}
// Takes the block out; what was entered, 0: nothing.
inline uint64_t Take(const void* block) {
  if (IsOn()) [[unlikely]]
    return TakeBlock(block);
  return 0;
}
// What is entered for it; 0: nothing.
uint64_t WordOf(const void* block);

// Units that have a table lie in [first, last).
struct UnitRange {
  uint64_t first, last;
};
UnitRange UsedUnits();
// The table of a unit, or nullptr.
Entry* TableOf(uint64_t unit);
// What the word at `index` of the unit's table says. `word`: not 0.
LiveBlock Decode(uint64_t unit, uint64_t index, uint64_t word);

}  // namespace tidemark::live_table
