// COUNT threads that live at one time on stacks of STACK bytes, each with one block of 100 bytes and some that it has
// given back. Prints what memory the process has then: "rss KIB virtual KIB". See threads_test.py.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_barrier_t all_there, may_leave;

static void* work(void* argument) {
  char* block = malloc(100);
  memset(block, 1, 100);
  for (size_t i = 0; i < 20; i++) {
    void* volatile other = malloc(10 + 20 * i);
    free(other);
  }
  pthread_barrier_wait(&all_there);
  pthread_barrier_wait(&may_leave);
  free(block);
  return argument;
}

static long status(const char* name) {
  char line[200];
  long value = -1;
  FILE* file = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, name, strlen(name)) == 0) value = atol(line + strlen(name));
  }
  fclose(file);
  return value;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int count = atoi(argv[1]);
  pthread_t* threads = calloc((size_t)count, sizeof(*threads));
  pthread_barrier_init(&all_there, NULL, (unsigned)count + 1);
  pthread_barrier_init(&may_leave, NULL, (unsigned)count + 1);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (pthread_attr_setstacksize(&attributes, (size_t)atol(argv[2])) != 0) return 3;
  for (int i = 0; i < count; i++) {
    if (pthread_create(&threads[i], &attributes, work, NULL) != 0) {
      fprintf(stderr, "thread %d could not be created\n", i);
      return 77;
    }
  }
  pthread_barrier_wait(&all_there);
  printf("rss %ld virtual %ld\n", status("VmRSS:"), status("VmSize:"));
  pthread_barrier_wait(&may_leave);
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  free(threads);
  return 0;
}
