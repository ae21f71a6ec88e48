// Takes a block from a library whose destructor still allocates after this program's own; see threads_test.py.
#include <stdlib.h>

void* late_library_take(size_t size);

static void* given;
__attribute__((destructor)) static void end(void) { free(given); }

int main(void) {
  given = late_library_take(100);
  return given == NULL;
}
