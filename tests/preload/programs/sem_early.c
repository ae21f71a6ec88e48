// Memory before, between and after all constructors; see semantics_bootstrap_test.py. One source, several roles:
//   LIBRARY=first   a library that the loader initialises before any other (-z initfirst), with many blocks
//   LIBRARY=second  a library with a constructor and a destructor of its own
//   LIBRARY=audit   for LD_AUDIT: allocates whenever the loader tells it something
//   none            the program
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define first 1
#define second 2
#define audit 3

#if LIBRARY == first
// More than the 4,096 that are remembered as early ones.
enum { kEarly = 6000 };
static char* blocks[kEarly];
static int errno_there;

__attribute__((constructor)) static void construct(void) {
  errno_there = errno;
  for (int i = 0; i < kEarly; i++) {
    const size_t size = (size_t)i % 700 + 1;
    blocks[i] = i % 3 == 0 ? malloc(size) : i % 3 == 1 ? calloc(1, size) : realloc(NULL, size);
    memset(blocks[i], i, size);
  }
  // The loader allocates for the text of an error, in a calloc of its own.
  if (dlsym(RTLD_DEFAULT, "a_symbol_that_nobody_has") != NULL) abort();
  if (dlerror() == NULL) abort();
}

// Frees a third, resizes a third, leaves a third. Returns how many were whole.
int early_blocks(void) {
  int good = 0;
  for (int i = 0; i < kEarly; i++) {
    const size_t size = (size_t)i % 700 + 1;
    good += blocks[i][0] == (char)i && blocks[i][size - 1] == (char)i && malloc_usable_size(blocks[i]) >= size;
    if (i % 3 == 0) free(blocks[i]);
    if (i % 3 == 1) {
      blocks[i] = realloc(blocks[i], size * 3);
      good -= blocks[i][size - 1] != (char)i;
      free(blocks[i]);
    }
  }
  return good;
}
int early_errno(void) { return errno_there; }

#elif LIBRARY == second
static char* kept;
static char name[64];
__attribute__((constructor)) static void construct(void) {
  kept = strdup("made by a constructor");
  const char* home = getenv("SEM_EARLY");
  snprintf(name, sizeof name, "%s", home == NULL ? "unset" : home);
  setenv("SEM_EARLY", "set by a constructor", 1);
  setenv("SEM_EARLY_MORE", kept, 1);
  putenv(strdup("SEM_EARLY_PUT=1"));
}
__attribute__((destructor)) static void destruct(void) {
  for (int i = 0; i < 100; i++) free(malloc((size_t)i * 100));
  printf("%s, freed by a destructor\n", kept);
  free(kept);
}
const char* seen_variable(void) { return name; }

#elif LIBRARY == audit
unsigned la_version(unsigned version) {
  free(malloc(100));
  return version;
}
unsigned la_objopen(struct link_map* map, Lmid_t space, uintptr_t* cookie) {
  (void)map, (void)space, (void)cookie;
  void* volatile block = calloc(3, 100);
  block = realloc(block, 1000);
  free(block);
  return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

#else
int early_blocks(void);
int early_errno(void);
const char* seen_variable(void);

static void* from_resolver;
// Runs while the program is relocated; all libraries are by then.
static void* resolve(void) {
  from_resolver = malloc(1234);
  memset(from_resolver, 7, 1234);
  return (void*)early_blocks;
}
int indirect(void) __attribute__((ifunc("resolve")));

static void at_exit(void) {
  char* block = malloc(500);
  printf("at exit %zu\n", malloc_usable_size(block) / 500);
  free(block);
}

int main(void) {
  printf("errno %d, before us %d\n", errno, early_errno());
  printf("early blocks %d\n", indirect());
  printf("block of a resolver %d\n", ((char*)from_resolver)[1233]);
  from_resolver = realloc(from_resolver, 5000);
  printf("moved %d\n", ((char*)from_resolver)[1233]);
  free(from_resolver);
  printf("variable at the constructor: %s, now: %s, %s, %s\n", seen_variable(), getenv("SEM_EARLY"),
         getenv("SEM_EARLY_MORE"), getenv("SEM_EARLY_PUT"));
  unsetenv("SEM_EARLY");
  clearenv();
  printf("cleared %d\n", getenv("PATH") == NULL);
  atexit(at_exit);
  return 0;
}
#endif
