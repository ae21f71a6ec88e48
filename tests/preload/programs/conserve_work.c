// Allocates in many ways, keeps books of every call in a file that survives it, and ends in many ways.
//
//   conserve_work BOOKS storm THREADS ROUNDS END   main works ROUNDS rounds, the others work without end, then END:
//                    return (stops and joins them first) exit _exit quick_exit abort term int segv overflow kill group
//                    pthread_exit (main leaves; the others end after as many rounds) forever (until killed or told)
//   conserve_work BOOKS waves WAVES        threads that end in the middle: return, pthread_exit, cancel, SYS_exit
//   conserve_work BOOKS forks CHILDREN     parent, children and grandchildren, all of them busy in two threads
//   conserve_work BOOKS chain LENGTH       exec of itself, LENGTH times; a forked child goes its own way each time
//   conserve_work BOOKS grow               takes and touches memory until somebody kills it
//
// BOOKS is read by accounts.py: a header and one account per thread. A call is entered before it is made and again
// after it has returned, so that whatever kills the program leaves one event a thread in doubt, not more. Nothing else
// in here allocates: no stdio, and thread stacks of our own, so that pthread_create is one calloc (the vector of TLS
// blocks) and pthread_join its free. Must not: print what depends on addresses or on time.
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kAlloc, kFree, kRealloc, kKinds };
enum { kMaxAccounts = 4095, kBlocks = 48, kStackBytes = 256 << 10 };

struct Header {
  _Atomic uint32_t accounts;  // taken so far
  _Atomic uint32_t stop;      // set by whoever wants threads that work without end to come to one
  _Atomic uint32_t recorded;  // 1 while the library says that it records
  uint8_t reserved[116];
};
struct Account {
  uint32_t pid, image;
  volatile uint64_t begun[kKinds], done[kKinds];
  volatile uint64_t longest_ns;  // of one round
  volatile uint64_t rounds;
  uint8_t reserved[56];
};
_Static_assert(sizeof(struct Header) == 128 && sizeof(struct Account) == 128, "accounts.py reads it so");

extern int tidemark_is_recording(void) __attribute__((weak));  // absent without the library

static struct Header* header;
static struct Account* accounts;
static const char* books;
static uint32_t image;

static struct Account* OpenAccount(void) {
  const uint32_t index = atomic_fetch_add(&header->accounts, 1);
  if (index >= kMaxAccounts) _exit(90);
  accounts[index].pid = (uint32_t)getpid();
  accounts[index].image = image;
  return &accounts[index];
}

// What one thread holds and where it writes it down.
struct Worker {
  struct Account* account;
  uint64_t random, checksum;
  unsigned char* blocks[kBlocks];
  size_t sizes[kBlocks];
};

static void StartWorker(struct Worker* worker, uint64_t seed) {
  memset(worker, 0, sizeof *worker);
  worker->account = OpenAccount();
  worker->random = seed * 2654435761u + 1;
}
static uint64_t Next(struct Worker* worker) {
  worker->random = worker->random * 6364136223846793005u + 1442695040888963407u;
  return worker->random >> 33;
}
static void Begin(struct Worker* worker, int kind) { worker->account->begun[kind]++; }
static void Done(struct Worker* worker, int kind) { worker->account->done[kind]++; }

static void Release(struct Worker* worker, unsigned k) {
  unsigned char* block = worker->blocks[k];
  if (block == NULL) return;
  const size_t size = worker->sizes[k];
  if (block[0] != (unsigned char)size || block[size - 1] != (unsigned char)(size >> 3)) _exit(91);
  worker->blocks[k] = NULL;
  Begin(worker, kFree);
  free(block);
  Done(worker, kFree);
}
static void Fill(struct Worker* worker, unsigned k, void* block, size_t size) {
  if (block == NULL) _exit(92);
  worker->blocks[k] = block;
  worker->sizes[k] = size;
  worker->blocks[k][0] = (unsigned char)size;
  worker->blocks[k][size - 1] = (unsigned char)(size >> 3);
  worker->checksum = worker->checksum * 31 + size;
}
// Blocks of 64 bytes and more: with one sample a byte, sampled mode takes every one of them.
static void Obtain(struct Worker* worker, unsigned k) {
  const size_t size = 64 + Next(worker) % 1200;
  const unsigned how = Next(worker) % 8;
  void* block;
  Begin(worker, kAlloc);
  if (how == 0) {
    block = calloc(1, size);
  } else if (how == 1) {
    block = memalign(64, size);
  } else {
    block = malloc(size);
  }
  Done(worker, kAlloc);
  Fill(worker, k, block, size);
}
static void Resize(struct Worker* worker, unsigned k) {
  const size_t old_size = worker->sizes[k], size = 64 + Next(worker) % 2000;
  unsigned char* block = worker->blocks[k];
  Begin(worker, kRealloc);
  block = realloc(block, size);
  Done(worker, kRealloc);
  if (block == NULL || block[0] != (unsigned char)old_size) _exit(93);
  Fill(worker, k, block, size);
}

