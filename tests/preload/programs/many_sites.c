// Allocates at ten sites with ten size mixes, in a fixed order, and frees most of it: the ground truth for sampling.
#include <stdlib.h>
#define SITE __attribute__((noinline, noclone)) static void*
static void* volatile sink;
#define KEEP(p) \
  sink = (p);   \
  return sink

SITE site_tiny(unsigned i) { KEEP(malloc(8 + i % 24)); }
SITE site_small(unsigned i) { KEEP(malloc(40 + i % 300)); }
SITE site_fixed(unsigned i) {
  (void)i;
  KEEP(malloc(512));
}
SITE site_middle(unsigned i) { KEEP(calloc(1, 1000 + i % 3000)); }
SITE site_page(unsigned i) {
  (void)i;
  KEEP(malloc(4096));
}
SITE site_mixed(unsigned i) { KEEP(malloc(i % 50 == 0 ? 60000 : 60)); }
SITE site_large(unsigned i) { KEEP(malloc(20000 + i % 30000)); }
SITE site_huge(unsigned i) {
  (void)i;
  KEEP(malloc(300000));
}
SITE site_grown(unsigned i) { KEEP(realloc(malloc(100 + i % 100), 2500)); }
SITE site_aligned(unsigned i) {
  void* p = NULL;
  if (posix_memalign(&p, 64, 700 + i % 500) != 0) abort();
  KEEP(p);
}

int main(void) {
  void* kept[1000];
  unsigned n = 0;
  for (unsigned i = 0; i < 1000; i++) kept[i] = NULL;
#define RUN(site, times)                   \
  for (unsigned i = 0; i < (times); i++) { \
    unsigned slot = n++ * 7919 % 1000;     \
    free(kept[slot]);                      \
    kept[slot] = site(i);                  \
  }
  for (int round = 0; round < 10; round++) {
    RUN(site_tiny, 5000)
    RUN(site_small, 1000) RUN(site_fixed, 400) RUN(site_middle, 80) RUN(site_page, 50) RUN(site_mixed, 300)
        RUN(site_large, 6) RUN(site_huge, 1) RUN(site_grown, 60) RUN(site_aligned, 150)
  }
  return 0;
}
