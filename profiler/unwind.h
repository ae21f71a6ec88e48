// Takes the current thread's stack: exact, fast, and never at the host's risk.
//
// Three levels (docs/design.md has the measurements):
//  1. Validated suffix reuse. A step of the unwind is a deterministic function of (ip, sp, bp) and of the words it
//     reads. Each thread keeps its previous stack with those words' addresses. The walk starts at the leaf; where it
//     meets a frame of the previous stack with equal (ip, sp, bp), the recorded words of the remaining frames are
//     re-read. All equal: the rest of the stack is the same, exactly, and so is its number.
//  2. Rule cache. ip -> (CFA register and offset, save slot of rbp), one 8-byte word per entry, direct-mapped.
//  3. Call frame information (cfi.h), for rules that are not in the cache or do not fit it.
//
// Context: any thread, signal-safe under the recorder's guard. No locks, no allocation (the frame arrays grow by
// mmap), no dl_iterate_phdr, nothing is read that is not proven readable.
#pragma once

#include <cstdint>

#include "profiler/cfi.h"
#include "profiler/thread_state.h"

namespace tidemark {

// The application's state right after the hook returns.
struct UnwindStart {
  uintptr_t ip, sp, bp;
};

// The stack pointer that the kernel started the process with: the address of argc, right below argv. Set once, early.
extern uintptr_t process_entry_sp;

// Starts with an empty rule cache; false: no memory. Call it for each new session, since modules are published when
// their first rule is looked up.
bool ResetUnwinder();

// One step in code outside of every module, which is a JIT's: JITs keep frame pointers almost without exception. False:
// bp does not look like a frame pointer, or what it points at cannot be read.
bool StepByFramePointer(StackReader* stack, CfiRegisters* at);

// Does a signal handler stand between the caller and the place `sp` further up on the same stack? Then what ran there
// was interrupted and will go on; if none does, it was left by longjmp. True also when it cannot be told. Uses nothing
// of a thread's state, which may be what was interrupted.
bool HandlerStandsBelow(uintptr_t sp);

// The stack's number, 0 when it could not be stored.
uint32_t TakeStack(ThreadState* thread, const UnwindStart& start);

}  // namespace tidemark
