// rt_sigaction as the kernel has it: libc's wrapper may be interposed, and keeps no more than this.
//
// Context: any thread, signal-safe.
#pragma once

#include <signal.h>

#include <cstdint>

#include "profiler/os.h"

namespace tidemark {

struct KernelAction {
  void (*handler)(int, siginfo_t*, void*);  // or SIG_DFL, SIG_IGN
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};
inline constexpr unsigned long kRestorer = 0x04000000;  // SA_RESTORER: the kernel's part of the interface, no header's
inline constexpr uint64_t kAllSignals = ~uint64_t{0};

inline uint64_t SignalBit(int number) { return uint64_t{1} << (number - 1); }

// What a handler returns to: flags |= kRestorer, restorer = this.
extern "C" void tidemark_restore_rt() __attribute__((visibility("hidden")));

inline long SetAction(int number, const KernelAction* action, KernelAction* old) {
  return os::Syscall(SYS_rt_sigaction, number, reinterpret_cast<long>(action), reinterpret_cast<long>(old),
                     sizeof(uint64_t));
}
// `how`: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK; of the calling thread.
inline long SetMask(int how, uint64_t mask, uint64_t* old) {
  return os::Syscall(SYS_rt_sigprocmask, how, reinterpret_cast<long>(&mask), reinterpret_cast<long>(old),
                     sizeof(uint64_t));
}

}  // namespace tidemark
