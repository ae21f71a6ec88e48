// THREADS threads that all live at one time, each with EVENTS pairs of malloc and free: waits until the last has begun.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_barrier_t all_there;
static long events;

static void* work(void* unused) {
  (void)unused;
  pthread_barrier_wait(&all_there);
  void* volatile block;
  for (long i = 0; i < events; i++) {
    block = malloc(100 + i % 50);
    free(block);
  }
  pthread_barrier_wait(&all_there);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int count = atoi(argv[1]);
  events = atol(argv[2]);
  pthread_t* threads = calloc((size_t)count, sizeof(*threads));
  pthread_barrier_init(&all_there, NULL, (unsigned)count);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  for (int i = 0; i < count; i++) {
    if (pthread_create(&threads[i], &attributes, work, NULL) != 0) {
      fprintf(stderr, "thread %d could not be created\n", i);
      return 77;
    }
  }
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  free(threads);
  puts("done");
  return 0;
}
