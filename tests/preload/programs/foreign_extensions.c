// An allocator's own names beside the standard ones: blocks of the former end at free and realloc; see foreign_test.py.
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(JEMALLOC)
void* mallocx(size_t size, int flags);
void* rallocx(void* block, size_t size, int flags);
void dallocx(void* block, int flags);
void sdallocx(void* block, size_t size, int flags);
size_t sallocx(const void* block, int flags);
static void* own_malloc(size_t size) { return mallocx(size, 0); }
static void* own_realloc(void* block, size_t size) { return rallocx(block, size, 0); }
static void own_free(void* block) { dallocx(block, 0); }
#elif defined(TCMALLOC)
void* tc_malloc(size_t size);
void* tc_realloc(void* block, size_t size);
void tc_free(void* block);
static void* own_malloc(size_t size) { return tc_malloc(size); }
static void* own_realloc(void* block, size_t size) { return tc_realloc(block, size); }
static void own_free(void* block) { tc_free(block); }
#elif defined(GLIBC)
void* __libc_malloc(size_t size);
void* __libc_realloc(void* block, size_t size);
void __libc_free(void* block);
static void* own_malloc(size_t size) { return __libc_malloc(size); }
static void* own_realloc(void* block, size_t size) { return __libc_realloc(block, size); }
static void own_free(void* block) { __libc_free(block); }
#endif

int main(void) {
  int good = 0;
  for (int i = 1; i <= 500; i++) {
    const size_t size = (size_t)i * 17;
    char* a = own_malloc(size);
    memset(a, i, size);
    a = own_realloc(a, size * 2);
    const int kept = a[size - 1] == (char)i;
    own_free(a);
    char* b = own_malloc(size);
    memset(b, i, size);
    const int usable = malloc_usable_size(b) >= size;
    if (i % 2 == 0) {
      free(b);
    } else {
      b = realloc(b, size * 3);
      good += b[size - 1] == (char)i ? 0 : -1000;
      free(b);
    }
    good += kept && usable;
  }
  printf("extensions %d\n", good);
  return 0;
}
