// Ordinary use of malloc in every form, by libc's functions too, in four threads and in a child, with every block
// checked; see foreign_test.py. What is around it (other preloads, plugins, libraries with a malloc of their own) must
// not show. Arguments: "LIBRARY" or "deep:LIBRARY" or "space:LIBRARY" each name a foreign_plugin.c to trade blocks
// with, opened plainly, with RTLD_DEEPBIND, and in a name space of its own.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char* what) {
  fprintf(stderr, "wrong: %s\n", what);
  _exit(4);
}

static void check(const unsigned char* block, size_t size, int value) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != (unsigned char)value) fail("contents");
  }
}

static void* churn(void* argument) {
  enum { kSlots = 64 };
  unsigned char* blocks[kSlots] = {0};
  size_t sizes[kSlots] = {0};
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int i = 0; i < 20000; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & (kSlots - 1);
    const size_t size = (seed >> 8) % (i % 500 == 0 ? 200000 : 1500) + 1;
    if (blocks[k] == NULL) {
      void* block = NULL;
      switch (i % 7) {
        case 0:
          block = calloc(size, 1);
          check(block, size, 0);
          break;
        case 1:
          if (posix_memalign(&block, 64, size) != 0 || (uintptr_t)block % 64 != 0) fail("posix_memalign");
          break;
        case 2:
          block = aligned_alloc(64, size);
          break;
        case 3:
          block = realloc(NULL, size);
          break;
        default:
          block = malloc(size);
      }
      if (block == NULL || malloc_usable_size(block) < size) fail("size");
      blocks[k] = block;
      sizes[k] = size;
      memset(block, (int)k + 1, size);
    } else if (i % 3 == 0) {
      check(blocks[k], sizes[k], (int)k + 1);
      const size_t kept = sizes[k] < size ? sizes[k] : size;
      blocks[k] = realloc(blocks[k], size);
      check(blocks[k], kept, (int)k + 1);
      sizes[k] = size;
      memset(blocks[k], (int)k + 1, size);
    } else {
      check(blocks[k], sizes[k], (int)k + 1);
      free(blocks[k]);
      blocks[k] = NULL;
    }
  }
  for (int k = 0; k < kSlots; k++) free(blocks[k]);
  return NULL;
}

static void by_libc(void) {
  for (int i = 0; i < 200; i++) {
    char* text = NULL;
    if (asprintf(&text, "%0*d", i + 1, i) < 0 || strlen(text) < (size_t)i) fail("asprintf");
    char* copy = strdup(text);
    if (strcmp(copy, text) != 0) fail("strdup");
    free(text);
    free(copy);
    char* path = realpath("/proc/self/..", NULL);
    if (path == NULL || strcmp(path, "/proc") != 0) fail("realpath");
    free(path);
    char* buffer = NULL;
    size_t length = 0;
    FILE* stream = open_memstream(&buffer, &length);
    fprintf(stream, "%d", i);
    fclose(stream);
    if (atoi(buffer) != i) fail("open_memstream");
    free(buffer);
  }
  char* line = NULL;
  size_t capacity = 0;
  FILE* file = fopen("/proc/self/status", "r");
  int lines = 0;
  while (getline(&line, &capacity, file) > 0) lines++;
  fclose(file);
  if (lines < 10) fail("getline");
  free(line);
  setenv("FOREIGN_CHURN", "set", 1);
  if (strcmp(getenv("FOREIGN_CHURN"), "set") != 0) fail("setenv");
}

// Blocks from the plugin end here, blocks from here end in the plugin, and both resize each other's.
static void trade(const char* how, const char* path, int flags, int own_space) {
  void* library = own_space ? dlmopen(LM_ID_NEWLM, path, RTLD_NOW) : dlopen(path, RTLD_NOW | flags);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    _exit(5);
  }
  void* (*take)(size_t) = (void* (*)(size_t))dlsym(library, "plugin_take");
  void (*give)(void*) = (void (*)(void*))dlsym(library, "plugin_give");
  void* (*resize)(void*, size_t) = (void* (*)(void*, size_t))dlsym(library, "plugin_resize");
  size_t (*usable)(void*) = (size_t(*)(void*))dlsym(library, "plugin_usable");
  int (*inside)(int) = (int (*)(int))dlsym(library, "plugin_inside");
  if (take == NULL || give == NULL || resize == NULL || inside == NULL || usable == NULL) fail("plugin");
  if (inside(300) != 300) fail("plugin's own");
  for (int i = 1; i < 500 && !own_space; i++) {
    const size_t size = (size_t)i * 11;
    unsigned char* block = take(size);
    memset(block, i, size);
    if (malloc_usable_size(block) < size || usable(block) < size) fail("usable size");
    block = realloc(block, size * 2);
    check(block, size, i);
    memset(block, i, size * 2);
    block = resize(block, size * 3);
    check(block, size * 2, i);
    if (i % 2 == 0)
      give(block);
    else
      free(block);
    block = malloc(size);
    memset(block, i, size);
    if (usable(block) < size) fail("usable size there");
    block = resize(block, size + 7);
    check(block, size, i);
    give(block);
    give(strdup("from here to there"));
  }
  dlclose(library);
  printf("traded %s\n", how);
}

int main(int argc, char** argv) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, churn, (void*)(uintptr_t)(i + 1));
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  by_libc();
  for (int i = 1; i < argc; i++) {
    if (strncmp(argv[i], "deep:", 5) == 0)
      trade("deeply bound", argv[i] + 5, RTLD_DEEPBIND, 0);
    else if (strncmp(argv[i], "space:", 6) == 0)
      trade("in its own name space", argv[i] + 6, 0, 1);
    else
      trade("plainly", argv[i], 0, 0);
  }
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    churn((void*)9);
    _exit(3);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 3) fail("child");
  printf("all as it should be\n");
  return 0;
}
