// Threads in the loader, under its lock, and threads that allocate, for unwinding_modules_test.py:
//   unwind_loader_storm ROUNDS PLUGIN...
// Two threads load and unload plugins that allocate in their constructors and functions, one walks the list of modules
// and allocates in the callback, holding the loader's lock, and raises a signal there whose handler allocates too, and
// two allocate through qsort. Whoever takes the loader's lock on the way of a malloc stands still here. Prints the
// rounds.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rounds, plugins;
static char** names;
static atomic_int loaders = 2, loaded, visited;

static void* load(void* argument) {
  for (int i = 0; i < rounds; i++) {
    void* library = dlopen(names[((long)argument + i) % plugins], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) exit(1);
    void (*entry)(int) = (void (*)(int))dlsym(library, "plugin_entry");
    for (int k = 0; k < 5; k++) entry(k);
    loaded++;
    dlclose(library);
  }
  loaders--;
  return NULL;
}

static void on_signal(int number) {
  void* volatile block = malloc((size_t)number * 10);
  free(block);
}
static int visit(struct dl_phdr_info* info, size_t size, void* unused) {
  (void)info, (void)unused;
  void* volatile block = malloc(size);
  free(block);
  raise(SIGUSR1);
  visited++;
  return 0;
}
static void* walk(void* unused) {
  while (loaders > 0) dl_iterate_phdr(visit, NULL);
  return unused;
}

static int compare(const void* a, const void* b) {
  void* volatile block = malloc(40 + (size_t)(*(const int*)a & 63));
  free(block);
  return *(const int*)a - *(const int*)b;
}
static void* sort(void* unused) {
  while (loaders > 0) {
    int values[20];
    for (int i = 0; i < 20; i++) values[i] = (i * 7919) % 101;
    qsort(values, 20, sizeof(int), compare);
  }
  return unused;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  rounds = atoi(argv[1]);
  names = argv + 2;
  plugins = argc - 2;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigaction(SIGUSR1, &action, NULL);
  pthread_t threads[5];
  pthread_create(&threads[0], NULL, load, (void*)0);
  pthread_create(&threads[1], NULL, load, (void*)1);
  pthread_create(&threads[2], NULL, walk, NULL);
  pthread_create(&threads[3], NULL, sort, NULL);
  pthread_create(&threads[4], NULL, sort, NULL);
  for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
  printf("loaded %d\n", loaded);
  return visited > 0 ? 0 : 1;
}
