// Has a thread and a mark with names that mean something to terminals and browsers; artefacts_test.py renames its
// function and its folder as well.
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "profiler/include/tidemark.h"

__attribute__((noinline)) void* hostile_function(size_t size) {
  void* volatile block = malloc(size);
  return block;
}

static void* work(void* argument) {
  prctl(PR_SET_NAME, "\033]0;x\007<b>&\xff\xc2\x9b\n");
  TIDEMARK_MARK("\033[31m</text><script>alert(1)</script>\xff\xc2\x9b\r\n");
  for (size_t i = 0; i < 1000; i++) free(hostile_function(i));
  return argument;
}

int main(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, work, NULL);
  pthread_join(thread, NULL);
  return hostile_function(10000) == NULL;
}
