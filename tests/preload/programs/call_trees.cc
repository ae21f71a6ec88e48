// Random call trees over many shapes of frames, for the build of the library that checks every stack with a second
// walk.
//
// Arguments: a seed and a number of rounds. Each round walks up and down a random tree whose functions differ in what
// unwinding has to know: no frame pointer, a frame pointer, alloca, realigned stacks, callee-saved registers with
// changing contents, callbacks through qsort, exceptions, longjmp, signal handlers (also on an alternate stack),
// coroutines, threads, tail calls. Prints a sum that depends on the seed alone.
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

namespace {

#define SHAPE __attribute__((noinline, noclone))
#define WITH_FRAME_POINTER __attribute__((noinline, noclone, optimize("no-omit-frame-pointer")))

struct Tree {
  uint64_t state;
  uint64_t sum = 0;
  int budget = 0;
  jmp_buf* way_out = nullptr;
  uint32_t Random(uint32_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<uint32_t>(state >> 33) % limit;
  }
};

// An allocation or two at this place; some blocks outlive the call.
SHAPE void Touch(Tree* tree) {
  static thread_local void* kept[16];
  void*& slot = kept[tree->Random(16)];
  const size_t size = 1 + tree->Random(300);
  if (tree->Random(4) == 0) {
    void* moved = realloc(slot, size);
    if (moved != nullptr) slot = moved;
  } else {
    free(slot);
    slot = malloc(size);
  }
  if (slot != nullptr) memset(slot, 1, 1);
  tree->sum += size;
  tree->budget--;
}

void Step(Tree* tree, int depth);

// Calls onward a random number of times, touching the heap in between.
#define BODY(tree, depth)                                                                  \
  for (uint32_t times = 1 + (tree)->Random(3); times > 0 && (tree)->budget > 0; times--) { \
    if ((tree)->Random(2) == 0) Touch(tree);                                               \
    Step(tree, (depth) + 1);                                                               \
  }

SHAPE void Plain(Tree* tree, int depth) {
  BODY(tree, depth)
  tree->sum += 1;
}

WITH_FRAME_POINTER void FramePointer(Tree* tree, int depth) {
  BODY(tree, depth)
  tree->sum += 2;
}

SHAPE void Alloca(Tree* tree, int depth) {
  auto* bytes = static_cast<volatile char*>(alloca(16 + tree->Random(2000)));
  bytes[0] = static_cast<char>(depth);
  BODY(tree, depth)
  tree->sum += static_cast<unsigned char>(bytes[0]);
}

// Keeps values that change with every call in all callee-saved registers, rbp among them.
SHAPE void Registers(Tree* tree, int depth) {
  uint64_t a = tree->Random(1000), b = tree->Random(1000), c = tree->Random(1000), d = tree->Random(1000),
           e = tree->Random(1000), f = tree->Random(1000);
  for (uint32_t i = 0; i < 2 && tree->budget > 0; i++) {
    Step(tree, depth + 1);
    asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    a += b ^ c;
    b += d ^ e;
    c += f;
    Touch(tree);
  }
  tree->sum += a + b + c + d + e + f;
}

// A stack that is realigned to 32 bytes: the frame's address is computed from another register.
SHAPE void Realigned(Tree* tree, int depth) {
  struct alignas(64) Wide {
    volatile uint64_t words[8];
  } wide;
  wide.words[depth & 7] = static_cast<uint64_t>(depth);
  BODY(tree, depth)
  tree->sum += wide.words[depth & 7];
}
SHAPE void RealignedAlloca(Tree* tree, int depth) {
  struct alignas(32) Wide {
    volatile uint64_t words[4];
  } wide;
  wide.words[depth & 3] = 3;
  auto* bytes = static_cast<volatile char*>(alloca(16 + tree->Random(500)));
  bytes[0] = 1;
  BODY(tree, depth)
  tree->sum += wide.words[depth & 3] + static_cast<unsigned char>(bytes[0]);
}

SHAPE void ManyArguments(Tree* tree, int depth, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                         uint64_t f) {
  BODY(tree, depth)
  tree->sum += a + b + c + d + e + f;
}

thread_local Tree* comparing = nullptr;
thread_local int comparing_depth = 0;
int Compare(const void* left, const void* right) {
  if (comparing->Random(8) == 0 && comparing->budget > 0) {
    Tree* tree = comparing;
    const int depth = comparing_depth;
    Touch(tree);
    Step(tree, depth + 2);
    comparing = tree;
    comparing_depth = depth;
  }
  return *static_cast<const int*>(left) - *static_cast<const int*>(right);
}
SHAPE void Sort(Tree* tree, int depth) {
  int numbers[12];
  for (int& number : numbers) number = static_cast<int>(tree->Random(100));
  comparing = tree;
  comparing_depth = depth;
  qsort(numbers, 12, sizeof(int), Compare);
  tree->sum += static_cast<uint64_t>(numbers[0]);
}

SHAPE void Throws(Tree* tree, int depth) {
  Touch(tree);
  if (depth % 3 == 0) throw depth;
  BODY(tree, depth)
}
SHAPE void Catches(Tree* tree, int depth) {
  try {
    Throws(tree, depth + 1);
  } catch (int thrown) {
    tree->sum += static_cast<uint64_t>(thrown);
    Touch(tree);
  }
}

SHAPE void Jumps(Tree* tree, int depth) {
  jmp_buf here;
  jmp_buf* const outer = tree->way_out;
  if (setjmp(here) == 0) {
    tree->way_out = &here;
    Step(tree, depth + 1);
    if (tree->way_out == &here && tree->Random(2) == 0) longjmp(here, 1);
  }
  tree->way_out = outer;
  Touch(tree);
}

// The handler allocates: raised from outside of malloc, so that it may.
thread_local Tree* interrupted = nullptr;
void OnSignal(int) {
  Tree* tree = interrupted;
  Touch(tree);
  Touch(tree);
}
SHAPE void Signal(Tree* tree, int) {
  interrupted = tree;
  raise(tree->Random(2) == 0 ? SIGUSR1 : SIGUSR2);  // SIGUSR2: on the alternate stack
  Touch(tree);
}

thread_local ucontext_t main_context, fiber_context;
thread_local Tree* fiber_tree = nullptr;
thread_local int fiber_depth = 0;
thread_local bool in_fiber = false;
void Fiber() {
  Tree* tree = fiber_tree;
  for (;;) {  // never returns: it is simply not resumed any more
    Touch(tree);
    Plain(tree, fiber_depth + 4);
    swapcontext(&fiber_context, &main_context);
  }
}
SHAPE void RunsFiber(Tree* tree, int depth) {
  if (in_fiber) return Touch(tree);
  in_fiber = true;
  static thread_local char* stack = nullptr;
  constexpr size_t kBytes = 512 << 10;
  if (stack == nullptr) stack = static_cast<char*>(malloc(kBytes));
  getcontext(&fiber_context);
  fiber_context.uc_stack.ss_sp = stack;
  fiber_context.uc_stack.ss_size = kBytes;
  fiber_context.uc_link = nullptr;
  fiber_tree = tree;
  fiber_depth = depth;
  makecontext(&fiber_context, Fiber, 0);
  for (int i = 0; i < 3; i++) {
    swapcontext(&main_context, &fiber_context);
    Touch(tree);
  }
  in_fiber = false;
}

SHAPE void TailCalls(Tree* tree, int depth) { return Plain(tree, depth + 1); }

SHAPE void Deeper(Tree* tree, int depth, uint32_t levels) {
  if (levels == 0) {
    Touch(tree);
    return Step(tree, depth);
  }
  Deeper(tree, depth, levels - 1);
  asm volatile("" ::: "memory");
}

SHAPE void Step(Tree* tree, int depth) {
  if (tree->budget <= 0 || depth > 40) return;
  switch (tree->Random(15)) {
    case 0:
    case 1:
      return Plain(tree, depth);
    case 2:
    case 3:
      return FramePointer(tree, depth);
    case 4:
      return Alloca(tree, depth);
    case 5:
      return Registers(tree, depth);
    case 6:
      return Realigned(tree, depth);
    case 7:
      return RealignedAlloca(tree, depth);
    case 8:
      return ManyArguments(tree, depth, 1, 2, 3, 4, 5, tree->Random(9));
    case 9:
      return Sort(tree, depth);
    case 10:
      return Catches(tree, depth);
    case 11:
      return in_fiber ? Plain(tree, depth) : Jumps(tree, depth);
    case 12:
      return Signal(tree, depth);
    case 13:
      return RunsFiber(tree, depth);
    default:
      return tree->Random(40) == 0 ? Deeper(tree, depth, tree->Random(1500)) : TailCalls(tree, depth);
  }
}

int rounds = 0;

uint64_t RunTrees(uint64_t seed) {
  static thread_local char alternate[256 << 10];
  stack_t stack{};
  stack.ss_sp = alternate;
  stack.ss_size = sizeof(alternate);
  sigaltstack(&stack, nullptr);
  Tree tree{seed * 0x9e3779b97f4a7c15u + 1};
  for (int i = 0; i < rounds; i++) {
    tree.budget = 200;
    try {
      while (tree.budget > 0) Step(&tree, 0);
    } catch (int thrown) {
      tree.sum += static_cast<uint64_t>(thrown);
    }
    in_fiber = false;
  }
  return tree.sum;
}

void* RunThread(void* seed) { return reinterpret_cast<void*>(RunTrees(reinterpret_cast<uintptr_t>(seed))); }

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const uint64_t seed = strtoull(argv[1], nullptr, 10);
  rounds = atoi(argv[2]);
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigaction(SIGUSR1, &action, nullptr);
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR2, &action, nullptr);
  pthread_t thread;
  pthread_create(&thread, nullptr, RunThread, reinterpret_cast<void*>(seed + 1000));
  uint64_t sum = RunTrees(seed);
  void* other = nullptr;
  pthread_join(thread, &other);
  printf("%llu\n", static_cast<unsigned long long>(sum + reinterpret_cast<uintptr_t>(other)));
  return 0;
}
