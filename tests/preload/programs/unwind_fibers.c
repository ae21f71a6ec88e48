// Coroutines that switch stacks in assembly, as boost.context and language runtimes do, for unwinding_fibers_test.py:
//   unwind_fibers WHAT
//   storm      64 of them on 16 KiB each, switched at random, allocating in functions of two names
//   freed      stacks side by side without a gap, given back while the thread goes on on the one below
//   holes      a stack between inaccessible pages whose first function was entered without a return address
//   threads    the same for threads on stacks of their own, up against memory that is not mapped
// Nothing tells an unwinder where such a stack ends. Prints what it has done.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, FIBERS = 64, FIBER_STACK = 16 << 10 };
#define FRAME __attribute__((noinline, noclone))
#define HERE __asm__ volatile("" ::: "memory")  // no tail call

void switch_stack(void** save, void* to);
__asm__(
    ".pushsection .text\n.globl switch_stack\n.type switch_stack, @function\nswitch_stack:\n.cfi_startproc\n"
    "push %rbp\n.cfi_adjust_cfa_offset 8\npush %rbx\n.cfi_adjust_cfa_offset 8\npush %r12\n.cfi_adjust_cfa_offset 8\n"
    "push %r13\n.cfi_adjust_cfa_offset 8\npush %r14\n.cfi_adjust_cfa_offset 8\npush %r15\n.cfi_adjust_cfa_offset 8\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\n.cfi_adjust_cfa_offset -8\npop %r14\n.cfi_adjust_cfa_offset -8\npop %r13\n.cfi_adjust_cfa_offset -8\n"
    "pop %r12\n.cfi_adjust_cfa_offset -8\npop %rbx\n.cfi_adjust_cfa_offset -8\npop %rbp\n.cfi_adjust_cfa_offset -8\n"
    "ret\n.cfi_endproc\n.size switch_stack, . - switch_stack\n.popsection\n");

typedef struct {
  void* sp;
  int number, turns;
} fiber;
static fiber fibers[FIBERS];
static void* home;
static int running;

FRAME void leaf(size_t size) {
  void* volatile block = malloc(size);
  block = realloc(block, size + 50);
  free(block);
  HERE;
}
static void yield(void) { switch_stack(&fibers[running].sp, home); }

FRAME void even_inner(int n) {
  leaf(6000 + (size_t)n);
  yield();
  leaf(6100);
  HERE;
}
FRAME void odd_inner(int n) {
  leaf(6200 + (size_t)n);
  yield();
  leaf(6300);
  HERE;
}
FRAME void even_body(void) {
  even_inner(running);
  HERE;
}
FRAME void odd_body(void) {
  odd_inner(running);
  HERE;
}
// Entered by `ret`: the stack pointer is where a return address would be, and there is none. Their call frame
// information is that of any function.
#define ENTRY(name, body)                                                                           \
  void name(void);                                                                                  \
  __asm__(".pushsection .text\n.globl " #name "\n.type " #name ", @function\n" #name                \
          ":\n.cfi_startproc\n1: call " #body "\njmp 1b\n.cfi_endproc\n.size " #name ", . - " #name \
          "\n.popsection\n");
ENTRY(even_fiber, even_body)
ENTRY(odd_fiber, odd_body)

// `top`: the word above which nothing belongs to the stack. The function finds its return address there, or whatever
// lies there.
static void* prepare(char* top, void (*entry)(void)) {
  void** sp = (void**)top;
  *--sp = (void*)entry;
  for (int i = 0; i < 6; i++) *--sp = NULL;
  return sp;
}
static void resume(int number) {
  running = number;
  fibers[number].turns++;
  switch_stack(&home, fibers[number].sp);
}
static char* map_at(char* where, size_t bytes) {
  char* memory =
      mmap(where, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0), -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

static int storm(void) {
  unsigned seed = 1;
  for (int i = 0; i < FIBERS; i++) {
    char* stack = map_at(NULL, FIBER_STACK);
    // The first two words: no return address, as some libraries leave it.
    fibers[i].sp = prepare(stack + FIBER_STACK - 16, i % 2 ? odd_fiber : even_fiber);
  }
  for (int k = 0; k < 20000; k++) {
    seed = seed * 1103515245 + 12345;
    resume((int)(seed >> 16) % FIBERS);
    if (k % 100 == 0) leaf(6400);
  }
  return printf("storm done\n") < 0;
}

// Two stacks, the lower one's end is the upper one's beginning. The walk on the lower one runs past its end.
static int freed(void) {
  int done = 0;
  for (int k = 0; k < 200; k++) {
    char* room = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* lower = map_at(room + 4 * PAGE, 4 * PAGE);
    char* upper = map_at(room + 8 * PAGE, 4 * PAGE);
    fibers[0].sp = prepare(upper + 4 * PAGE - 16, even_fiber);
    fibers[1].sp = prepare(lower + 4 * PAGE, k % 2 ? odd_fiber : even_fiber);
    // What the lower one takes for its return address: the end mark, a pointer to code, or anything.
    *(void**)upper = k % 3 == 0 ? NULL : k % 3 == 1 ? (void*)((char*)&storm + 1) : (void*)~0ul;
    for (int i = 0; i < 3; i++) resume(0);  // the upper one is known to be readable
    for (int i = 0; i < 3; i++) resume(1);  // with it, all is one piece
    if (k % 4 < 2)
      munmap(upper, 4 * PAGE);
    else
      mprotect(upper, 4 * PAGE, PROT_NONE);
    for (int i = 0; i < 3; i++) resume(1);
    done++;
    munmap(room, 16 * PAGE);
  }
  return printf("freed %d\n", done) < 0;
}

static int holes(void) {
  for (int k = 0; k < 50; k++) {
    char* room = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* stack = map_at(room + 2 * PAGE, 4 * PAGE);
    fibers[0].sp = prepare(stack + 4 * PAGE, k % 2 ? odd_fiber : even_fiber);
    if (k % 4 < 2) munmap(room + 6 * PAGE, 2 * PAGE);
    for (int i = 0; i < 10; i++) resume(0);
    munmap(room, 6 * PAGE);
  }
  return printf("holes done\n") < 0;
}

FRAME void* thread_main(void* unused) {
  for (int i = 0; i < 100; i++) leaf(6500);
  HERE;
  return unused;
}
static int threads(void) {
  for (int k = 0; k < 20; k++) {
    const size_t size = (size_t)(16 + 4 * (k % 3)) << 10;
    char* room = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* stack = map_at(room + PAGE, size);
    if (k % 2 == 0) munmap(room + PAGE + size, PAGE);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, size);
    pthread_t thread;
    if (pthread_create(&thread, &attributes, thread_main, NULL) != 0) return 1;
    pthread_join(thread, NULL);
    munmap(room, size + PAGE);
  }
  return printf("threads done\n") < 0;
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "storm") == 0) return storm();
  if (strcmp(what, "freed") == 0) return freed();
  if (strcmp(what, "holes") == 0) return holes();
  if (strcmp(what, "threads") == 0) return threads();
  return 2;
}
