// Faults and signals that leave an allocation by siglongjmp, for signals_test.py:
//   signal_jumps WHAT     WHAT: release resize handler
// release and resize: free() and realloc() of a pointer far behind a block fault inside of the allocator, as nothing is
// mapped there; handler: the handler of a signal, having allocated, jumps out. Each time the program goes on at a place
// deeper in its stack than the call that was left, and allocates there. Prints how often.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMES = 50, AFTERWARDS = 40 };
static const ptrdiff_t FAR = (ptrdiff_t)64 << 30;
static sigjmp_buf way_out;
static volatile int jumped, reached;
static char* volatile wild;

static void on_fault(int number) {
  (void)number;
  jumped++;
  siglongjmp(way_out, 1);
}
static void on_signal(int number) {
  (void)number;
  void* volatile block = malloc(100);
  free(block);
  jumped++;
  siglongjmp(way_out, 1);
}

// A frame of 4 KiB each, so that what comes is below everything that was called before.
__attribute__((noinline)) static void deeper(int levels) {
  volatile char room[4096];
  room[levels] = 1;
  if (levels > 0) {
    deeper(levels - 1);
    room[0] = room[levels];
    return;
  }
  for (int i = 0; i < AFTERWARDS; i++) {
    void* volatile block = malloc(7777);
    block = realloc(block, 8888);
    free(block);
    reached++;
  }
}

__attribute__((noinline)) static void leaves(const char* what) {
  if (strcmp(what, "release") == 0) free(wild);
  if (strcmp(what, "resize") == 0) wild = realloc(wild, 100);
  if (strcmp(what, "handler") == 0) raise(SIGUSR1);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_fault;
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  action.sa_handler = on_signal;
  sigaction(SIGUSR1, &action, NULL);
  for (volatile int i = 0; i < TIMES; i++) {
    char* const block = malloc(100);
    wild = block + FAR;
    if (sigsetjmp(way_out, 1) == 0) leaves(argv[1]);
    deeper(20);
    free(block);
  }
  char text[100];
  const int length = snprintf(text, sizeof text, "jumped %d reached %d\n", jumped, reached);
  return write(1, text, (size_t)length) == length ? 0 : 1;
}
