// The ways out of a process image, taken over so that leaks can be looked for before it is gone: exit and return from
// main (before destructors, and from our own destructor after them), _exit, quick_exit, abort, exec, and a signal if
// one was named.
//
// Off, which is the default, an exported function is a compare and a jump to the next definition, with all registers
// and the stack as they came: no frame of ours stands above main or below a vfork child's exec. On, the registers are
// saved, the check runs (leak_check.h), they are put back, and the jump follows.
//
// Calls that libc makes to itself are not seen: abort in a failed assert, exec in posix_spawn, exit when the last
// thread ends. Of the last one, our destructor sees the end.
//
// Context: Resolve() and Start() in the constructor; the rest any thread, also in signal handlers.
#pragma once

#include <cstdint>

#include "profiler/options.h"

namespace tidemark::exits {

// Finds the next definitions. Not signal-safe: while the process has one thread, and no hook has been called.
void Resolve();
// From here on leaks are looked for.
void Start(const Options& options);
// Our destructor, the last of all. `stack_pointer`: of its caller.
void AfterDestructors(uintptr_t stack_pointer);

}  // namespace tidemark::exits