static uint64_t NowNs(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
static void Work(struct Worker* worker, uint64_t rounds) {
  uint64_t before = NowNs();
  for (uint64_t i = 0; i < rounds; i++) {
    const unsigned k = Next(worker) % kBlocks;
    if (worker->blocks[k] != NULL && Next(worker) % 3 == 0) {
      Resize(worker, k);
    } else {
      Release(worker, k);
      Obtain(worker, k);
    }
    worker->account->rounds++;
    const uint64_t now = NowNs();
    if (now - before > worker->account->longest_ns) worker->account->longest_ns = now - before;
    before = now;
  }
}
static void ReleaseAll(struct Worker* worker) {
  for (unsigned k = 0; k < kBlocks; k++) Release(worker, k);
}

// ---- Threads

struct Thread {
  pthread_t id;
  void* stack;
  uint64_t rounds;  // 0: until told to stop
  int end;
  uint64_t seed;
  struct Worker worker;
};
enum { kReturn, kPthreadExit, kCancelled, kRawExit, kThreadEnds };

static __attribute__((noinline)) void LeaveFromBelow(int depth) {
  volatile char frame[512];
  frame[0] = (char)depth;
  if (depth == 0) pthread_exit((void*)1);
  LeaveFromBelow(depth - 1 + frame[1] * 0);
}
static void* ThreadMain(void* argument) {
  struct Thread* thread = argument;
  StartWorker(&thread->worker, thread->seed);
  if (thread->rounds == 0) {
    while (!atomic_load_explicit(&header->stop, memory_order_relaxed)) Work(&thread->worker, 64);
    ReleaseAll(&thread->worker);
    return NULL;
  }
  Work(&thread->worker, thread->rounds);
  // What it still holds is released by whoever joins it.
  if (thread->end == kPthreadExit) LeaveFromBelow(20);
  if (thread->end == kRawExit) syscall(SYS_exit, 0);
  while (thread->end == kCancelled) {
    Work(&thread->worker, 8);
    pthread_testcancel();
  }
  return NULL;
}
static struct Thread* StartThread(struct Worker* creator, uint64_t seed, uint64_t rounds, int end) {
  const size_t bytes = sizeof(struct Thread) + kStackBytes;
  struct Thread* thread = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (thread == MAP_FAILED) _exit(94);
  thread->stack = (char*)thread + ((sizeof *thread + 4095) & ~(size_t)4095);
  thread->rounds = rounds;
  thread->end = end;
  thread->seed = seed;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, thread->stack, kStackBytes - 4096);
  Begin(creator, kAlloc);
  if (pthread_create(&thread->id, &attributes, ThreadMain, thread) != 0) _exit(95);
  Done(creator, kAlloc);
  return thread;
}
static void JoinThread(struct Worker* joiner, struct Thread* thread) {
  Begin(joiner, kFree);
  if (pthread_join(thread->id, NULL) != 0) _exit(96);
  Done(joiner, kFree);
  thread->worker.account = joiner->account;  // the thread's entries are made; these are ours
  ReleaseAll(&thread->worker);
  munmap(thread, sizeof *thread + kStackBytes);
}

// ---- Ends

static void Say(const char* what, uint64_t number) {
  char text[64];
  size_t at = sizeof text;
  text[--at] = '\n';
  do {
    text[--at] = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  text[--at] = ' ';
  for (size_t i = strlen(what); i > 0; i--) text[--at] = what[i - 1];
  if (write(1, text + at, sizeof text - at) < 0) _exit(97);
}

static __attribute__((noinline)) uint64_t Overflow(struct Worker* worker, uint64_t depth) {
  volatile char frame[3000];
  frame[depth % sizeof frame] = 1;
  Release(worker, depth % kBlocks);
  Obtain(worker, depth % kBlocks);
  return Overflow(worker, depth + 1) + (uint64_t)frame[0];
}

static int End(struct Worker* worker, const char* end) {
  if (strcmp(end, "exit") == 0) exit(3);
  if (strcmp(end, "_exit") == 0) _exit(4);
  if (strcmp(end, "quick_exit") == 0) quick_exit(5);
  if (strcmp(end, "abort") == 0) abort();
  if (strcmp(end, "term") == 0) raise(SIGTERM);
  if (strcmp(end, "int") == 0) raise(SIGINT);
  if (strcmp(end, "kill") == 0) raise(SIGKILL);
  if (strcmp(end, "group") == 0) kill(0, SIGKILL);
  if (strcmp(end, "segv") == 0) *(volatile int*)8 = 1;
  if (strcmp(end, "overflow") == 0) return (int)Overflow(worker, 0);
  if (strcmp(end, "pthread_exit") == 0) pthread_exit(NULL);
  return 98;
}

static int Storm(int threads, uint64_t rounds, const char* end) {
  static struct Worker worker;
  static struct Thread* others[64];
  StartWorker(&worker, 1);
  const uint64_t others_rounds = strcmp(end, "pthread_exit") == 0 ? rounds : 0;
  for (int i = 1; i < threads; i++) {
    others[i] = StartThread(&worker, (uint64_t)i + 1, others_rounds, kReturn);
  }
  if (strcmp(end, "forever") == 0) {
    while (!atomic_load_explicit(&header->stop, memory_order_relaxed)) {
      Work(&worker, 64);
      atomic_store(&header->recorded, tidemark_is_recording != NULL && tidemark_is_recording() != 0);
    }
  } else {
    Work(&worker, rounds);
    Say("worked", worker.checksum % 1000000007);
    if (strcmp(end, "return") != 0) return End(&worker, end);
    atomic_store(&header->stop, 1);
  }
  for (int i = 1; i < threads; i++) JoinThread(&worker, others[i]);
  ReleaseAll(&worker);
  Say("threads", (uint64_t)threads);
  return 0;
}

static int Waves(int waves) {
  static struct Worker worker;
  StartWorker(&worker, 1);
  for (int wave = 0; wave < waves; wave++) {
    struct Thread* threads[kThreadEnds];
    for (int end = 0; end < kThreadEnds; end++) {
      threads[end] = StartThread(&worker, (uint64_t)(wave * kThreadEnds + end + 2), 40 + (uint64_t)(wave % 7), end);
    }
    Work(&worker, 100);
    pthread_cancel(threads[kCancelled]->id);
    for (int end = 0; end < kThreadEnds; end++) JoinThread(&worker, threads[end]);
  }
  ReleaseAll(&worker);
  Say("waves", worker.checksum % 1000000007);
  return 0;
}

// ---- Processes

static int Wait(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) != child) continue;
  return status;
}

