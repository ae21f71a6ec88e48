// The copy and its making; see snapshot.h.
//
// Rejected: CLONE_FILES for the copy. It would spare closing descriptors, but a copy that shares the host's table keeps
// it alive: after the host's end or exec, its pipes and sockets would stay open until the copy ends. Rejected: a direct
// child with exit signal 0 that nobody waits for. wait(-1) does not see it, but it stays a zombie that counts against
// process limits. Rejected: CLONE_PARENT. The host's parent would get a SIGCHLD for a child that it does not know.
#include "profiler/snapshot.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "profiler/os.h"
#include "profiler/signal_action.h"

namespace tidemark {
namespace {

long to_reap = 0;  // the copy, where it is the calling thread's child

struct alignas(16) Copying {
  void (*run)(void*);
  void* argument;
  SnapshotLimits limits;
  bool by_middle;         // the copy is made by a child in between
  volatile long copy_id;  // or a negative errno; written by the child in between
};

// clone() onto another stack (not by os::Syscall, so whoever calls asks whether it is forbidden), where `start` runs
// and never returns. Its own function: after the call there are two processes, and the one on the new stack must find
// nothing that the compiler had kept on the old one.
extern "C" long tidemark_clone(long flags, void* stack, void (*start)(Copying*), Copying* argument)
    __attribute__((visibility("hidden")));
asm(R"(
  .text
  .hidden tidemark_clone
  .type tidemark_clone, @function
tidemark_clone:
  .cfi_startproc
  mov %rdx, %r8
  mov %rcx, %r9
  xor %edx, %edx
  xor %r10d, %r10d
  mov $56, %eax
  syscall
  test %rax, %rax
  jz 1f
  ret
1:
  .cfi_undefined rip
  xor %ebp, %ebp
  mov %r9, %rdi
  call *%r8
  ud2
  .cfi_endproc
  .size tidemark_clone, . - tidemark_clone
)");

[[noreturn]] void End(int status) {
  for (;;) os::Syscall(SYS_exit_group, status);
}

void OnFault(int, siginfo_t*, void*) { End(2); }

void CloseEverything() {
  if (!os::IsError(os::Syscall(SYS_close_range, 0, ~0u, 0))) return;  // kernels since 5.9
  rlimit limit{};
  constexpr rlim_t kMost = 1 << 20;
  if (os::IsError(os::Syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, reinterpret_cast<long>(&limit)))) return;
  for (rlim_t fd = 0; fd < limit.rlim_cur && fd < kMost; fd++) os::Close(static_cast<int>(fd));
}

void WriteFile(const char* path, const char* text) {
  const long fd = os::Syscall(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), O_WRONLY | O_CLOEXEC);
  if (os::IsError(fd)) return;
  os::Syscall(SYS_write, fd, reinterpret_cast<long>(text), static_cast<long>(__builtin_strlen(text)));
  os::Close(static_cast<int>(fd));
}

// The copy: nothing of the program's must happen in it.
void RunCopy(Copying* copying) {
  CloseEverything();
  // The program's handlers (of faults, say, to write a report) are not for the copy; a core dump of it is no help.
  const KernelAction end{OnFault, SA_SIGINFO | kRestorer, tidemark_restore_rt, kAllSignals};
  uint64_t ending = 0;
  constexpr int kEnding[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT, SIGALRM, SIGXCPU};
  for (const int number : kEnding) {
    SetAction(number, &end, nullptr);
    ending |= SignalBit(number);
  }
  SetMask(SIG_SETMASK, ~ending, nullptr);
  const itimerval watchdog{{0, 0}, {static_cast<time_t>(copying->limits.seconds), 0}};
  os::Syscall(SYS_setitimer, ITIMER_REAL, reinterpret_cast<long>(&watchdog));
  os::Syscall(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>("tidemark-copy"));
  // When memory is short, the copy goes first; and it takes second place on the processors, but not the last: the
  // longer it lives, the more pages have to be copied for the host.
  constexpr long kNicer = 5;
  WriteFile("/proc/self/oom_score_adj", "1000");
  os::Syscall(SYS_setpriority, PRIO_PROCESS, 0, kNicer);
  copying->run(copying->argument);
  End(0);
}

// The child in between, in the host's memory. The host's thread waits for its end.
void RunMiddle(Copying* copying) {
  const long id = os::Syscall(SYS_clone, CLONE_UNTRACED, 0, 0, 0, 0);
  if (id == 0) {
    RunCopy(copying);
    End(0);
  }
  copying->copy_id = id;
  End(0);
}

bool IsReaper() {
  int reaper = 0;
  return os::ProcessId() == 1 ||
         (!os::IsError(os::Syscall(SYS_prctl, PR_GET_CHILD_SUBREAPER, reinterpret_cast<long>(&reaper))) && reaper != 0);
}

void Reap(long id) {
  constexpr long kInterrupted = -4;
  while (os::Syscall(SYS_wait4, id, 0, __WALL, 0) == kInterrupted) {
  }
}

}  // namespace

bool RunInSnapshot(void (*run)(void*), void* argument, const SnapshotLimits& limits) {
  if (os::IsForbidden(SYS_clone) || os::IsForbidden(SYS_exit_group)) return false;
  const size_t bytes = size_t{limits.stack_kib} << 10;
  auto* stack = static_cast<char*>(os::Map(bytes));
  if (stack == nullptr) return false;
  static_assert(sizeof(Copying) % 16 == 0);
  auto* copying = reinterpret_cast<Copying*>(stack + bytes - sizeof(Copying));
  *copying = {run, argument, limits, !IsReaper(), 0};
  long id;
  if (copying->by_middle) {
    constexpr long kSharing = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS;
    id = tidemark_clone(kSharing | CLONE_UNTRACED, copying, RunMiddle, copying);
    if (!os::IsError(id)) {
      Reap(id);
      id = copying->copy_id;
    }
  } else {
    id = tidemark_clone(CLONE_UNTRACED, copying, RunCopy, copying);
    if (!os::IsError(id)) to_reap = id;
  }
  os::Unmap(stack, bytes);
  return !os::IsError(id);
}

void ReapSnapshot() {
  if (to_reap != 0) Reap(to_reap);
  to_reap = 0;
}

}  // namespace tidemark
