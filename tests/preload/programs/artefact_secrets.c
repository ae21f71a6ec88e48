// Keeps secrets wherever a process has memory, and allocates in the middle of them; see artefacts_test.py. They come
// from the environment and from standard input, so that a command line does not show them.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kLength = 64, kDepth = 40 };
static char static_copy[kLength];
static char* blocks[1000];

static int compare(const void* a, const void* b) {
  char* volatile copy = strdup(static_copy);  // in the middle of libc's frames
  const int result = memcmp(a, b, kLength) + (copy[0] == 0);
  free(copy);
  return result;
}

// Its frames are full of the secret, also where a frame pointer and a return address could be.
static __attribute__((noinline)) void* descend(int depth) {
  char copies[16 * kLength];
  for (int i = 0; i < 16; i++) memcpy(copies + i * kLength, static_copy, kLength);
  void* result = depth == 0 ? malloc(100) : descend(depth - 1);
  char* volatile grown = malloc(kLength);
  memcpy(grown, copies + depth % 16 * kLength, kLength);
  grown = realloc(grown, 100 * kLength);
  free(grown);
  return result;
}

static void* work(void* argument) {
  char copies[8 * kLength];
  for (int i = 0; i < 8; i++) memcpy(copies + i * kLength, static_copy, kLength);
  qsort(copies, 8, kLength, compare);
  free(descend(kDepth));
  return argument;
}

int main(void) {
  if (getenv("ARTEFACT_SECRET") == NULL || fgets(static_copy, sizeof static_copy, stdin) == NULL) return 1;
  static_copy[strcspn(static_copy, "\n")] = 0;
  for (int i = 0; i < 1000; i++) {
    blocks[i] = i % 2 == 0 ? strdup(static_copy) : strdup(getenv("ARTEFACT_SECRET"));
    if (i % 3 == 0) blocks[i] = realloc(blocks[i], (size_t)i + kLength);
  }
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, NULL);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  work(NULL);
  for (int i = 0; i < 900; i++) free(blocks[i]);
  puts("done");
  return 0;
}
