// Runs a function in a copy of this process, while the process itself goes on.
//
// The copy is a raw clone of the memory as it is (copy on write): no atfork handler, no SIGCHLD, no descriptor of the
// host's kept, nothing of libc. It is nobody's child that the host could see: a child in between, which shares the
// memory and ends at once, makes it, and the kernel gives it to init. The exception is a host that is init itself (of a
// container) or has declared itself a reaper: it would be handed the copy as a child of its own. There the copy is the
// calling thread's child, which wait(-1) does not see, and ReapSnapshot() waits for it.
//
// A copy as of one moment needs the other threads stopped (world_stop.h); they may go on as soon as this returns.
//
// Context: any thread, one at a time, signals blocked; no allocation but one stack, which is mapped for the call. Other
// threads may be stopped anywhere. docs/leaks.md says how long it takes.
#pragma once

#include <cstdint>

namespace tidemark {

struct SnapshotLimits {
  uint32_t seconds = 120;    // then the copy ends, whatever it does
  uint32_t stack_kib = 256;  // of the copy
};

// True: a copy has been made, and runs (or has run) `run` with the memory as it was. It has no descriptors, its signals
// are blocked but for those that end it; `run` must use raw system calls only, and write results to shared mappings.
// Memory that the program keeps from its children (MADV_DONTFORK) is not there: read /proc/self/maps in the copy.
// False: none could be made: processes or memory are limited, clone is refused, or a sandbox of the program would end
// it for making a process.
bool RunInSnapshot(void (*run)(void*), void* argument, const SnapshotLimits& limits = {});

// Call after each copy, when the other threads go on again.
void ReapSnapshot();

}  // namespace tidemark
