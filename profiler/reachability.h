// Which blocks of a heap can still be reached? Conservative marking, as a garbage collector does it, over memory that
// is handed in as ranges; what is found is told in the words of memcheck and LeakSanitizer.
//
//   still reachable   a chain of pointers to the beginnings of blocks leads here from a root
//   possibly lost     one leads here, but only through a pointer into the middle (or right behind the end) of a block
//   definitely lost   nothing points here, not even another lost block; of lost blocks that point at each other in a
//                     circle, one stands for all
//   indirectly lost   only lost blocks point here; each is charged to one definitely lost block, its leader
//
// A word is a pointer when its value lies in a block or right behind its end, and the word is aligned. Vectorised where
// the processor has AVX2.
//
// Context: one thread; memory that does not change meanwhile (all else stopped, or a copy of it). No allocation, no
// library calls: it runs in forked copies of programs that were stopped anywhere. Every range must be readable.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark {

struct HeapBlock {
  uint64_t start, size;  // bytes; size >= 1
};

enum class RootKind : uint8_t { kNone = 0, kRegisters = 1, kStack = 2, kThreadLocal = 3, kGlobal = 4, kMapping = 5 };

struct RootRange {
  uint64_t start, end;
  RootKind kind;
};

enum class LeakClass : uint8_t { kReachable = 0, kPossiblyLost = 1, kIndirectlyLost = 2, kDefinitelyLost = 3 };

struct Reachability {
  LeakClass leak_class;
  RootKind root;    // at the beginning of the chain that led here first; kNone: none did
  uint32_t leader;  // of an indirectly lost block: its definitely lost one; else the block itself
};

class ReachabilityMarker {
 public:
  // `blocks`: sorted by start, disjoint, fewer than 2^31. `workspace`: WorkspaceBytes() zeroed bytes, 16-aligned.
  ReachabilityMarker(const HeapBlock* blocks, uint32_t count, void* workspace);
  static size_t WorkspaceBytes(const HeapBlock* blocks, uint32_t count);

  // Marks what the range's words lead to. Ranges inside of blocks are allowed, but then those blocks' pointers count as
  // roots.
  void MarkRoots(const RootRange& range);
  // A value of its own, e.g. of a register.
  void MarkWord(uint64_t word, RootKind kind);
  // Call once, after all roots.
  void Finish();

  Reachability ResultOf(uint32_t block) const;

 private:
  enum Mark : uint8_t { kUnseen = 0, kReached = 1, kPointedInto = 2, kPossible = 3, kLost = 4 };
  // Of the graph of lost blocks. Tarjan, "Depth-first search and linear graph algorithms", 1972.
  struct Vertex {
    uint32_t block;
    uint32_t index, low_link;  // 0: not visited
    uint32_t component;        // the vertex of it that was visited first; kNobody while that is open
    uint64_t cursor;           // the next word to look at
    bool referenced;           // of a component's first vertex: another component points here
    bool charged;
    uint32_t leader;
  };
  struct Layout;

  static constexpr uint32_t kNobody = ~uint32_t{0};

  // What has been prefetched and not looked at yet: nearly every step of marking is a miss of the caches, and a
  // processor that knows of sixteen waits for them at once. First in, first out. Cher, Hosking, Vitek, "Software
  // Prefetching for Mark-Sweep Garbage Collection", 2004.
  template <typename T>
  class Ahead {
   public:
    static constexpr uint32_t kRoom = 16;
    bool empty() const { return count_ == 0; }
    bool full() const { return count_ == kRoom; }
    void Put(const T& item) { items_[(first_ + count_++) % kRoom] = item; }
    T Take() {
      const T item = items_[first_];
      first_ = (first_ + 1) % kRoom;
      count_--;
      return item;
    }

   private:
    T items_[kRoom];
    uint32_t first_ = 0, count_ = 0;
  };
  struct Candidate {  // a word, and the entry of granules_ that tells the block
    uint64_t word;
    const uint32_t* granule;
    RootKind root;
  };
  struct Located {  // a word, and the first block that it may point at
    uint64_t word;
    uint32_t block;
    RootKind root;
  };

  // The block from `first` on that the word points at or right behind; kNobody: none. *inside: not at its beginning.
  uint32_t FindFrom(uint32_t first, uint64_t word, bool* inside) const;
  // The entry of granules_ for a word of the range; nullptr: no block is near.
  const uint32_t* GranuleOf(uint64_t word) const;
  uint32_t Find(uint64_t word, bool* inside) const;
  uint64_t NextCandidate(uint64_t at, uint64_t end) const;
  template <typename OnWord>
  void ForEachCandidate(uint64_t start, uint64_t end, OnWord on_word) const;
  template <typename OnBlock>
  void ForEachPointer(uint64_t start, uint64_t end, OnBlock on_block) const;
  void Consider(uint64_t word, RootKind root);
  void LookUpGranule();
  void LookUpBlock();
  void Reach(uint32_t block, bool inside, RootKind root);
  void Flood();
  void FoldLost();
  void WalkFrom(uint32_t vertex, uint32_t* counter);
  void Charge(uint32_t leader);

  const HeapBlock* blocks_;
  uint32_t count_;
  uint64_t low_ = 0, span_ = 0;       // words from low_ to low_ + span_ may point at a block
  uint32_t* units_ = nullptr;         // by 32 MiB of addresses: number of its granules' table + 1
  uint32_t* granules_ = nullptr;      // by 512 bytes: first block that reaches into it, + 1
  uint8_t* marks_ = nullptr;          // Mark, and RootKind << 4
  uint32_t* pending_ = nullptr;       // blocks to scan; the path of the walk
  uint32_t* pointed_into_ = nullptr;  // blocks that were; vertices of open components
  uint32_t* vertex_of_ = nullptr;     // by block, of lost ones
  Vertex* vertices_ = nullptr;
  Ahead<Candidate> candidates_;
  Ahead<Located> located_;
  Ahead<uint32_t> to_scan_;  // blocks; pending_ has those for which there is no room
  uint32_t pending_count_ = 0, pointed_into_count_ = 0, vertex_count_ = 0;
  bool flooding_possible_ = false;
  bool has_avx2_ = false;
};

}  // namespace tidemark
