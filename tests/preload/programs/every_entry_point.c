// Calls every allocation entry point once, each with a size of its own, and prints nothing. The expected events are in
// totals_test.py. With an argument it leaves out the 32 MiB alignment, which valgrind 3.19 does not survive. Must not
// allocate in any other way (no stdio).
#define _GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static void* volatile sink;

int main(int argc, char** argv) {
  (void)argv;
  void* a = malloc(1001);
  void* b = calloc(7, 11 * 13);  // 1001
  void* c = realloc(NULL, 1103);
  c = realloc(c, 50021);                 // grows, moves
  c = realloc(c, 307);                   // shrinks
  void* d = reallocarray(NULL, 17, 71);  // 1207
  void* e = memalign(64, 1301);
  void* f = aligned_alloc(128, 1408);
  void* g = NULL;
  if (posix_memalign(&g, 4096, 1501) != 0) return 1;
  void* h = valloc(1601);
  void* i = malloc(0);
  void* j = malloc(3 << 20);
  void* k = argc > 1 ? NULL : memalign(32u << 20, 1709);  // beyond what mimalloc 2.0.9 can align
  memset(j, 1, 3 << 20);
  sink = a;
  sink = b;
  sink = d;
  sink = i;
  free(a);
  free(b);
  free(c);
  free(d);
  free(e);
  free(f);
  free(g);
  free(h);
  free(i);
  free(j);
  if (((size_t)k & ((32u << 20) - 1)) != 0) return 2;
  free(k);
  free(NULL);
  void* l = malloc(1801);
  l = realloc(l, 0);  // frees
  if (l != NULL) return 3;
  sink = malloc(1907);  // never freed
  return 0;
}
