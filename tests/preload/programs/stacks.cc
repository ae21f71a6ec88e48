// Known call chains that end in an allocation, for stacks_test.py:
//   stacks WHAT       WHAT: qsort signal altstack exception noreturn library deep NN threads fiber vla
// Compiled with -O2 -fomit-frame-pointer. Every function on a chain is marked so that it stands on the stack under its
// own name; each allocation has a size by which the test finds it.
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define FRAME extern "C" __attribute__((noinline, noclone))
static void* volatile sink;
static volatile int zero;
#define HERE __asm__ volatile("" ::: "memory")  // no tail call

FRAME void leaf(size_t size) {
  sink = malloc(size);
  free(sink);
  HERE;
}

// qsort's comparison allocates.
FRAME int compare(const void* a, const void* b) {
  leaf(5001);
  HERE;
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}
FRAME void sorts() {
  int values[] = {3, 1, 2};
  qsort(values, 3, sizeof(int), compare);
  HERE;
}

FRAME void on_signal(int) {
  leaf(5002);
  HERE;
}
FRAME void raises() {
  volatile int x = 1;
  *const_cast<volatile int*>(&zero) = x;
  __asm__ volatile("ud2");  // a synchronous signal in the middle of a function
  HERE;
}
FRAME void step_over(int, siginfo_t*, void* context) {
  leaf(5003);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;
  HERE;
}
FRAME void signals(bool alternate) {
  if (alternate) {
    static char stack[64 << 10];
    stack_t ss{};
    ss.ss_sp = stack;
    ss.ss_size = sizeof(stack);
    sigaltstack(&ss, nullptr);
  }
  struct sigaction action {};
  action.sa_sigaction = step_over;
  action.sa_flags = SA_SIGINFO | (alternate ? SA_ONSTACK : 0);
  sigaction(SIGILL, &action, nullptr);
  raises();
  struct sigaction plain {};
  plain.sa_handler = on_signal;
  plain.sa_flags = alternate ? SA_ONSTACK : 0;
  sigaction(SIGUSR1, &plain, nullptr);
  raise(SIGUSR1);
  HERE;
}

// An exception passes through frames; its destructor allocates while it does.
struct Allocates {
  ~Allocates() { leaf(5004); }
};
FRAME void throws() {
  char big[5005];
  memset(big, 1, sizeof(big));
  struct Payload {
    char bytes[5005];
  } payload;
  memcpy(payload.bytes, big, sizeof(big));
  throw payload;
}
FRAME void passes() {
  Allocates local;
  throws();
  HERE;
}
FRAME void catches() {
  try {
    passes();
  } catch (...) {
    leaf(5006);
  }
  HERE;
}

// The call is the last instruction of its caller: the return address belongs to the next function.
FRAME __attribute__((noreturn)) void never_returns() {
  leaf(5007);
  fflush(stdout);
  _Exit(0);
}
FRAME __attribute__((noreturn)) void calls_noreturn() { never_returns(); }

FRAME long deep(long n) {
  if (n == 0) {
    leaf(5008);
    return 0;
  }
  const long below = deep(n - 1);
  HERE;
  return below + 1;
}

FRAME long deep_each(long n) {  // allocates on every level
  sink = malloc(5009);
  void* mine = sink;
  const long below = n == 0 ? 0 : deep_each(n - 1);
  free(mine);
  HERE;
  return below + 1;
}

FRAME void variable_frame(int n) {  // frame of unknown size, kept by rbp
  char* p = static_cast<char*>(alloca(static_cast<size_t>(n)));
  memset(p, 0, static_cast<size_t>(n));
  leaf(5010);
  HERE;
}
FRAME void aligned_frame() {  // realigned stack: CFA by expression
  alignas(64) volatile char block[64] = {};
  char* p = static_cast<char*>(alloca(static_cast<size_t>(zero + 100)));
  block[0] = p[0] = 1;
  leaf(5011);
  HERE;
}

FRAME void* thread_main(void*) {
  leaf(5012);
  HERE;
  return nullptr;
}

static ucontext_t main_context, fiber_context;
FRAME void fiber_main() {
  leaf(5013);
  HERE;
}
FRAME void runs_fiber() {
  static char stack[64 << 10];
  getcontext(&fiber_context);
  fiber_context.uc_stack.ss_sp = stack;
  fiber_context.uc_stack.ss_size = sizeof(stack);
  fiber_context.uc_link = &main_context;
  makecontext(&fiber_context, fiber_main, 0);
  swapcontext(&main_context, &fiber_context);
  leaf(5014);
  HERE;
}

extern "C" void library_entry(void (*callback)(size_t), size_t size);

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  const long n = argc > 2 ? atol(argv[2]) : 0;
  if (strcmp(what, "qsort") == 0) sorts();
  if (strcmp(what, "signal") == 0) signals(false);
  if (strcmp(what, "altstack") == 0) signals(true);
  if (strcmp(what, "exception") == 0) catches();
  if (strcmp(what, "noreturn") == 0) calls_noreturn();
  if (strcmp(what, "deep") == 0) printf("%ld\n", deep(n));
  if (strcmp(what, "deep-each") == 0) printf("%ld\n", deep_each(n));
  if (strcmp(what, "frames") == 0) {
    variable_frame(static_cast<int>(n));
    aligned_frame();
  }
  if (strcmp(what, "fiber") == 0) runs_fiber();
  if (strcmp(what, "library") == 0) library_entry(leaf, 5015);
  if (strcmp(what, "thread") == 0) {
    pthread_t thread;
    pthread_create(&thread, nullptr, thread_main, nullptr);
    pthread_join(thread, nullptr);
  }
  return 0;
}
