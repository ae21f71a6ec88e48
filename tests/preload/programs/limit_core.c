// Holds 20 MB and aborts: how large is its core? See limits_test.py. argv[1]: how many threads look on.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void* look_on(void* argument) {
  void* volatile block = malloc(100);
  (void)block;
  for (;;) pause();
  return argument;
}

int main(int argc, char** argv) {
  const int count = argc > 1 ? atoi(argv[1]) : 0;
  for (int i = 0; i < count; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, look_on, NULL);
  }
  for (int i = 0; i < 20000; i++) {
    char* volatile block = malloc(1000);
    memset(block, i, 1000);
  }
  abort();
}
