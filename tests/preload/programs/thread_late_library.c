// A library whose constructor takes a block and whose destructor, which runs after the program's own, gives it back and
// takes others; see threads_test.py. Writes without stdio: that may have been torn down.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char* kept;

__attribute__((constructor)) static void begin(void) {
  kept = malloc(3000);
  memset(kept, 5, 3000);
}

static void say(const char* text) {
  if (write(1, text, strlen(text)) < 0) _exit(1);
}

__attribute__((destructor)) static void end(void) {
  int wrong = 0;
  for (int i = 0; i < 3000; i++) wrong += kept[i] != 5;
  free(kept);
  for (size_t i = 0; i < 1000; i++) {
    char* volatile block = realloc(calloc(1, i), i * 3 + 1);
    free(block);
  }
  say(wrong ? "late: contents lost\n" : "late: well\n");
}

void* late_library_take(size_t size) { return malloc(size); }
