// A malloc of its own beside libc's functions that allocate: their blocks end at this free, which knows a stranger; see
// foreign_test.py. IN_LIBRARY: a library linked with -Bsymbolic, whose malloc is for itself alone.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Alignas(16) char arena[16 << 20];
static size_t used;

void* malloc(size_t size) {
  const size_t start = (__atomic_fetch_add(&used, (size + 47) & ~(size_t)15, __ATOMIC_RELAXED) + 31) & ~(size_t)15;
  if (start + size > sizeof arena) return NULL;
  memcpy(arena + start - 8, &size, 8);
  return arena + start;
}
void free(void* block) {
  if (block != NULL && ((char*)block < arena || (char*)block >= arena + sizeof arena)) {
    static const char text[] = "a stranger came to free\n";
    if (write(1, text, sizeof text - 1) < 0) _exit(9);
    _exit(4);
  }
}
void* calloc(size_t count, size_t size) {
  void* block = malloc(count * size);  // never reused: still zero
  return block;
}
void* realloc(void* block, size_t size) {
  void* moved = malloc(size);
  size_t old = 0;
  if (block != NULL) memcpy(&old, (char*)block - 8, 8);
  if (moved != NULL && block != NULL) memcpy(moved, block, old < size ? old : size);
  return moved;
}

int own_trade(void) {
  int good = 0;
  for (int i = 0; i < 100; i++) {
    char* volatile block = malloc(100);
    memset(block, 1, 100);
    block = realloc(block, 1000);
    good += block[99] == 1 && block > arena && block < arena + sizeof arena;
    free(block);
  }
  return good;
}

#ifndef IN_LIBRARY
int main(void) {
  char* text = NULL;
  if (asprintf(&text, "%d and %s", 7, "more") < 0) return 1;
  free(strdup(text));
  free(strndup(text, 3));
  free(text);
  free(realpath("/usr/../usr", NULL));
  char* line = NULL;
  size_t capacity = 0;
  FILE* file = fopen("/proc/self/status", "r");
  while (getline(&line, &capacity, file) > 0) continue;
  fclose(file);
  free(line);
  free(getcwd(NULL, 0));
  printf("own malloc served %d\n", own_trade());
  return 0;
}
#endif
