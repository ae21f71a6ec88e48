// Threads that allocate while signals rain on them, for signals_test.py:
//   signal_storm SIGNALS [altstack|threads]
// Three threads call malloc, realloc and free until SIGNALS have come, each interrupted 10,000 times a second by a
// timer of its own. The handler allocates too, but only where it may: nothing of an allocator is signal-safe, so it
// looks at what it has interrupted, and allocates in the program's own code and inside of libtidemark.so (which is in
// the middle of recording then, and has not called the heap). Prints how often each function was called, by threads and
// handlers, and how often errno was changed. With `threads`, threads of a few hundred calls come and go instead, and
// one timer's signals hit whichever runs, from its first instruction to its last.
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { THREADS = 3, STACK = 256 << 10 };
static struct { uintptr_t begin, end; } code[2];  // of the program, and of the library

static int find_code(struct dl_phdr_info* info, size_t size, void* unused) {
  (void)size, (void)unused;
  const int index = info->dlpi_name[0] == 0 ? 0 : strstr(info->dlpi_name, "libtidemark") != NULL ? 1 : -1;
  for (int i = 0; index >= 0 && i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD || (info->dlpi_phdr[i].p_flags & PF_X) == 0) continue;
    code[index].begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    code[index].end = code[index].begin + info->dlpi_phdr[i].p_memsz;
  }
  return 0;
}

static atomic_long mallocs, reallocs, frees, inside_library, handled, errno_changed;
static long signals;
static int on_alternate_stack, short_threads;

static void on_signal(int number, siginfo_t* info, void* context) {
  (void)number, (void)info;
  const uintptr_t at = (uintptr_t)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
  atomic_fetch_add(&handled, 1);
  const int library = at >= code[1].begin && at < code[1].end;
  if (!library && (at < code[0].begin || at >= code[0].end)) return;
  if (library) atomic_fetch_add(&inside_library, 1);
  // No errno of ours is kept here: an allocation that succeeds leaves it alone.
  char* volatile block = malloc(24 + at % 5000);
  block[0] = 1;
  free(block);
  atomic_fetch_add(&mallocs, 1);
  atomic_fetch_add(&frees, 1);
}

static void* work(void* unused) {
  if (on_alternate_stack) {
    stack_t stack = {.ss_size = STACK};
    stack.ss_sp = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaltstack(&stack, NULL);
  }
  timer_t timer = NULL;
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGUSR1;
  event._sigev_un._tid = (int)syscall(SYS_gettid);
  const struct itimerspec often = {{0, 100000}, {0, 100000}};
  if (!short_threads &&
      (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &often, NULL) != 0)) {
    exit(1);
  }
  long rounds = 0;
  errno = 77;
  for (; handled < signals && (!short_threads || rounds < 300); rounds++) {
    char* volatile block = malloc(16 + (size_t)rounds % 700);
    block[0] = 1;
    block = realloc(block, 32 + (size_t)rounds % 1900);
    block[31] = 2;
    free(block);
    if (errno != 77) {
      errno_changed++;
      errno = 77;
    }
  }
  if (!short_threads) timer_delete(timer);
  mallocs += rounds;
  reallocs += rounds;
  frees += rounds;
  return unused;
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  signals = atol(argv[1]);
  on_alternate_stack = argc > 2 && strcmp(argv[2], "altstack") == 0;
  short_threads = argc > 2 && strcmp(argv[2], "threads") == 0;
  dl_iterate_phdr(find_code, NULL);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | (on_alternate_stack ? SA_ONSTACK : 0);
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
  if (short_threads) setitimer(ITIMER_REAL, &often, NULL);
  do {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
      if (pthread_create(&threads[i], NULL, work, NULL) != 0) return 1;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  } while (handled < signals);
  setitimer(ITIMER_REAL, &never, NULL);
  char text[200];
  const int length = snprintf(text, sizeof text, "alloc %ld realloc %ld free %ld\nhandled %ld inside %ld errno %ld\n",
                              mallocs, reallocs, frees, handled, inside_library, errno_changed);
  return write(1, text, (size_t)length) == length ? 0 : 1;
}
