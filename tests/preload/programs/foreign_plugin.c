// A library that trades blocks with its user; see foreign_churn.c.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void* plugin_take(size_t size) { return malloc(size); }
void plugin_give(void* block) { free(block); }
void* plugin_resize(void* block, size_t size) { return realloc(block, size); }
size_t plugin_usable(void* block) { return malloc_usable_size(block); }

// Blocks that begin and end here. Returns how many were right.
int plugin_inside(int count) {
  int good = 0;
  for (int i = 0; i < count; i++) {
    char* volatile block = calloc(1, (size_t)i + 1);
    block = realloc(block, (size_t)i * 3 + 10);
    good += block[i] == 0;
    free(block);
    block = strdup("a string");
    good -= block[0] != 'a';
    free(block);
  }
  return good;
}
