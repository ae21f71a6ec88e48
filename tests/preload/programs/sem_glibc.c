// What glibc's own tests of malloc are about, written anew from its manual, the C standard and POSIX; see
// semantics_glibc_test.py. Each case has the name that glibc's has, and prints it when all was right.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <obstack.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void wrong(int line) {
  printf("wrong in line %d, errno %d\n", line, errno);
  exit(1);
}
#define CHECK(condition) \
  if (!(condition)) wrong(__LINE__)

static volatile size_t most = PTRDIFF_MAX;

static void malloc_case(void) {
  errno = 0;
  CHECK(malloc((size_t)-1) == NULL && errno == ENOMEM);
  void* p = malloc(10);
  CHECK(p != NULL);
  CHECK(realloc(p, (size_t)-1) == NULL && errno == ENOMEM);  // the block is untouched
  CHECK((p = realloc(p, 20)) != NULL);
  CHECK(realloc(p, 0) == NULL);
  CHECK((p = realloc(NULL, 10)) != NULL);
  CHECK(realloc(p, 0) == NULL);
  CHECK((p = malloc(0)) != NULL);
  CHECK(realloc(p, 0) == NULL);
  free(NULL);
}

static void calloc_case(void) {
  enum { kBlocks = 1024, kLargest = 16384 };
  static char* blocks[kBlocks];
  unsigned seed = 3;
  for (int i = 0; i < 20000; i++) {
    seed = seed * 1103515245 + 12345;
    char** place = &blocks[seed >> 16 & (kBlocks - 1)];
    if (*place != NULL) {
      free(*place);
      *place = NULL;
      continue;
    }
    const size_t size = (seed >> 4) % kLargest + 1, count = seed % 7 + 1;
    if (seed % 3 == 0) {
      memset(*place = malloc(size), 0xa5, size);
    } else {
      *place = calloc(count, (size + count - 1) / count);
      for (size_t k = 0; k < size; k++) CHECK((*place)[k] == 0);
      memset(*place, 0x5a, size);
    }
  }
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  CHECK(calloc(most, 3) == NULL && errno == ENOMEM);
}

static void realloc_case(void) {
  unsigned char* p = realloc(NULL, 10);
  CHECK(p != NULL);
  free(p);
  p = calloc(20, 1);  // grows: what is new may be anything, what was is kept
  memset(p, 0xff, 20);
  p = realloc(p, 200);
  for (int i = 0; i < 20; i++) CHECK(p[i] == 0xff);
  p = realloc(p, 16);
  for (int i = 0; i < 16; i++) CHECK(p[i] == 0xff);
  errno = 0;
  CHECK(realloc(p, 0) == NULL && errno == 0);
  p = malloc(1000);
  memset(p, 0x11, 1000);
  for (size_t size = 1000; size > 1; size -= size / 5 + 1) CHECK((p = realloc(p, size)) != NULL && p[size - 1] == 0x11);
  free(p);
}

static void reallocarray_case(void) {
  const size_t half = (size_t)1 << (sizeof(size_t) * 8 / 2);
  errno = 0;
  CHECK(reallocarray(NULL, half, half) == NULL && errno == ENOMEM);
  void* p = reallocarray(NULL, 10, 2);
  CHECK(p != NULL && malloc_usable_size(p) >= 20);
  memset(p, 0xc7, 20);
  errno = 0;
  CHECK(reallocarray(p, half, half) == NULL && errno == ENOMEM);
  CHECK(reallocarray(p, (size_t)-1 / 3 * 2, 3) == NULL && errno == ENOMEM);
  for (int i = 0; i < 20; i++) CHECK(((unsigned char*)p)[i] == 0xc7);
  p = reallocarray(p, 30, 40);
  for (int i = 0; i < 20; i++) CHECK(((unsigned char*)p)[i] == 0xc7);
  free(p);
}

