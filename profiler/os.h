// Raw system calls for code that runs inside somebody else's process.
//
// Not libc's wrappers: those set errno, are cancellation points (a cancelled thread would die inside a hook) and may
// be interposed by other preloads. Results are the kernel's: negative errno on failure.
//
// Context: any thread, signal-safe, no allocation, errno untouched. Linux x86-64 only.
#pragma once

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) || !defined(__linux__)
#error "tidemark's in-process part knows Linux on x86-64 only"
#endif

namespace tidemark::os {

// System calls that a sandbox of the program would answer with death (sandbox.h): they fail with EPERM instead.
inline constexpr uint32_t kSystemCalls = 512;
inline std::atomic<uint64_t> forbidden_calls[kSystemCalls / 64];
inline void Forbid(uint32_t number) {
  forbidden_calls[number / 64].fetch_or(uint64_t{1} << (number % 64), std::memory_order_relaxed);
}
inline bool IsForbidden(long number) {
  return (forbidden_calls[number / 64].load(std::memory_order_relaxed) >> (number % 64) & 1) != 0;
}

inline long Syscall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  constexpr long kEperm = 1;
  if (IsForbidden(number)) [[unlikely]]
    return -kEperm;
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

inline bool IsError(long result) { return static_cast<unsigned long>(result) > -4096UL; }

// Anonymous private memory, or nullptr. `protection`: PROT_*; reserving address space: PROT_NONE + MAP_NORESERVE.
inline void* Map(size_t bytes, int protection = PROT_READ | PROT_WRITE, int extra_flags = 0) {
  const long p = Syscall(SYS_mmap, 0, static_cast<long>(bytes), protection,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | extra_flags, -1, 0);
  return IsError(p) ? nullptr : reinterpret_cast<void*>(p);
}
inline void* MapShared(int fd, size_t bytes) {
  const long p = Syscall(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return IsError(p) ? nullptr : reinterpret_cast<void*>(p);
}
inline long Unmap(void* p, size_t bytes) {
  return Syscall(SYS_munmap, reinterpret_cast<long>(p), static_cast<long>(bytes));
}
inline long Protect(void* p, size_t bytes, int protection) {
  return Syscall(SYS_mprotect, reinterpret_cast<long>(p), static_cast<long>(bytes), protection);
}
inline long Advise(void* p, size_t bytes, int advice) {
  return Syscall(SYS_madvise, reinterpret_cast<long>(p), static_cast<long>(bytes), advice);
}
inline long Close(int fd) { return Syscall(SYS_close, fd); }
inline uint32_t ThreadIdOfKernel() { return static_cast<uint32_t>(Syscall(SYS_gettid)); }
inline uint32_t ProcessId() { return static_cast<uint32_t>(Syscall(SYS_getpid)); }

// Where in its thread's control block glibc keeps the thread's id: the word that the kernel fills in when it makes the
// thread and clears when it ends. 0: not known, ask the kernel each time. A sandbox that is entered after start may
// forbid the question; and a raw clone() that shares its maker's thread-local storage is, as far as we go, its maker.
inline uintptr_t thread_id_offset = 0;

inline uint32_t ThreadId() {
  if (thread_id_offset == 0) return ThreadIdOfKernel();
  uint32_t id;
  __asm__ volatile("movl %%fs:(%1), %0" : "=r"(id) : "r"(thread_id_offset));
  return id;
}

// Finds that place, and gives it up where it does not hold the id: in a child that was forked behind glibc's back.
inline void LocateThreadId() {
  constexpr long kGetTidAddress = 40;  // PR_GET_TID_ADDRESS, of kernels with checkpointing
  constexpr uintptr_t kLargestOffset = 4096;
  uintptr_t block, address = 0;
  __asm__("movq %%fs:0, %0" : "=r"(block));
  thread_id_offset = 0;
  if (IsError(Syscall(SYS_prctl, kGetTidAddress, reinterpret_cast<long>(&address)))) return;
  if (address - block >= kLargestOffset) return;
  thread_id_offset = address - block;
  if (ThreadId() != ThreadIdOfKernel()) thread_id_offset = 0;
}

// Sleeps until somebody wakes the word, at most so long, and not at all if it is no longer `seen`. The word may be in
// memory that processes share.
inline void WaitWhileEqual(const void* word, uint32_t seen, long nanoseconds) {
  constexpr long kFutexWait = 0;
  timespec ts{0, nanoseconds};
  Syscall(SYS_futex, reinterpret_cast<long>(word), kFutexWait, seen, reinterpret_cast<long>(&ts));
}
// 0 when a sandbox forbids the question.
inline uint64_t MonotonicNs() {
  timespec ts{};
  Syscall(SYS_clock_gettime, CLOCK_MONOTONIC, reinterpret_cast<long>(&ts));
  return static_cast<uint64_t>(ts.tv_sec) * 1000000000u + static_cast<uint64_t>(ts.tv_nsec);
}

// Can the word at `address` be read? Asks the kernel without a descriptor and without faulting: a requeue of no waiters
// to where they are reads the word first, so EFAULT is the answer if it cannot, and nothing happens if it can. Programs
// that lock themselves into a sandbox leave themselves futex, which is not true of any other call that would tell. In
// one that does not, nothing counts as readable.
inline bool IsReadable(uintptr_t address) {
  constexpr long kEagain = 11, kNobody = 0;  // EAGAIN: the word is not 0
  const long word = static_cast<long>(address & ~uintptr_t{3});
  const long answer = Syscall(SYS_futex, word, FUTEX_CMP_REQUEUE_PRIVATE, kNobody, kNobody, word, 0);
  return !IsError(answer) || answer == -kEagain;
}

// The clock, where the program has not forbidden it; then the time when it did.
inline std::atomic<uint64_t> frozen_tsc{0};
inline uint64_t Tsc() {
  const uint64_t frozen = frozen_tsc.load(std::memory_order_relaxed);
  return frozen == 0 ? __builtin_ia32_rdtsc() : frozen;
}

}  // namespace tidemark::os
