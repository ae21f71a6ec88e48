/* Programs whose heap lives as a formula says: what reclaim_test.py holds the statistics to.
 * Nothing but the blocks in question is allocated, sizes and orders are fixed. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { kBlock = 1024, kBlocks = 65536 };
static void* slots[kBlocks];

/* Every block is released when exactly 128 more have been allocated: 128 KiB old. Also a bounded cache. */
static void FixedLives(void) {
  for (int i = 0; i < kBlocks; i++) {
    slots[i] = malloc(kBlock);
    if (i >= 128) free(slots[i - 128]);
  }
}

/* Every eighth block is never released, the others at once. */
static void LinearLeak(void) {
  for (int i = 0; i < kBlocks; i++) {
    void* block = malloc(kBlock);
    if (i % 8 != 0) free(block);
  }
}

/* 2 MiB are filled and released, 32 times. */
static void Sawtooth(void) {
  for (int tooth = 0; tooth < 32; tooth++) {
    for (int i = 0; i < 2048; i++) slots[i] = malloc(kBlock);
    for (int i = 0; i < 2048; i++) free(slots[i]);
  }
}

/* Three of four blocks die at once; the fourth when 8 MiB more have been allocated. */
static void Generations(void) {
  const int old = 8192;
  for (int i = 0; i < kBlocks; i++) {
    if (i >= old && i % 4 == 0) free(slots[i - old]);
    slots[i] = malloc(kBlock);
    if (i % 4 != 0) free(slots[i]);
  }
}

/* 64 blocks grow from 16 bytes to 64 KiB, each step twice as large. */
static void Growth(void) {
  for (int i = 0; i < 64; i++) {
    void* block = malloc(16);
    for (size_t size = 32; size <= 65536; size *= 2) block = realloc(block, size);
    free(block);
  }
}

static pthread_barrier_t ready;
static void* Consume(void* unused) {
  (void)unused;
  pthread_barrier_wait(&ready);
  for (int i = 0; i < kBlocks; i++) free(slots[i]);
  return NULL;
}
/* One thread allocates, the other one releases. */
static void HandOff(void) {
  pthread_t consumer;
  pthread_barrier_init(&ready, NULL, 2);
  pthread_create(&consumer, NULL, Consume, NULL);
  for (int i = 0; i < kBlocks; i++) slots[i] = malloc(kBlock);
  pthread_barrier_wait(&ready);
  pthread_join(consumer, NULL);
}

/* Sizes of every kind: prints what the heap says they take. */
static void Rounding(void) {
  unsigned long long requested = 0, usable = 0;
  extern size_t malloc_usable_size(void*);
  for (size_t size = 1; size < 6u << 20; size += 1 + size / 37) {
    void* block = malloc(size);
    requested += size;
    usable += malloc_usable_size(block);
  }
  printf("%llu %llu\n", requested, usable);
  fflush(stdout);
}

/* 4 MiB in blocks of 256 bytes; of each 4 KiB one stays. Then 200 ms in which nothing happens. */
static void Pinning(void) {
  for (int i = 0; i < 16384; i++) slots[i] = malloc(256);
  for (int i = 0; i < 16384; i++) {
    if (i % 16 != 0) free(slots[i]);
  }
  const struct timespec pause = {0, 200000000};
  nanosleep(&pause, NULL);
}

/* 8 MiB are allocated; then the file gets the pid, and a signal has to end this. (A file descriptor, no FILE: that
 * would allocate.) A block now and then lets the recording see that time goes on. */
static void Wait(const char* path) {
  for (int i = 0; i < 8192; i++) slots[i] = malloc(kBlock);
  char text[16];
  const int length = snprintf(text, sizeof text, "%d\n", getpid());
  const int fd = open(path, O_CREAT | O_WRONLY, 0600);
  if (fd < 0 || write(fd, text, (size_t)length) != length) exit(1);
  close(fd);
  for (;;) {
    const struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
    for (int i = 0; i < 4096; i++) free(malloc(16));
  }
}

int main(int argc, char** argv) {
  static char buffer[BUFSIZ];
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  const struct {
    const char* name;
    void (*run)(void);
  } ways[] = {{"fixed", FixedLives}, {"leak", LinearLeak}, {"sawtooth", Sawtooth}, {"generations", Generations},
              {"growth", Growth},    {"handoff", HandOff}, {"rounding", Rounding}, {"pinning", Pinning}};
  if (argc == 3 && strcmp(argv[1], "wait") == 0) Wait(argv[2]);
  for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
    if (argc == 2 && strcmp(argv[1], ways[i].name) == 0) {
      ways[i].run();
      return 0;
    }
  }
  return 2;
}
