// Asks for the time again and again until signals have often come in the middle of it; their handler allocates. The
// time is asked for in the vdso, and main allocates nothing meanwhile, so the handler may. See unwinding_code_test.py.
#define _GNU_SOURCE
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static uintptr_t vdso;
static volatile int inside, all;

void on_signal(int number, siginfo_t* info, void* context) {
  (void)number, (void)info;
  const uintptr_t at = (uintptr_t)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
  if (at - vdso < 0x2000) inside++;
  void* volatile block = malloc(1234);
  free(block);
  all++;
}

__attribute__((noinline, noclone)) void asks_the_time(void) {
  struct timespec now;
  while (inside < 20 && all < 20000) clock_gettime(CLOCK_MONOTONIC, &now);
}

int main(void) {
  vdso = getauxval(AT_SYSINFO_EHDR);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  asks_the_time();
  setitimer(ITIMER_REAL, &never, NULL);
  return inside >= 20 ? 0 : 1;
}
