// What a program that locks itself in leaves us to do.
//
// A seccomp filter that answers a system call with an error is no trouble: every call of ours may fail. One that
// answers with death is: the process would die of a call that it never made itself. So the filters that the program
// installs are run here beforehand, for every number of a system call, and what they would kill for is not done any
// more (os::Syscall answers EPERM instead). Strict mode, and prctl(PR_SET_TSC), also forbid rdtsc: from then on the
// clock stands still.
//
// Filters and the ban on rdtsc are a thread's, ours is the process's. Not seen: filters that were installed before an
// exec, or by a system call that does not go through libc's prctl() or syscall().
//
// Context: any thread, signal-safe, no allocation. Must not: install anything.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>

namespace tidemark::sandbox {

// The answer (SECCOMP_RET_...) that a filter gives for a system call. `program` has passed the kernel's checks; what
// this interpreter does not know is taken for death. linux/filter.h; Documentation/userspace-api/seccomp_filter.rst
uint32_t AnswerOf(const sock_fprog& program, const seccomp_data& call);

// The process has just installed the filter.
void OnFilter(const sock_fprog& program);
// The process has just entered strict mode.
void OnStrict();
// rdtsc is about to be forbidden.
void OnNoClock();

}  // namespace tidemark::sandbox
