// The one list of symbols that the library exports: the version script is checked against it, tests and docs read it.
//
// HOOK(name): an allocation function that is taken over. EXIT(name): a way out of the process image, where leaks are
// looked for if that was asked for (exit_hooks.h). REPORT(name): see heap_reports.cc. API(name): a function of
// include/tidemark.h.
// Not here, each for a reason (docs/design.md): operator new and delete (a program that
// replaces some of them would get mixed ownership; libstdc++'s reach malloc and free anyway), strdup, realpath, getline
// (glibc's call malloc through the PLT), dlopen (interposing it breaks the caller's RUNPATH), __libc_* (the real ones
// are what early and foreign blocks are handed to).
#pragma once

#define TIDEMARK_HOOKS(HOOK) \
  HOOK(malloc)               \
  HOOK(calloc)               \
  HOOK(realloc)              \
  HOOK(reallocarray)         \
  HOOK(free)                 \
  HOOK(cfree)                \
  HOOK(memalign)             \
  HOOK(aligned_alloc)        \
  HOOK(posix_memalign)       \
  HOOK(valloc)               \
  HOOK(pvalloc)              \
  HOOK(malloc_usable_size)   \
  HOOK(free_sized)           \
  HOOK(free_aligned_sized)

// REPORT(name): what the allocator says of itself, and does when it is told to.
#define TIDEMARK_REPORTS(REPORT) \
  REPORT(mallinfo)               \
  REPORT(mallinfo2)              \
  REPORT(malloc_info)            \
  REPORT(malloc_stats)           \
  REPORT(malloc_trim)

// Watched: programs lock themselves in through these, and then some things of ours must not be done any more.
#define TIDEMARK_WATCHED(WATCHED) \
  WATCHED(prctl)                  \
  WATCHED(syscall)

#define TIDEMARK_EXITS(EXIT) \
  EXIT(__libc_start_main)    \
  EXIT(exit)                 \
  EXIT(_exit)                \
  EXIT(_Exit)                \
  EXIT(quick_exit)           \
  EXIT(abort)                \
  EXIT(execve)               \
  EXIT(execv)                \
  EXIT(execvp)               \
  EXIT(execvpe)              \
  EXIT(execl)                \
  EXIT(execlp)               \
  EXIT(execle)               \
  EXIT(fexecve)              \
  EXIT(execveat)

#define TIDEMARK_API(API)       \
  API(tidemark_is_recording)    \
  API(tidemark_mark)            \
  API(tidemark_leak_check)      \
  API(tidemark_ignore_leak)     \
  API(tidemark_register_root)   \
  API(tidemark_unregister_root) \
  API(tidemark_version)
