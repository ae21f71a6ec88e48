// Allocates and frees without end, and after each pair tells through a shared file how many are behind it:
//   storm FILE THREADS WAY     WAY: loop (until killed), _exit, abort, crash, quick_exit (each after 200,000 pairs)
// FILE holds one 64-bit counter per thread. What the counters say was committed before the death.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile uint64_t* counters;
static const char* way;

static void* Storm(void* index) {
  volatile uint64_t* counter = counters + (uintptr_t)index;
  void* ring[64] = {0};
  for (uint64_t i = 0;; i++) {
    free(ring[i % 64]);
    ring[i % 64] = malloc(16 + i % 1000);
    *counter = i + 1;
    if (i == 200000 && (uintptr_t)index == 0 && strcmp(way, "loop") != 0) {
      if (strcmp(way, "_exit") == 0) _exit(7);
      if (strcmp(way, "abort") == 0) abort();
      if (strcmp(way, "quick_exit") == 0) quick_exit(9);
      if (strcmp(way, "crash") == 0) *(volatile int*)8 = 1;
    }
  }
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int fd = open(argv[1], O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, 4096) != 0) return 3;
  counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  const int threads = atoi(argv[2]);
  way = argv[3];
  for (int i = 1; i < threads; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, Storm, (void*)(uintptr_t)i) != 0) return 4;
  }
  Storm((void*)0);
}