static void memalign_case(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  errno = 0;
  CHECK(memalign(sizeof(void*), (size_t)-1) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(memalign(page, (size_t)-page) == NULL && errno == ENOMEM);
  void* p = memalign(sizeof(void*), 0);
  CHECK(p != NULL);
  free(p);
  errno = 0;
  CHECK(memalign((size_t)-1, 10) == NULL && errno == EINVAL);
  CHECK((p = memalign(SIZE_MAX / 2 + 1, 10)) == NULL);
  CHECK((p = memalign(3, 10)) != NULL && (uintptr_t)p % 4 == 0);
  free(p);
  void* blocks[200];
  for (int i = 0; i < 200; i++)
    CHECK((uintptr_t)(blocks[i] = memalign((size_t)1 << i % 16, (size_t)i * 9)) % (1u << i % 16) == 0);
  for (int i = 0; i < 200; i += 2) free(blocks[i]);
  for (int i = 0; i < 200; i += 2)
    CHECK((uintptr_t)(blocks[i] = memalign((size_t)1 << i % 13, 333)) % (1u << i % 13) == 0);
  for (int i = 0; i < 200; i++) free(blocks[i]);
}

static void posix_memalign_case(void) {
  void* p = NULL;
  CHECK(posix_memalign(&p, sizeof(void*), (size_t)-1) == ENOMEM);
  CHECK(posix_memalign(&p, sizeof(void*), 0) == 0);
  free(p);
  CHECK(posix_memalign(&p, 0x300, 10) == EINVAL);
  CHECK(posix_memalign(&p, 0, 10) == EINVAL);
  CHECK(posix_memalign(&p, 2, 10) == EINVAL);
  for (size_t alignment = sizeof(void*); alignment < 1 << 22; alignment *= 2) {
    CHECK(posix_memalign(&p, alignment, 100) == 0 && (uintptr_t)p % alignment == 0);
    free(p);
  }
}

static void valloc_case(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  errno = 0;
  CHECK(valloc((size_t)-1) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(valloc((size_t)-page) == NULL && errno == ENOMEM);
  for (size_t size = 0; size < 5 * page; size += 511) {
    void* p = valloc(size);
    CHECK(p != NULL && (uintptr_t)p % page == 0 && malloc_usable_size(p) >= size);
    free(p);
  }
}

static void pvalloc_case(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  errno = 0;
  CHECK(pvalloc((size_t)-1) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(pvalloc((size_t)-page) == NULL && errno == ENOMEM);
  for (size_t size = 0; size < 5 * page; size += 511) {
    void* p = pvalloc(size);
    CHECK(p != NULL && (uintptr_t)p % page == 0 && malloc_usable_size(p) >= (size + page - 1) / page * page);
    memset(p, 1, (size + page - 1) / page * page);
    free(p);
  }
}

static void malloc_usable_case(void) {
  for (size_t size = 1; size < 100000; size = size * 4 / 3 + 1) {
    char* p = malloc(size);
    const size_t usable = malloc_usable_size(p);
    CHECK(usable >= size);
    memset(p, 0, usable);
    free(p);
    p = memalign(0x100, size);
    CHECK(malloc_usable_size(p) >= size);
    free(p);
    p = malloc(size);
    for (size_t smaller = size; smaller > 0; smaller /= 2)
      CHECK(malloc_usable_size(p = realloc(p, smaller)) >= smaller);
    free(p);
  }
  CHECK(malloc_usable_size(NULL) == 0);
}

// Each function, each size beyond PTRDIFF_MAX, and a block that is not lost by it.
static void too_large_case(void) {
  for (int i = 0; i < 300; i++) {
    const size_t size = i < 100   ? SIZE_MAX - (size_t)i
                        : i < 200 ? most + (size_t)(i - 99)
                                  : SIZE_MAX - 16384 * (size_t)(i - 199);
    void* block = malloc(16);
    CHECK(block != NULL);
#define FAILS(call) \
  errno = 0;        \
  CHECK((call) == NULL && errno == ENOMEM)
    FAILS(malloc(size));
    FAILS(realloc(block, size));
    FAILS(calloc(1, size));
    FAILS(calloc(size, 1));
    FAILS(calloc(size / 5 + 1, 6));
    FAILS(reallocarray(block, size, 1));
    FAILS(reallocarray(block, size / 5 + 1, 6));
    FAILS(memalign(64, size));
    FAILS(aligned_alloc(64, size));
    FAILS(valloc(size));
    FAILS(pvalloc(size));
    void* out = NULL;
    CHECK(posix_memalign(&out, 64, size) == ENOMEM && out == NULL);
    free(block);
  }
}

static void* leave_blocks(void* argument) {
  void** blocks = argument;
  for (int i = 0; i < 100; i++) memset(blocks[i] = malloc((size_t)i * 30 + 1), i, (size_t)i * 30 + 1);
  void* own[50];
  for (int i = 0; i < 50; i++) own[i] = calloc(10, (size_t)i + 1);
  for (int i = 0; i < 50; i++) free(own[i]);
  return NULL;
}
// Blocks outlive the threads that allocated them, however many those were.
static void thread_exit_case(void) {
  static void* blocks[64][100];
  for (int round = 0; round < 4; round++) {
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) CHECK(pthread_create(&threads[i], NULL, leave_blocks, blocks[round * 16 + i]) == 0);
    for (int i = 0; i < 16; i++) pthread_join(threads[i], NULL);
  }
  for (int i = 0; i < 64; i++) {
    for (int k = 0; k < 100; k++) {
      CHECK(((unsigned char*)blocks[i][k])[k * 30] == k);
      free(blocks[i][k]);
    }
  }
}

static volatile sig_atomic_t forked = 0;
static void fork_there(int number) {
  (void)number;
  const int saved = errno;
  const pid_t child = fork();
  if (child == 0) _exit(23);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 23) _exit(24);
  forked++;
  errno = saved;
}
// fork in a handler of a thread that allocates nothing, and a child that allocates after fork in the ordinary way.
static void mallocfork_case(void) {
  signal(SIGUSR1, fork_there);
  void* kept[20];
  for (int i = 0; i < 20; i++) {
    kept[i] = malloc((size_t)i * 100 + 1);
    raise(SIGUSR1);
  }
  for (int i = 0; i < 20; i++) free(kept[i]);
  CHECK(forked == 20);
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 1000; i++) free(malloc((size_t)i * 10));
    _exit(5);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
}

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free
static void obstack_case(void) {
  struct obstack stack;
  obstack_init(&stack);
  char* first = obstack_alloc(&stack, 1);
  char* names[500];
  for (int i = 0; i < 500; i++) {
    names[i] = obstack_alloc(&stack, i * 7 + 1);
    memset(names[i], i, (size_t)i * 7 + 1);
    CHECK((uintptr_t)names[i] % _Alignof(max_align_t) == 0);
  }
  for (int i = 0; i < 500; i++) CHECK(names[i][i * 7] == (char)i);
  for (int i = 0; i < 5000; i++) obstack_1grow(&stack, 'x');
  char* grown = obstack_finish(&stack);
  CHECK(grown[4999] == 'x');
  obstack_free(&stack, first);
  obstack_free(&stack, NULL);
}

