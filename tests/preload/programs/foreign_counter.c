// A preload of the ordinary kind: counts calls and hands them on by dlsym(RTLD_NEXT), which allocates itself while it
// looks for the next calloc; see foreign_test.py.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

static atomic_ulong calls;
static _Alignas(16) char pool[65536];  // serves dlsym's own allocations
static atomic_size_t pool_used;
static __thread int looking;

static void* from_pool(size_t size) {
  const size_t at = atomic_fetch_add(&pool_used, (size + 15) & ~(size_t)15);
  return at + size <= sizeof pool ? pool + at : NULL;
}
static int is_of_pool(const void* block) {
  return (const char*)block >= pool && (const char*)block < pool + sizeof pool;
}

static void* next(const char* name) {
  looking = 1;
  void* function = dlsym(RTLD_NEXT, name);
  looking = 0;
  return function;
}

unsigned long counter_calls(void) { return atomic_load(&calls); }

void* malloc(size_t size) {
  static void* (*real)(size_t);
  if (looking) return from_pool(size);
  if (real == NULL) real = (void* (*)(size_t))next("malloc");
  atomic_fetch_add(&calls, 1);
  return real(size);
}
void* calloc(size_t count, size_t size) {
  static void* (*real)(size_t, size_t);
  if (looking) return from_pool(count * size);
  if (real == NULL) real = (void* (*)(size_t, size_t))next("calloc");
  atomic_fetch_add(&calls, 1);
  return real(count, size);
}
void* realloc(void* block, size_t size) {
  static void* (*real)(void*, size_t);
  if (real == NULL) real = (void* (*)(void*, size_t))next("realloc");
  atomic_fetch_add(&calls, 1);
  return real(block, size);
}
void free(void* block) {
  static void (*real)(void*);
  if (is_of_pool(block)) return;
  if (real == NULL) real = (void (*)(void*))next("free");
  atomic_fetch_add(&calls, 1);
  real(block);
}
