/* Asks for leaks itself, and prints what it is told: after each step the blocks and bytes that are definitely and
 * indirectly lost. Compiled with -O0, so that what is in a variable is in memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tidemark.h"

#define OUT_OF_LINE __attribute__((noinline, noclone))

static volatile int ended;

static void **block(size_t size) {
  void **made = malloc(size);
  memset(made, 0, size);
  return made;
}

OUT_OF_LINE static void lose(void) {
  void **head = block(1001);
  head[1] = block(1002);
}

OUT_OF_LINE static void lose_by_design(void) {
  void **head = block(1101);
  head[1] = block(1102);
  printf("ignored %d\n", TIDEMARK_IGNORE_LEAK(head));
}

/* A pointer that only lies where nobody looks: in a shared file that is mapped for reading. */
OUT_OF_LINE static void **hide(void) {
  int file = memfd_create("hidden", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, 4096) != 0) exit(9);
  void **writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  writable[100] = block(1201);
  munmap(writable, 4096);
  void **readable = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  return readable;
}

OUT_OF_LINE static void look(const char *step) {
  struct tidemark_leak_counts counts;
  memset(&counts, 77, sizeof counts);
  errno = 5;
  int done = TIDEMARK_LEAK_CHECK(&counts);
  if (errno != 5) exit(8);
  if (!done) memset(&counts, 0, sizeof counts);
  printf("%s: %d, %lu blocks %lu bytes, %lu blocks %lu bytes\n", step, done, counts.definite_blocks,
         counts.definite_bytes, counts.indirect_blocks, counts.indirect_bytes);
}

static void *spin(void *unused) {
  while (!ended) free(block(100));
  return unused;
}

int main(void) {
  static char room[4096];
  setvbuf(stdout, room, _IOFBF, sizeof room);
  pthread_t thread;
  pthread_create(&thread, NULL, spin, NULL);
  look("start");
  lose();
  look("lost");
  lose_by_design();
  look("by design");
  void **hidden = hide();
  look("hidden");
  printf("registered %d\n", TIDEMARK_REGISTER_ROOT(hidden, 4096));
  look("registered");
  int once = TIDEMARK_UNREGISTER_ROOT(hidden, 4096), twice = TIDEMARK_UNREGISTER_ROOT(hidden, 4096);
  printf("unregistered %d %d\n", once, twice);
  look("unregistered");
  printf("nonsense %d %d %d\n", TIDEMARK_IGNORE_LEAK(NULL), TIDEMARK_REGISTER_ROOT(NULL, 8),
         TIDEMARK_REGISTER_ROOT(hidden, 0));
  ended = 1;
  pthread_join(thread, NULL);
  return 0;
}
