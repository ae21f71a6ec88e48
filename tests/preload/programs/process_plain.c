// A program like any other, to be built in ways that do not go with a preloaded malloc: static, for musl, with
// sanitizers. Allocates in two threads and a child, prints, exits with status 3. See process_binaries_test.py.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void* churn(void* argument) {
  char* blocks[64] = {0};
  for (size_t i = 0; i < 5000; i++) {
    free(blocks[i % 64]);
    blocks[i % 64] = realloc(calloc(1, 1 + i % 500), 1 + i % 700);
    memset(blocks[i % 64], (int)i, 1 + i % 700);
  }
  for (size_t i = 0; i < 64; i++) free(blocks[i]);
  void* aligned = NULL;
  if (posix_memalign(&aligned, 4096, 100) == 0) free(aligned);
  return argument;
}

int main(int argc, char** argv) {
  churn(NULL);
  pthread_t thread;
  pthread_create(&thread, NULL, churn, NULL);
  pthread_join(thread, NULL);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    churn(NULL);
    _exit(5);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("%s: child %d\n", argc > 1 ? argv[1] : "", WEXITSTATUS(status));
  return 3;
}
