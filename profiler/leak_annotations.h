// What the program itself says of its memory: blocks that are lost by design, and memory that holds pointers though a
// leak check would not look there (include/tidemark.h).
//
// Two fixed tables of words, changed by single atomic operations. Context: any thread, signal-safe, no allocation.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tidemark::leak_annotations {

inline constexpr uint32_t kMaxIgnored = 16384, kMaxRoots = 256;

// The block at `address`, of which the live table says `word`: one that takes its place later says another, unless it
// is of the same size and from the same place. False: the table is full.
bool Ignore(uint64_t address, uint64_t word);
bool AddRoot(uint64_t start, uint64_t bytes);
bool RemoveRoot(uint64_t start, uint64_t bytes);

struct Ignored {
  std::atomic<uint64_t> address;  // 0: free
  std::atomic<uint64_t> word;
};
struct Root {
  std::atomic<uint64_t> start;  // 0: free; 1: being changed
  std::atomic<uint64_t> bytes;
};
extern Ignored ignored[kMaxIgnored] __attribute__((visibility("hidden")));
extern Root roots[kMaxRoots] __attribute__((visibility("hidden")));

// Calls visit(address, word) and visit(start, end).
template <typename Visit>
void ForEachIgnored(Visit visit) {
  for (const Ignored& entry : ignored) {
    const uint64_t address = entry.address.load(std::memory_order_acquire);
    if (address == 0) return;  // they are filled in order and never emptied
    visit(address, entry.word.load(std::memory_order_relaxed));
  }
}
template <typename Visit>
void ForEachRoot(Visit visit) {
  for (const Root& root : roots) {
    const uint64_t start = root.start.load(std::memory_order_acquire);
    if (start > 1) visit(start, start + root.bytes.load(std::memory_order_relaxed));
  }
}

}  // namespace tidemark::leak_annotations
