// Locks itself in and goes on allocating: a filter that kills the process for every system call but those that a malloc
// needs and those that this program makes itself. See limits_test.py.
//   limit_seccomp WAY     alone, threads_before, threads, fork, errors (EPERM instead of death), strict, no_tsc
// Ends with "lived\n" on standard output and status 0.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_rseq
#define SYS_rseq 334
#endif

static const int kMalloc[] = {SYS_mmap, SYS_munmap, SYS_madvise, SYS_mprotect, SYS_futex, SYS_brk, SYS_mremap};
static const int kOwn[] = {SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn};
static const int kThread[] = {SYS_clone, SYS_clone3,         SYS_set_robust_list,
                              SYS_rseq,  SYS_rt_sigprocmask, SYS_rt_sigaction};
// What glibc's malloc asks when threads make arenas and these shrink.
static const int kArena[] = {SYS_sched_getaffinity, SYS_openat, SYS_read, SYS_close};
static const int kFork[] = {SYS_clone, SYS_set_robust_list, SYS_rt_sigprocmask, SYS_wait4};

static struct sock_filter filter[100];
static unsigned short length = 0;
static void add(uint16_t code, uint32_t k, uint8_t jump_true, uint8_t jump_false) {
  filter[length++] = (struct sock_filter){code, jump_true, jump_false, k};
}
static void allow(const int* calls, size_t count) {
  for (size_t i = 0; i < count; i++) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
  }
}
#define ALLOW(calls) allow(calls, sizeof calls / sizeof calls[0])

static void lock_in(const char* way) {
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
  ALLOW(kMalloc);
  ALLOW(kOwn);
  ALLOW(kArena);
  if (strcmp(way, "threads") == 0) ALLOW(kThread);
  if (strcmp(way, "fork") == 0 || strcmp(way, "errors") == 0) ALLOW(kFork);
  add(BPF_RET | BPF_K, strcmp(way, "errors") == 0 ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_KILL_PROCESS, 0, 0);
  const struct sock_fprog program = {length, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
    _exit(77);
  }
}

static void churn(unsigned seed, int rounds) {
  void* blocks[64] = {0};
  for (int i = 0; i < rounds; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & 63;
    if (blocks[k] != NULL && *(uintptr_t*)blocks[k] != (uintptr_t)blocks[k]) abort();
    free(blocks[k]);
    blocks[k] = malloc(16 + (seed >> 8) % (i % 50 == 0 ? 300000 : 3000));
    *(uintptr_t*)blocks[k] = (uintptr_t)blocks[k];
  }
  for (int k = 0; k < 64; k++) free(blocks[k]);
}

// Down into pages of the stack that nobody has seen before.
static __attribute__((noinline)) unsigned deep(int depth) {
  volatile char frame[3000];
  frame[depth % 3000] = 1;
  churn((unsigned)depth, 3);
  return depth == 0 ? 0u : deep(depth - 1) + (unsigned)frame[depth % 3000];
}
static void everything(unsigned seed) {
  churn(seed, 5000);
  if (deep(200) != 200) abort();
  churn(seed, 1000);
}

static pthread_barrier_t locked, done;
static void* waits_for_the_lock(void* argument) {
  pthread_barrier_wait(&locked);  // it has started: what a thread's start asks for, it has asked
  pthread_barrier_wait(&locked);
  everything((unsigned)(uintptr_t)argument);
  pthread_barrier_wait(&done);
  for (;;) pthread_barrier_wait(&locked);  // its end would take more system calls than the filter allows
}
static void* starts_in_the_lock(void* argument) {
  everything((unsigned)(uintptr_t)argument);
  return NULL;
}

static int has_lived(void) {
  const ssize_t n = write(1, "lived\n", 6);
  syscall(SYS_exit_group, n == 6 ? 0 : 1);
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const char* way = argv[1];
  if (strcmp(way, "no_tsc") == 0) {
    churn(1, 100);
    if (prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) != 0) return 77;
    everything(2);
    return has_lived();
  }
  if (strcmp(way, "strict") == 0) {
    // What it needs it has had before: from here on any allocator that asks the system for more is killed.
    void* blocks[100];
    for (int i = 0; i < 100; i++) blocks[i] = malloc(200);
    for (int i = 0; i < 100; i++) free(blocks[i]);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) != 0) return 77;
    for (int round = 0; round < 20; round++) {
      for (int i = 0; i < 50; i++) blocks[i] = malloc(200);
      for (int i = 0; i < 50; i++) free(blocks[i]);
    }
    const ssize_t n = write(1, "lived\n", 6);
    syscall(SYS_exit, n == 6 ? 0 : 1);
  }
  pthread_t threads[4];
  if (strcmp(way, "threads_before") == 0) {
    pthread_barrier_init(&locked, NULL, 5);
    pthread_barrier_init(&done, NULL, 5);
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, waits_for_the_lock, (void*)i);
    pthread_barrier_wait(&locked);
  }
  churn(1, 100);  // glibc asks for random numbers with the first block
  lock_in(way);
  everything(3);
  if (strcmp(way, "threads_before") == 0) {
    pthread_barrier_wait(&locked);
    pthread_barrier_wait(&done);
  }
  if (strcmp(way, "threads") == 0) {
    for (uintptr_t i = 0; i < 4; i++) {
      if (pthread_create(&threads[i], NULL, starts_in_the_lock, (void*)i) != 0) return 3;
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  }
  if (strcmp(way, "fork") == 0 || strcmp(way, "errors") == 0) {
    const pid_t child = fork();
    if (child == 0) {
      everything(4);
      syscall(SYS_exit_group, 7);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) return 4;
    everything(5);
  }
  return has_lived();
}
