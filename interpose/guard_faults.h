// Turns what guarded slots notice into reports: at a fault, when a block is released, when it is released twice.
//
// Faults need a handler of SIGSEGV, which is installed only where guarded slots were asked for. It takes what happened
// in the guard zone and hands everything else to the action that was there before. A program that installs a handler of
// its own takes ours away: seen when the next slot is wanted; then guarding ends, and the session says so.
//
// After a report the program goes on as it would have without guards (the page is opened), or dies of it (SIGSEGV of
// the access itself; SIGABRT for a release), as the option guard_action says.
//
// Context: any thread, also in signal handlers. No locks, no allocation.
#pragma once

#include "interpose/guard_slots.h"
#include "profiler/recorder.h"

namespace tidemark::guard {

// Installs the handler. False: it could not be; guard nothing.
bool Arm(bool die);

// A guarded slot, or nullptr: none is free, or guarding has ended.
void* AllocateArmed(size_t size);
// Remembers who obtained the block.
void NoteAllocation(ThreadState* thread, const void* block, const UnwindStart& from);

// free() of any pointer into the zone. `thread` may be nullptr: not to be recorded.
void ReleaseAny(ThreadState* thread, void* pointer, const UnwindStart& from);

}  // namespace tidemark::guard
