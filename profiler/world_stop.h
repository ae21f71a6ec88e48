// Stops all other threads of this process, each where it is, so that its memory can be read as of one moment.
//
// By a signal and no ptrace: that is what containers and sandboxes leave to a process, and it stops a thousand threads
// in milliseconds. The signal is a real-time one that nobody uses (default disposition, not blocked by the caller);
// its handler is there for the time of the stop only. A thread acknowledges in the handler and sleeps until Resume().
// A stopped thread may hold anything: libc's locks, the heap's. So between Stop() and Resume() the caller must neither
// call libc nor allocate nor wait for anybody; its own signals are blocked meanwhile.
//
// What cannot be stopped: threads that block the signal (or all signals), and those that do not run within the
// deadline (waiting for their vfork child, uninterruptible). They are listed, with the stack pointer that /proc tells
// when they sleep. No signal of ours is left behind for them to die of later: see Resume().
//
// What the program can see of it: a sleeping system call that the kernel does not restart fails with EINTR (poll,
// select, epoll_wait, nanosleep and sleep, pause, sigwait, sigsuspend, semop, msgrcv, io_getevents, futex with a
// timeout, hence sem_timedwait; sockets with a timeout) or ends early (a large write that was half done). With
// kConsiderate, threads that sleep in a system call are therefore left alone, unless it is one that is always restarted
// (futex without a timeout, wait4, waitid). They stand still as long as nothing wakes them, which StillAsleep() tells
// afterwards; but their registers are unknown, but for the arguments of the call: what only rbx, rbp and r12 to r15
// hold is not seen. kExact signals them, too. A thread that enters such a call in the instant between the look and the
// signal gets EINTR in either way.
//
// Context: any thread, one at a time (another one's Stop() fails); signal-safe, no allocation but one mapping that is
// kept. Not on a stack with less than 2 KiB left.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark {

struct StoppedThread {
  uint32_t tid;
  bool stopped;  // in our handler
  bool asleep;   // else: in a system call when we looked
  // Its stack is in use from here up, red zone included; 0: not known (it runs, or is gone).
  uintptr_t stack_pointer;
  // Stopped: where the kernel has saved its registers (vector registers, too). They lie above stack_pointer, unless the
  // thread has an alternate signal stack: then they are there.
  uintptr_t registers, registers_end;
  uint64_t arguments[6];  // asleep: registers that hold the arguments of its system call
  uint64_t switches;      // see TaskStatus
};

enum class StopManner { kExact, kConsiderate };

class WorldStop {
 public:
  WorldStop() = default;
  ~WorldStop() { Resume(); }
  WorldStop(const WorldStop&) = delete;

  // Fills `threads` with all other threads. False: not all of them stand still, see not_still(); when count() is 0
  // then, nothing could be done at all (no /proc, no signal to be had, no memory, a stop under way). Resume() is due
  // anyway.
  bool Stop(StoppedThread* threads, uint32_t capacity, uint64_t deadline_us, StopManner manner = StopManner::kExact);
  uint32_t count() const { return count_; }
  // Neither stopped nor asleep, including those that `threads` had no room for.
  uint32_t not_still() const { return not_still_; }
  // Have the threads that sleep slept all the time since Stop()?
  bool StillAsleep(const StoppedThread* threads) const;
  void Resume();

 private:
  bool active_ = false;
  uint32_t count_ = 0, not_still_ = 0;
  uint64_t old_mask_ = 0;
};

}  // namespace tidemark
