// Takes blocks of 1 MiB, then of 1 KiB, until there are no more, and prints how many bytes it got; see
// semantics_memory_test.py. Gives all back and takes half as many once more.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct Block {
  struct Block* next;
};

static size_t take(struct Block** all, size_t size, size_t most) {
  size_t got = 0;
  while (got < most) {
    errno = 0;
    struct Block* block = malloc(size);
    if (block == NULL) {
      if (errno != ENOMEM) exit(4);
      break;
    }
    block->next = *all;
    *all = block;
    got += size;
  }
  return got;
}

static void give(struct Block* all) {
  while (all != NULL) {
    struct Block* next = all->next;
    free(all);
    all = next;
  }
}

int main(void) {
  struct Block* all = NULL;
  static char buffer[1000];
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);  // stdio's own could not be had any more
  size_t got = take(&all, 1 << 20, (size_t)-1);
  got += take(&all, 1 << 10, (size_t)-1);
  give(all);
  all = NULL;
  if (take(&all, 1 << 20, got / 2) < got / 2) return 5;
  give(all);
  printf("%zu\n", got);
  return 0;
}
