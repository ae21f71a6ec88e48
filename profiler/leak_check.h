// One look for leaks: which blocks are live, which of them can be reached, and the verdict into the ring.
//
// Complete mode starts from the live table, sampled mode from the blocks of the sampled region, with all of the heap as
// root: who knows which of its unsampled blocks are live? The other threads are stopped from before the mappings are
// read until the last block is marked. Everything needed is mapped for the check and given back after it.
//
// Context: any thread of a recording process, also in signal handlers and in front of exec; one check at a time (a
// second one is refused); raw system calls; errno untouched. The caller's signals are blocked meanwhile.
// Must not: know what an allocator is, beyond what Start() was told.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/trace_format.h"

namespace tidemark::leak_check {

// What the allocator's side tells.
struct Heap {
  uint64_t heap_start, heap_end;
  uint64_t region_start, region_end;  // sampled blocks lie here
  // Usable bytes of a live block of the heap.
  size_t (*usable_size)(const void* block);
  // The live blocks of the region in order of address: the first one at `from` or above, and where to go on; false:
  // there is none.
  bool (*next_in_region)(uint64_t* from, uint64_t* block, uint64_t* size, bool* sampled);
  // A module whose variables are no roots: the allocator.
  uint64_t module_start, module_end;
};
void Start(const Heap& heap);
bool IsOn();

// Where the calling thread was when its program asked, or ended.
struct Caller {
  uintptr_t stack_pointer;
  const uint64_t* registers;  // that held values of the program
  uint32_t register_count;
};

// The verdict in sums, by LeakClass.
struct Counts {
  struct Sum {
    uint64_t blocks, bytes;
  };
  Sum of[4];
  uint32_t threads_not_stopped;
  bool whole;  // the check came to its end
};

struct Manner {
  bool in_copy = false;      // mark in a copy of the process, which goes on meanwhile (snapshot.h) ...
  bool or_in_place = false;  // ... or here, if none can be made
  bool considerate = false;  // StopManner::kConsiderate
  Counts* counts = nullptr;  // not from a copy
};

// False: nothing was looked at (off, not recording, another check is under way, a vfork child). A copy writes its
// verdict later.
bool Run(LeakTrigger trigger, const Caller& caller, const Manner& manner = {});

}  // namespace tidemark::leak_check
