// prctl() and syscall(), through which programs lock themselves in: passed on as they are, and looked at when it is
// that what they ask for. What follows from it is sandbox.h's business.
//
// syscall() may be asked for vfork or for clone with another stack, whose child returns with a stack that is not its
// caller's alone: so the way through is a jump that touches neither stack nor registers, and only the calls that
// matter here take a frame of their own.
//
// Context: any thread, also before the constructor; signal-safe but for the call that is passed on.
#include "interpose/sandbox_hooks.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "profiler/sandbox.h"

namespace tidemark {
namespace {

using PrctlFunction = int (*)(int, long, long, long, long);
using SyscallFunction = long (*)(long, long, long, long, long, long, long);

long WithErrno(long result) {
  if (static_cast<unsigned long>(result) <= -4096UL) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// Until the next definitions are known: not os::Syscall, since this is the program's own call.
long OwnSyscall(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return WithErrno(result);
}
int OwnPrctl(int option, long a, long b, long c, long d) {
  return static_cast<int>(OwnSyscall(SYS_prctl, option, a, b, c, d, 0));
}

// The one place that knows which calls lock a program in. True: `call` has succeeded.
template <typename Call>
long Watch(long option, long mode_or_setting, const void* argument, Call call) {
  const auto* program = static_cast<const sock_fprog*>(argument);
  const bool sets_tsc = option == PR_SET_TSC && mode_or_setting == PR_TSC_SIGSEGV;
  const bool locks = option == PR_SET_SECCOMP;
  const bool strict = locks && mode_or_setting == SECCOMP_MODE_STRICT;
  // Afterwards it would be too late to ask for the time; an unsuccessful attempt costs the time line, no more.
  if (sets_tsc || strict) sandbox::OnNoClock();
  const long result = call();
  if (result != 0) return result;
  if (strict) sandbox::OnStrict();
  if (locks && mode_or_setting == SECCOMP_MODE_FILTER) sandbox::OnFilter(*program);
  return result;
}

}  // namespace

extern "C" {

__attribute__((visibility("hidden"))) PrctlFunction tidemark_next_prctl = OwnPrctl;
__attribute__((visibility("hidden"))) SyscallFunction tidemark_next_syscall = OwnSyscall;

__attribute__((visibility("hidden"), used)) int tidemark_watched_prctl(int option, long a, long b, long c, long d) {
  return static_cast<int>(Watch(option, a, reinterpret_cast<const void*>(b),
                                [=] { return long{tidemark_next_prctl(option, a, b, c, d)}; }));
}

__attribute__((visibility("hidden"), used)) long tidemark_watched_syscall(long number, long a, long b, long c, long d,
                                                                          long e, long f) {
  const auto pass = [=] { return tidemark_next_syscall(number, a, b, c, d, e, f); };
  if (number == SYS_prctl) return Watch(static_cast<int>(a), b, reinterpret_cast<const void*>(c), pass);
  // seccomp(operation, flags, argument); with SECCOMP_FILTER_FLAG_NEW_LISTENER success is a descriptor.
  const bool strict = a == SECCOMP_SET_MODE_STRICT;
  if (a != SECCOMP_SET_MODE_FILTER && !strict) return pass();
  long answer = -1;
  Watch(PR_SET_SECCOMP, strict ? SECCOMP_MODE_STRICT : SECCOMP_MODE_FILTER, reinterpret_cast<const void*>(c),
        [&answer, pass] {
          answer = pass();
          return answer < 0 ? answer : 0;
        });
  return answer;
}

}  // extern "C"

// The arguments are where the next definition expects them, and the return address is the caller's.
__asm__(
    ".pushsection .text\n"
    ".globl prctl\n"
    ".type prctl, @function\n"
    "prctl:\n"
    "  .cfi_startproc\n"
    "  cmpl $22, %edi\n"  // PR_SET_SECCOMP
    "  je tidemark_watched_prctl\n"
    "  cmpl $26, %edi\n"  // PR_SET_TSC
    "  je tidemark_watched_prctl\n"
    "  jmp *tidemark_next_prctl(%rip)\n"
    "  .cfi_endproc\n"
    ".size prctl, .-prctl\n"
    ".globl syscall\n"
    ".type syscall, @function\n"
    "syscall:\n"
    "  .cfi_startproc\n"
    "  cmpq $317, %rdi\n"  // SYS_seccomp
    "  je tidemark_watched_syscall\n"
    "  cmpq $157, %rdi\n"  // SYS_prctl
    "  je tidemark_watched_syscall\n"
    "  jmp *tidemark_next_syscall(%rip)\n"
    "  .cfi_endproc\n"
    ".size syscall, .-syscall\n"
    ".popsection\n");
static_assert(PR_SET_SECCOMP == 22 && PR_SET_TSC == 26 && SYS_seccomp == 317 && SYS_prctl == 157);

void FindSandboxCalls() {
  if (void* found = dlsym(RTLD_NEXT, "prctl")) tidemark_next_prctl = reinterpret_cast<PrctlFunction>(found);
  if (void* found = dlsym(RTLD_NEXT, "syscall")) tidemark_next_syscall = reinterpret_cast<SyscallFunction>(found);
}

}  // namespace tidemark
