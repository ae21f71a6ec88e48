// What a leak check looks at for pointers beside the blocks themselves: the process's mappings, as /proc/self/maps
// tells them, cut to what can hold a pointer of the program.
//
//   stacks       of each thread that is known, from its stack pointer up: what lies below are words of calls that have
//                returned, and they would hide leaks
//   globals      writable parts of modules, their .bss, and what the loader has made read-only after relocation
//   mappings     all other memory that can be read: anonymous (JITs, arenas, thread stacks that are not known), shared
//                memory, files; not devices. Of stacks that glibc keeps of threads that have ended, for the next ones,
//                only its own description of the thread: their variables died with them
//
// Never our own memory, nor the heap's: who asks names what is to be left out. Pages that were never touched are not
// touched here either: a reservation of 100 GiB is a few reads of /proc/self/pagemap. Pages of files are looked at when
// they are in memory only; one behind the end of its file would be SIGBUS.
//
// Context: one thread, the others stopped; raw system calls, no allocation but mappings of our own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/own_memory.h"
#include "profiler/reachability.h"

namespace tidemark {

// Which pages of an address range hold something: present or swapped out.
class PageMap {
 public:
  PageMap() = default;
  ~PageMap();
  PageMap(const PageMap&) = delete;
  // False: /proc/self/pagemap cannot be read; then every page is said to hold something.
  bool Open();

  // kAnonymous: of a file's pages only those that were written to. kShared: also those that another process has
  // touched.
  enum class Which { kTouched, kAnonymous, kShared };
  // The first run of such pages in [at, end); false: there is none.
  bool NextRun(uint64_t at, uint64_t end, Which which, uint64_t* run_start, uint64_t* run_end);

 private:
  bool Holds(uint64_t page, uint64_t last, Which which);

  int fd_ = -1;
  bool IsInMemory(uint64_t page) const;

  uint64_t* entries_ = nullptr;
  uint64_t first_ = 0, count_ = 0;  // pages that entries_ tells of
};

class LeakRoots {
 public:
  LeakRoots() = default;
  ~LeakRoots();
  LeakRoots(const LeakRoots&) = delete;

  // Leaves a range out. Call before Read(), which leaves out all that own_memory knows.
  void LeaveOut(uint64_t start, uint64_t end);
  // A thread whose stack counts from here up; where it was interrupted, that is 128 bytes below its stack pointer.
  void AddStack(uint64_t stack_pointer);
  // Where the calling thread's thread-local storage is.
  void SetThreadLocal(uint64_t address) { thread_local_ = address; }

  enum class Result { kDone, kNoMemory, kNoMaps };
  Result Read();
  bool own_memory_known() const { return own_memory_known_; }

  // Calls `visit` with the ranges of one kind, in order of address. All of them can be read.
  template <typename Visit>
  void ForEach(RootKind kind, PageMap* pages, Visit visit) const {
    for (size_t i = 0; i < mapping_count_; i++) {
      if (mappings_[i].kind == kind) ForEachPart(mappings_[i], pages, visit);
    }
  }

 private:
  struct Mapping {
    uint64_t start, end;
    RootKind kind;
    bool small_is_all;  // of a small mapping, all pages may be touched
    PageMap::Which pages;
  };
  using Range = own_memory::Range;
  static constexpr size_t kMaxMappings = 1 << 20;

  // A range of addresses without what is left out, in pieces.
  template <typename Visit>
  void ForEachPart(const Mapping& mapping, PageMap* pages, Visit visit) const {
    uint64_t at = mapping.start;
    for (size_t i = FirstLeftOutAfter(at); at < mapping.end; i++) {
      const bool is_last = i >= left_out_count_ || left_out_[i].start >= mapping.end;
      const uint64_t end = is_last ? mapping.end : left_out_[i].start;
      if (at < end) ForEachRun(mapping, at, end, pages, visit);
      if (is_last) return;
      if (left_out_[i].end > at) at = left_out_[i].end;
    }
  }
  template <typename Visit>
  static void ForEachRun(const Mapping& mapping, uint64_t start, uint64_t end, PageMap* pages, Visit visit) {
    // The question is dearer than the answer then.
    constexpr uint64_t kSmall = 16 * 4096;
    if (mapping.small_is_all && end - start <= kSmall) {
      visit(RootRange{start, end, mapping.kind});
      return;
    }
    uint64_t run_start, run_end = start;
    while (pages->NextRun(run_end, end, mapping.pages, &run_start, &run_end)) {
      visit(RootRange{run_start, run_end, mapping.kind});
    }
  }
  size_t FirstLeftOutAfter(uint64_t address) const;
  bool MakeRoom();
  void SortLeftOut();
  bool ReadMaps();
  void TakeLine(const char* line, const char* end);
  void Keep(const Mapping& mapping) {
    too_many_ |= mapping_count_ == kMaxMappings;
    if (!too_many_) mappings_[mapping_count_++] = mapping;
  }
  void Classify(Mapping* mapping) const;
  static uint64_t EndedThread(const Mapping& mapping);

  Mapping* mappings_ = nullptr;
  Range* left_out_ = nullptr;
  uint64_t* stacks_ = nullptr;
  char* text_ = nullptr;
  size_t mapping_count_ = 0, left_out_count_ = 0, stack_count_ = 0;
  uint64_t thread_local_ = 0;
  uint64_t guard_end_ = 0;  // where the last inaccessible mapping ended
  bool too_many_ = false, own_memory_known_ = true;
};

}  // namespace tidemark
