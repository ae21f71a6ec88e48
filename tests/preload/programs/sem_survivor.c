// Asks for memory in every way while somebody takes it away, and prints what must not depend on that; see
// semantics_memory_test.py. A call either gives a block that is whole or null with ENOMEM, and leaves everything else
// as it was (but errno after a free in which mimalloc's own system call failed). "once": a failure is transient, and a
// second attempt has to work. "fork": the child does the same once more.
// Must not make system calls of its own but for write, fork and wait: faults are meant for the allocator.
// Exit status: 0 all was served, 3 memory ran out and was reported as it should be, 4 something was wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kBlocks = 80, kSentinel = 77, kOutOfMemory = 3, kWrong = 4 };

static struct {
  unsigned char* block;
  size_t size;
} blocks[kBlocks];
static int attempts = 1;

static void say(const char* text) {
  if (write(1, text, strlen(text)) < 0) _exit(9);
}
static void wrong(const char* what) {
  say("wrong: ");
  say(what);
  say("\n");
  _exit(kWrong);
}

static void fill(int i, size_t from) {
  for (size_t k = from; k < blocks[i].size; k += k < 5000 ? 1 : 509) blocks[i].block[k] = (unsigned char)(i + 1);
}
static void check(int i, size_t size) {
  for (size_t k = 0; k < size; k += k < 5000 ? 1 : 509) {
    if (blocks[i].block[k] != (unsigned char)(i + 1)) wrong("contents changed");
  }
}

static void* get(int way, size_t size) {
  void* block = NULL;
  switch (way) {
    case 0:
      return malloc(size);
    case 1:
      return calloc(1, size);
    case 2:
      return realloc(NULL, size);
    case 3:
      return memalign(4096, size);
    case 4:
      return aligned_alloc((size_t)2 << 20, size);
    case 5:
      if ((errno = posix_memalign(&block, 64, size)) != 0) return NULL;
      errno = kSentinel;
      return block;
    default:
      return valloc(size);
  }
}

static void allocate(int i, size_t size) {
  const int way = i % 7;
  void* block = NULL;
  for (int attempt = 0; attempt < attempts && block == NULL; attempt++) {
    errno = kSentinel;
    block = get(way, size);
    if (block == NULL && errno != ENOMEM) wrong("null, but errno is not ENOMEM");
  }
  if (block == NULL) {
    say("out of memory\n");
    _exit(kOutOfMemory);
  }
  if (malloc_usable_size(block) < size) wrong("a block is too short");
  if ((uintptr_t)block % 16 != 0) wrong("not aligned");
  for (int other = 0; other < kBlocks; other++) {
    const unsigned char* start = blocks[other].block;
    if (start != NULL && (unsigned char*)block < start + blocks[other].size &&
        start < (unsigned char*)block + (size != 0 ? size : 1))
      wrong("two blocks overlap");
  }
  blocks[i].block = block;
  blocks[i].size = size;
  if (way == 1) {
    for (size_t k = 0; k < size; k += k < 5000 ? 1 : 509) {
      if (blocks[i].block[k] != 0) wrong("calloc is not zero");
    }
  }
  fill(i, 0);
}

static void resize(int i, size_t size) {
  void* moved = NULL;
  for (int attempt = 0; attempt < attempts && moved == NULL; attempt++) {
    errno = kSentinel;
    moved = realloc(blocks[i].block, size);
    if (moved == NULL) {
      if (errno != ENOMEM) wrong("realloc failed, but errno is not ENOMEM");
      check(i, blocks[i].size);
    }
  }
  if (moved == NULL) {
    say("out of memory\n");
    _exit(kOutOfMemory);
  }
  const size_t least = blocks[i].size < size ? blocks[i].size : size;
  blocks[i].block = moved;
  blocks[i].size = size;
  check(i, least);
  fill(i, least);
}

static void release(int i) {
  check(i, blocks[i].size);
  free(blocks[i].block);
  blocks[i].block = NULL;
}

static void work(void) {
  static const size_t sizes[] = {0, 1, 40, 600, 5000, 70000, 300000, 1500000, 3000000, 5000000};
  for (int i = 0; i < kBlocks; i++) {
    const size_t size = sizes[(size_t)i * 7 % 10];
    allocate(i, size + (size_t)i);
    if (i % 3 == 2 && blocks[i - 1].block != NULL) release(i - 1);
    if (i % 5 == 4 && blocks[i - 2].block != NULL) resize(i - 2, sizes[(size_t)i * 3 % 10] + 1);
    if (size > 1000000 && blocks[i].block != NULL) release(i);
  }
  for (int i = 0; i < kBlocks; i++) {
    if (blocks[i].block != NULL) release(i);
  }
}

int main(int argc, char** argv) {
  if (errno != 0) wrong("errno at main");
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "once") == 0) attempts = 3;
  }
  work();
  say("served\n");
  if (argc > 1 && strcmp(argv[argc - 1], "fork") == 0) {
    const pid_t child = fork();
    if (child == 0) {
      work();
      say("child served\n");
      _exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) wrong("the child died");
    if (WEXITSTATUS(status) != 0) _exit(WEXITSTATUS(status));
    work();
    say("parent served\n");
  }
  return 0;
}
