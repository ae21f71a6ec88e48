// Does what the trace has to hold exactly, and prints what that was; see semantics_rows_test.py. argv[1] names the
// case. Must not allocate in any other way: no stdio.
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile size_t overflowing = SIZE_MAX / 4 + 2;

static void print_numbers(const unsigned long* numbers, int count) {
  char line[200];
  size_t length = sizeof line;
  line[--length] = '\n';
  for (int i = count; i-- > 0;) {
    unsigned long n = numbers[i];
    do line[--length] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    if (i != 0) line[--length] = ' ';
  }
  if (write(1, line + length, sizeof line - length) < 0) _exit(9);
}

static int realloc0(void) {
  for (int i = 0; i < 1000; i++) {
    void* volatile block = malloc((size_t)i * 10);
    if (realloc(block, 0) != NULL) return 3;
  }
  return 0;
}

static int failures(void) {
  void* volatile block = malloc(1000);
  void* out = NULL;
  int failed = 0;
  for (int i = 0; i < 100; i++) {
    failed += realloc(block, PTRDIFF_MAX) == NULL;
    failed += reallocarray(block, overflowing, 4) == NULL;
    failed += calloc(overflowing, 4) == NULL;
    failed += malloc(overflowing * 2) == NULL;
    failed += memalign(64, SIZE_MAX - 100) == NULL;
    failed += posix_memalign(&out, 24, 10) != 0;
    failed += posix_memalign(&out, 64, PTRDIFF_MAX) != 0;
    failed += aligned_alloc(24, 48) == NULL || 1;  // older releases of glibc give a block
    failed += pvalloc(SIZE_MAX) == NULL;
  }
  return failed == 900 ? 0 : 4;
}

static int sizes(void) {
  unsigned long blocks = 0, bytes = 0, live_blocks = 0, live_bytes = 0;
  unsigned seed = 5;
  for (int i = 0; i < 5000; i++) {
    seed = seed * 1103515245 + 12345;
    const size_t size = (seed >> 8) % (i % 100 == 0 ? 300000 : 700) + 1;
    void* volatile block = i % 3 == 0 ? malloc(size) : i % 3 == 1 ? calloc(1, size) : memalign(64, size);
    blocks++, bytes += size;
    if (i % 7 == 0)
      live_blocks++, live_bytes += size;
    else
      free(block);
  }
  const unsigned long numbers[] = {blocks, bytes, live_blocks, live_bytes};
  print_numbers(numbers, 4);
  return 0;
}

// Blocks of one size through a few shared places: what one thread frees another gets at once.
enum { kPlaces = 16 };
static void* places[kPlaces];
static int rounds;

static void* exchange(void* argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int i = 0; i < rounds; i++) {
    seed = seed * 1103515245 + 12345;
    void* block = malloc(64);
    *(unsigned*)block = seed;
    block = __atomic_exchange_n(&places[seed >> 16 & (kPlaces - 1)], block, __ATOMIC_ACQ_REL);
    free(block);
  }
  return NULL;
}

// The states of its threads (pthread_create allocates a vector of each) are got and given back by glibc's own calls,
// so they are counted by difference: one more thread costs the same number of blocks.
static int aba(int threads) {
  static pthread_t ids[64];
  for (int i = 0; i < threads; i++) {
    void* stack = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, 1 << 18);
    if (pthread_create(&ids[i], &attributes, exchange, (void*)(uintptr_t)(i + 1)) != 0) return 5;
  }
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  for (int i = 0; i < kPlaces; i++) free(places[i]);
  // One block a thread for its vector of thread-local storage, freed by the join.
  const unsigned long blocks = (unsigned long)threads * (unsigned long)rounds + (unsigned long)threads;
  print_numbers(&blocks, 1);
  return 0;
}

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "";
  if (strcmp(name, "realloc0") == 0) return realloc0();
  if (strcmp(name, "failures") == 0) return failures();
  if (strcmp(name, "sizes") == 0) return sizes();
  if (strcmp(name, "aba") == 0 && argc > 3) {
    rounds = atoi(argv[3]);
    return aba(atoi(argv[2]));
  }
  return 2;
}