// A forked child: its blocks are copies of its parent's, and it releases one of those.
static void Child(struct Worker* inherited, uint64_t seed, int generations) {
  struct Worker worker;
  StartWorker(&worker, seed);
  inherited->account = worker.account;
  Work(inherited, 50);
  struct Thread* other = StartThread(&worker, seed + 1000, 100, kReturn);
  Work(&worker, 100);
  if (generations > 1) {
    const pid_t child = fork();
    if (child == 0) Child(&worker, seed + 2000, generations - 1);
    Work(&worker, 100);
    if (Wait(child) != 0) _exit(99);
  }
  JoinThread(&worker, other);
  ReleaseAll(&worker);
  _exit(0);
}
static int Forks(int children) {
  enum { kAtOnce = 4 };
  static struct Worker worker;
  StartWorker(&worker, 1);
  struct Thread* other = StartThread(&worker, 2, 0, kReturn);
  pid_t pids[kAtOnce] = {0};
  int good = 0;
  for (int i = 0; i < children + kAtOnce; i++) {
    pid_t* place = &pids[i % kAtOnce];
    if (*place != 0) good += Wait(*place) == 0;
    *place = 0;
    if (i < children) *place = fork();
    if (i < children && *place == 0) Child(&worker, (uint64_t)i + 10, 2);
    Work(&worker, 50);
  }
  atomic_store(&header->stop, 1);
  JoinThread(&worker, other);
  ReleaseAll(&worker);
  Say("children", (uint64_t)good);
  return 0;
}

static void Digits(char text[12], uint32_t number) {
  char* at = text + 11;
  *at = 0;
  do {
    *--at = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  memmove(text, at, strlen(at) + 1);
}
// Each image leaves its blocks behind.
static int Chain(const char* self, uint32_t length) {
  static struct Worker worker;
  StartWorker(&worker, image + 1);
  Work(&worker, 200);
  Say("image", image);
  if (length == 0) return 0;
  char left[12], number[12];
  const pid_t child = fork();
  if (child == 0) {
    struct Worker inherited = worker;
    StartWorker(&worker, 77);
    inherited.account = worker.account;
    Work(&inherited, 20);
    Digits(number, image + 1000);
    execl(self, self, books, "chain", "0", number, NULL);
    _exit(100);
  }
  if (Wait(child) != 0) _exit(101);
  Work(&worker, 200);
  Digits(left, length - 1);
  Digits(number, image + 1);
  execl(self, self, books, "chain", left, number, NULL);
  _exit(102);
}

static int Grow(void) {
  enum { kBytes = 1 << 20 };
  static struct Worker worker;
  StartWorker(&worker, 1);
  for (;;) {
    Work(&worker, 20);
    Begin(&worker, kAlloc);
    char* block = malloc(kBytes);
    Done(&worker, kAlloc);
    if (block == NULL) return 103;
    memset(block, 1, kBytes);
  }
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  books = argv[1];
  const int fd = open(books, O_RDWR | O_CLOEXEC);
  if (fd < 0) return 3;
  header = mmap(NULL, (kMaxAccounts + 1) * sizeof(struct Account), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (header == MAP_FAILED) return 4;
  accounts = (struct Account*)(header + 1);
  const int number = argc > 3 ? atoi(argv[3]) : 0;
  if (strcmp(argv[2], "storm") == 0 && argc == 6) return Storm(number, strtoull(argv[4], NULL, 10), argv[5]);
  if (strcmp(argv[2], "waves") == 0) return Waves(number);
  if (strcmp(argv[2], "forks") == 0) return Forks(number);
  if (strcmp(argv[2], "grow") == 0) return Grow();
  if (strcmp(argv[2], "chain") == 0) {
    image = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
    return Chain(argv[0], (uint32_t)number);
  }
  return 2;
}