// The hooks of before glibc 2.34 are gone: a program that defines variables of their names is not called.
static void* never(size_t size, const void* caller) {
  (void)size, (void)caller;
  abort();
}
void* (*__malloc_hook)(size_t, const void*) = never;
static void hooks_case(void) {
  void* block = malloc(100);
  CHECK(block != NULL);
  free(block);
  CHECK(__malloc_hook == never);
}

static const struct {
  const char* name;
  void (*run)(void);
} cases[] = {{"tst-malloc", malloc_case},
             {"tst-calloc", calloc_case},
             {"tst-realloc", realloc_case},
             {"tst-reallocarray", reallocarray_case},
             {"tst-memalign", memalign_case},
             {"tst-posix_memalign", posix_memalign_case},
             {"tst-valloc", valloc_case},
             {"tst-pvalloc", pvalloc_case},
             {"tst-malloc-usable", malloc_usable_case},
             {"tst-malloc-too-large", too_large_case},
             {"tst-malloc-thread-exit", thread_exit_case},
             {"tst-mallocfork", mallocfork_case},
             {"tst-obstack", obstack_case},
             {"no malloc hooks", hooks_case}};

int main(void) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    errno = 0;
    cases[i].run();
    printf("%s\n", cases[i].name);
  }
  return 0;
}
