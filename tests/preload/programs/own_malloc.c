// An executable that exports a malloc of its own (as rustc and emacs do): a bump allocator that tells strangers apart.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char arena[8 << 20];
static size_t used;

void* malloc(size_t size) {
  const size_t start = (used + 31) & ~(size_t)15;
  if (size > sizeof(arena) - start) return NULL;
  memcpy(arena + start - 8, &size, 8);
  used = start + size;
  return arena + start;
}
void free(void* block) {
  if (block != NULL && ((char*)block < arena || (char*)block >= arena + sizeof(arena))) abort();
}
void* calloc(size_t count, size_t size) { return malloc(count * size); }
void* realloc(void* block, size_t size) {
  void* moved = malloc(size);
  size_t old = 0;
  if (block != NULL) memcpy(&old, (char*)block - 8, 8);
  if (moved != NULL && block != NULL) memcpy(moved, block, old < size ? old : size);
  return moved;
}

int main(void) {
  char* a = malloc(100);
  a = realloc(a, 1000);
  free(a);
  puts("own malloc works");
  return 0;
}
