// How much stack a hook needs below its caller, for unwinding_stack_test.py:
//   unwind_stack_need [PLUGIN]
// A thread with the smallest stack there is (PTHREAD_STACK_MIN, an inaccessible page below it) fills what is free of it
// with a pattern before each call and looks afterwards how far down it was changed. Prints the most bytes for each kind
// of call; the first of a thread, the first of a forked child and the first after a dlopen (new unwinding rules) are
// kinds of their own. The same numbers without a profiler are those of the C library's malloc.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATTERN = 0x5a, RED_ZONE = 128, KINDS = 6 };
static const char* const kinds[KINDS] = {"first", "later", "free", "realloc", "dlopen", "fork"};
static char* low;  // of the stack of the thread that measures
static long most[KINDS];
static void* volatile block;

// The caller's frame ends at its stack pointer; whatever is below belongs to nobody (but the red zone of a leaf).
#define STACK_POINTER(sp) __asm__ volatile("movq %%rsp, %0" : "=r"(sp))

__attribute__((noinline)) static void fill(void) {
  char* sp;
  STACK_POINTER(sp);
  for (volatile char* at = low; at < sp - RED_ZONE; at++) *at = PATTERN;
}
__attribute__((noinline)) static void look(int kind, const char* sp) {
  const volatile char* at = low;
  while (at < sp && *at == PATTERN) at++;
  if (sp - at > most[kind]) most[kind] = sp - at;
}

#define MEASURE(kind, call) \
  do {                      \
    char* sp;               \
    fill();                 \
    STACK_POINTER(sp);      \
    call;                   \
    look(kind, sp);         \
  } while (0)

__attribute__((noinline)) static void deep(int levels, size_t size) {
  volatile int keep = levels;
  if (levels > 0)
    deep(levels - 1, size);
  else
    MEASURE(1, block = malloc(size));
  keep++;
  if (levels == 0) free(block);
}

static void* measure(void* plugin) {
  MEASURE(0, block = malloc(100));
  MEASURE(2, free(block));
  for (int i = 0; i < 60; i++) deep(i, (size_t)i * i * i + 1);  // more frames than before, each time
  for (int i = 1; i < 20; i++) {
    MEASURE(1, block = malloc((size_t)1 << i));
    MEASURE(3, block = realloc(block, (size_t)3 << i));
    MEASURE(2, free(block));
    MEASURE(1, block = aligned_alloc(4096, (size_t)4096 << i % 8));
    MEASURE(2, free(block));
    MEASURE(1, block = calloc((size_t)i * 50, 7));
    MEASURE(2, free(block));
  }
  if (plugin != NULL) {
    // On another, larger stack, since the loader itself may need more: main does it while this thread waits.
    pthread_barrier_wait(plugin);
    pthread_barrier_wait(plugin);
    MEASURE(4, block = malloc(100));
    MEASURE(4, free(block));
  }
  const pid_t child = fork();
  if (child == 0) {
    MEASURE(5, block = malloc(100));
    _exit((int)((most[5] + 63) / 64));
  }
  int status = 0;
  waitpid(child, &status, 0);
  most[5] = WIFEXITED(status) ? 64L * WEXITSTATUS(status) : -1;
  return NULL;
}

int main(int argc, char** argv) {
  const size_t page = 4096, size = (size_t)PTHREAD_STACK_MIN;
  char* memory = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  low = memory + page;
  mprotect(low, size, PROT_READ | PROT_WRITE);  // inaccessible below and above
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, low, size);
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_t thread;
  if (pthread_create(&thread, &attributes, measure, argc > 1 ? &barrier : NULL) != 0) return 1;
  if (argc > 1) {
    pthread_barrier_wait(&barrier);
    if (dlopen(argv[1], RTLD_NOW) == NULL) return 1;
    pthread_barrier_wait(&barrier);
  }
  pthread_join(thread, NULL);
  for (int i = 0; i < KINDS; i++) printf("%s %ld\n", kinds[i], most[i]);
  return 0;
}
