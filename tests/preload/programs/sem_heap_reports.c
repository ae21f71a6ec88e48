// Do mallinfo, mallinfo2, malloc_info, malloc_stats and malloc_trim tell of the heap that serves? Each number is
// compared with what the program itself has allocated, so that the answers are the same lines for every allocator that
// tells the truth; see semantics_bootstrap_test.py.
//
// With -DLIBRARY: a malloc of somebody else's, for a preload that comes first; it hands on to glibc.
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef LIBRARY

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void __libc_free(void*);
void* malloc(size_t size) { return __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return __libc_calloc(count, size); }
void* realloc(void* block, size_t size) { return __libc_realloc(block, size); }
void free(void* block) { __libc_free(block); }

#else

enum { kBlocks = 2000, kBytes = 1000, kAll = kBlocks * kBytes };
static char* blocks[kBlocks];

static void Allocate(void) {
  for (int i = 0; i < kBlocks; i++) memset(blocks[i] = malloc(kBytes), 1, kBytes);
}
static void Release(void) {
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
}
static size_t Used(void) {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}
static size_t UsedInt(void) {
  const struct mallinfo info = mallinfo();
  return (size_t)info.uordblks + (size_t)info.hblkhd;
}
// More by what was allocated, and by a quarter of it at most.
static int Grew(size_t before, size_t now, size_t by) { return now >= before + by && now <= before + by + by / 4; }

// What malloc_info says is in use: all that the system gave, less the free parts. The last of each counts, the total.
static size_t UsedByInfo(void) {
  static char text[100000];
  FILE* stream = fmemopen(text, sizeof text, "w");
  if (malloc_info(0, stream) != 0) return 0;
  fclose(stream);
  size_t free_bytes = 0, system = 0, mapped = 0;
  for (char* line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    size_t size;
    if (strncmp(line, "</heap>", 7) == 0) free_bytes = 0;
    if (sscanf(line, "<total type=\"fast\" count=\"%*u\" size=\"%zu\"/>", &size) == 1) free_bytes += size;
    if (sscanf(line, "<total type=\"rest\" count=\"%*u\" size=\"%zu\"/>", &size) == 1) free_bytes += size;
    if (sscanf(line, "<total type=\"mmap\" count=\"%*u\" size=\"%zu\"/>", &size) == 1) mapped = size;
    if (sscanf(line, "<system type=\"current\" size=\"%zu\"/>", &size) == 1) system = size;
  }
  return system + mapped - free_bytes;
}

// The last "in use bytes" of malloc_stats.
static size_t UsedByStats(void) {
  static char text[10000];
  int ends[2];
  if (pipe(ends) != 0) return 0;
  const int kept = dup(2);
  dup2(ends[1], 2);
  malloc_stats();
  dup2(kept, 2);
  close(kept);
  close(ends[1]);
  const ssize_t length = read(ends[0], text, sizeof text - 1);
  close(ends[0]);
  if (length <= 0) return 0;
  size_t used = 0;
  for (char* line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
    sscanf(line, "in use bytes = %zu", &used);
  return used;
}

static pthread_barrier_t barrier;
static void* Other(void* unused) {
  Allocate();
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  Release();
  return NULL;
}

int main(int count, char** arguments) {
  setvbuf(stdout, NULL, _IOLBF, 4096);
  size_t before = Used(), before_int = UsedInt();
  Allocate();
  const size_t now = Used(), now_int = UsedInt();
  printf("small blocks are seen by mallinfo2 %d mallinfo %d\n", Grew(before, now, kAll),
         Grew(before_int, now_int, kAll));
  Release();
  printf("and when they are gone %d %d\n", Used() < before + kAll / 4, UsedInt() < before_int + kAll / 4);
  if (count > 1) return 0;

  const size_t info_before = UsedByInfo(), stats_before = UsedByStats();
  Allocate();
  const size_t info_now = UsedByInfo(), stats_now = UsedByStats();
  fprintf(stderr, "info %zu %zu stats %zu %zu\n", info_before, info_now, stats_before, stats_now);
  printf("malloc_info tells of them %d, malloc_stats %d\n", Grew(info_before, info_now, kAll),
         Grew(stats_before, stats_now, kAll));
  Release();

  enum { kLarge = 20 << 20 };
  before = Used();
  char* large = malloc(kLarge);
  memset(large, 1, kLarge);
  const size_t with = Used();
  printf("a block of 20 MB %d\n", Grew(before, with, kLarge));

  before = Used();
  pthread_t other;
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_create(&other, NULL, Other, NULL);
  pthread_barrier_wait(&barrier);
  printf("another thread's blocks %d\n", Used() >= before + kAll);
  pthread_barrier_wait(&barrier);
  pthread_join(other, NULL);

  before = Used();
  free(large);
  printf("and when it is gone %d\n", Used() < before - kLarge / 2);
  const struct mallinfo2 info = mallinfo2();
  printf("what is in use and what is not make the whole %d\n", info.uordblks + info.fordblks == info.arena);

  errno = 77;
  mallinfo2();
  mallinfo();
  malloc_stats();
  malloc_trim(0);
  printf("errno is left alone %d\n", errno == 77);

  // Many blocks with one that stays among them: all but the last page is unused, but nothing goes by itself.
  enum { kMany = 5000 };
  static char* many[kMany];
  for (int i = 0; i < kMany; i++) memset(many[i] = malloc(1000), 1, 1000);
  for (int i = 0; i < kMany - 1; i++) free(many[i]);
  const size_t held = mallinfo2().arena + mallinfo2().hblkhd;
  malloc_trim(0);
  printf("malloc_trim gives memory back %d\n", mallinfo2().arena + mallinfo2().hblkhd <= held);
  free(many[kMany - 1]);
  return 0;
}

#endif
