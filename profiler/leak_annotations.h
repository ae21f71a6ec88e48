// What the program itself says of its memory: blocks that are lost by design, and memory that holds pointers though a
// leak check would not look there (include/tidemark.h).
//
// Two tables of words of fixed size, changed by single atomic operations; the large one is mapped when it is first
// used. Context: any thread, signal-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tidemark::leak_annotations {

inline constexpr uint32_t kMaxIgnored = 16384, kMaxRoots = 256;

// The block at `address`, of which the live table says `word`: one that takes its place later says another, unless it
// is of the same size and from the same place. False: the table is full, or there is no memory for it.
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
extern std::atomic<Ignored*> ignored __attribute__((visibility("hidden")));  // kMaxIgnored of them, or nullptr
extern Root roots[kMaxRoots] __attribute__((visibility("hidden")));

// Calls visit(address, word) and visit(start, end).
template <typename Visit>
void ForEachIgnored(Visit visit) {
  const Ignored* const entries = ignored.load(std::memory_order_acquire);
  for (uint32_t i = 0; entries != nullptr && i < kMaxIgnored; i++) {
    const uint64_t address = entries[i].address.load(std::memory_order_acquire);
    if (address == 0) return;  // they are filled in order and never emptied
    visit(address, entries[i].word.load(std::memory_order_relaxed));
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
