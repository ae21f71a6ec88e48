// What C, POSIX and the manuals of glibc say about each allocation function, asked row by row of group B of the
// hazards; see semantics_rows_test.py. Every line begins with its row. No address is printed. What the documents leave
// open, or what changed between releases of glibc, is answered on standard error.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cfree(void* block) __attribute__((weak));
void free_sized(void* block, size_t size) __attribute__((weak));
void free_aligned_sized(void* block, size_t alignment, size_t size) __attribute__((weak));

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
enum { kSentinel = 77 };

// Beyond what any machine has, and beyond what the type of a difference of pointers holds.
static volatile size_t too_much[] = {(size_t)1 << 50,
                                     PTRDIFF_MAX - 4096,
                                     PTRDIFF_MAX - 1,
                                     PTRDIFF_MAX,
                                     (size_t)PTRDIFF_MAX + 1,
                                     (size_t)PTRDIFF_MAX + 4096,
                                     SIZE_MAX - 4096,
                                     SIZE_MAX - 31,
                                     SIZE_MAX - 15,
                                     SIZE_MAX - 1,
                                     SIZE_MAX};
static const size_t sizes[] = {0,     1,     2,      7,      8,      9,      15,     16,      17,      24,
                               31,    32,    33,     48,     63,     64,     65,     100,     127,     128,
                               129,   255,   256,    257,    1000,   1023,   1024,   1025,    2047,    2048,
                               2049,  4095,  4096,   4097,   8192,   10000,  16383,  16384,   16385,   65535,
                               65536, 65537, 131071, 131072, 131073, 524288, 524289, 1048576, 3000001, 40000000};

// Prints without an allocation of stdio's own in between.
static void say(const char* format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char* format, ...) {
  char line[300];
  va_list arguments;
  const int saved = errno;
  va_start(arguments, format);
  const int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (write(1, line, (size_t)length) != length) _exit(9);
  errno = saved;
}

static int aligned_to(const void* block, size_t alignment) { return ((uintptr_t)block & (alignment - 1)) == 0; }

// ---- Every way to get a block, under one signature.

static void* by_malloc(size_t size) { return malloc(size); }
static void* by_calloc(size_t size) { return calloc(1, size); }
static void* by_calloc_turned(size_t size) { return calloc(size, 1); }
static void* by_realloc(size_t size) { return realloc(NULL, size); }
static void* by_reallocarray(size_t size) { return reallocarray(NULL, size, 1); }
static void* by_memalign(size_t size) { return memalign(64, size); }
static void* by_wide_memalign(size_t size) { return memalign(8192, size); }
static void* by_aligned_alloc(size_t size) { return aligned_alloc(32, size); }
static void* by_posix_memalign(size_t size) {
  void* block = NULL;
  const int saved = errno;
  const int code = posix_memalign(&block, 128, size);
  if (code == 0) return block;
  if (block != NULL) say("posix_memalign(%zu) touched its result\n", size);
  (void)saved;
  errno = code;  // what it returns is what the others leave in errno
  return NULL;
}
static void* by_valloc(size_t size) { return valloc(size); }
static void* by_pvalloc(size_t size) { return pvalloc(size); }

static const struct Way {
  const char* name;
  void* (*get)(size_t);
  size_t alignment;
  int zeroes;
} ways[] = {
    {"malloc", by_malloc, 16, 0},
    {"calloc", by_calloc, 16, 1},
    {"calloc turned", by_calloc_turned, 16, 1},
    {"realloc of null", by_realloc, 16, 0},
    {"reallocarray of null", by_reallocarray, 16, 0},
    {"memalign 64", by_memalign, 64, 0},
    {"memalign 8192", by_wide_memalign, 8192, 0},
    {"aligned_alloc 32", by_aligned_alloc, 32, 0},
    {"posix_memalign 128", by_posix_memalign, 128, 0},
    {"valloc", by_valloc, 4096, 0},
    {"pvalloc", by_pvalloc, 4096, 0},
};

static void release_by_free(void* block, size_t size, size_t alignment) {
  (void)size, (void)alignment;
  free(block);
}
static void release_by_cfree(void* block, size_t size, size_t alignment) {
  (void)size, (void)alignment;
  if (cfree != NULL)
    cfree(block);
  else
    free(block);
}
static void release_sized(void* block, size_t size, size_t alignment) {
  (void)alignment;
  if (free_sized != NULL)
    free_sized(block, size);
  else
    free(block);
}
static void release_aligned_sized(void* block, size_t size, size_t alignment) {
  if (free_aligned_sized != NULL)
    free_aligned_sized(block, alignment, size);
  else
    free(block);
}
static void release_by_realloc(void* block, size_t size, size_t alignment) {
  (void)size, (void)alignment;
  if (realloc(block, 0) != NULL) say("realloc(p, 0) gave a block\n");
}
static void (*const releases[])(void*, size_t, size_t) = {release_by_free, release_by_cfree, release_sized,
                                                          release_aligned_sized, release_by_realloc};

static void b1_errno_after_failure(void) {
  for (size_t w = 0; w < COUNT_OF(ways); w++) {
    for (size_t i = 0; i < COUNT_OF(too_much); i++) {
      errno = 0;
      void* block = ways[w].get(too_much[i]);
      say("[B1] %s of too much %zu: %s errno %d\n", ways[w].name, i, block == NULL ? "null" : "block", errno);
      free(block);
    }
  }
  const size_t half = (size_t)1 << 32;
  const size_t products[][2] = {{half, half},         {SIZE_MAX, 2},           {2, SIZE_MAX},
                                {SIZE_MAX, SIZE_MAX}, {SIZE_MAX / 16 + 1, 16}, {half, half / 2},
                                {half - 1, half + 1}};
  void* kept = malloc(100);
  memset(kept, 0x33, 100);
  for (size_t i = 0; i < COUNT_OF(products); i++) {
    errno = 0;
    void* block = calloc(products[i][0], products[i][1]);
    say("[B1] calloc of product %zu: %s errno %d\n", i, block == NULL ? "null" : "block", errno);
    errno = 0;
    block = reallocarray(NULL, products[i][0], products[i][1]);
    say("[B1] reallocarray of product %zu: %s errno %d\n", i, block == NULL ? "null" : "block", errno);
    errno = 0;
    block = reallocarray(kept, products[i][0], products[i][1]);
    say("[B1] reallocarray of a block, product %zu: %s errno %d kept %d\n", i, block == NULL ? "null" : "block", errno,
        ((char*)kept)[99]);
  }
  free(kept);
}

static void b2_errno_after_success(void) {
  int changed = 0, changed_by_free = 0;
  for (size_t w = 0; w < COUNT_OF(ways); w++) {
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
      errno = kSentinel;
      void* block = ways[w].get(sizes[i]);
      changed += errno != kSentinel;
      if (sizes[i] > 0) *(char*)block = 1;
      errno = kSentinel;
      block = realloc(block, sizes[i] * 2 + 1);
      changed += errno != kSentinel;
      errno = kSentinel;
      (void)malloc_usable_size(block);
      changed += errno != kSentinel;
      errno = kSentinel;
      releases[i % COUNT_OF(releases)](block, sizes[i] * 2 + 1, 16);
      changed_by_free += errno != kSentinel;
    }
  }
  free(NULL);
  changed_by_free += errno != kSentinel;
  say("[B2] errno changed by success %d by free %d\n", changed, changed_by_free);
}

static void b4_posix_memalign(void) {
  const size_t bad[] = {0,
                        1,
                        2,
                        3,
                        4,
                        5,
                        7,
                        9,
                        12,
                        15,
                        17,
                        24,
                        48,
                        96,
                        4095,
                        4097,
                        PTRDIFF_MAX,
                        SIZE_MAX,
                        ((size_t)1 << 63) + 8,
                        ((size_t)1 << 63) - 8};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    void* out = &out;
    errno = kSentinel;
    const int code = posix_memalign(&out, bad[i], 100);
    say("[B4] posix_memalign to %zu: %d untouched %d errno %d\n", bad[i], code, out == &out, errno);
  }
  for (unsigned shift = 3; shift <= 30; shift++) {
    void* out = NULL;
    errno = kSentinel;
    const int code = posix_memalign(&out, (size_t)1 << shift, 100);
    say("[B4] posix_memalign to 2^%u: %d aligned %d errno %d\n", shift, code, aligned_to(out, (size_t)1 << shift),
        errno);
    free(out);
  }
  const unsigned far[] = {46, 47, 60, 62, 63};
  for (size_t i = 0; i < COUNT_OF(far); i++) {
    void* out = &out;
    const int code = posix_memalign(&out, (size_t)1 << far[i], 100);
    say("[B4] posix_memalign to 2^%u: %d untouched %d\n", far[i], code, out == &out);
  }
  for (size_t i = 0; i < COUNT_OF(too_much); i++) {
    void* out = &out;
    errno = kSentinel;
    const int code = posix_memalign(&out, 64, too_much[i]);
    say("[B4] posix_memalign of too much %zu: %d untouched %d\n", i, code, out == &out);
    fprintf(stderr, "[B4] errno kept on failure %d\n", errno == kSentinel);
  }
}

static void b5_aligned_alloc(void) {
  for (unsigned shift = 0; shift <= 30; shift += shift < 22 ? 1 : 8) {
    const size_t alignment = (size_t)1 << shift;
    int good = 1;
    for (size_t size = 1; size < 100000; size = size * 3 + 1) {  // no multiples of the alignment: accepted as well
      void* block = aligned_alloc(alignment, size);
      good &= block != NULL && aligned_to(block, alignment);
      memset(block, 1, size);
      free(block);
      if (shift >= 22) break;
    }
    say("[B5] aligned_alloc to 2^%u %d\n", shift, good);
  }
  const size_t bad[] = {0, 3, 5, 24, 48, 100, SIZE_MAX};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    errno = 0;
    void* block = aligned_alloc(bad[i], 64);
    fprintf(stderr, "[B5] aligned_alloc to %zu: %s errno %d\n", bad[i], block == NULL ? "null" : "block", errno);
    free(block);
  }
}

static void b6_memalign(void) {
  const size_t odd[] = {0, 1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 48, 100, 1000, 4095, 4096, 4097, 70000, (1 << 20) + 1};
  for (size_t i = 0; i < COUNT_OF(odd); i++) {
    size_t rounded = 16;
    while (rounded < odd[i]) rounded *= 2;
    int good = 1;
    for (size_t s = 0; s < 30; s++) {
      errno = kSentinel;
      unsigned char* block = memalign(odd[i], sizes[s]);
      good &= block != NULL && aligned_to(block, rounded) && errno == kSentinel;
      memset(block, 0x5c, malloc_usable_size(block));
      free(block);
    }
    say("[B6] memalign to %zu rounds up %d\n", odd[i], good);
  }
  const size_t far[] = {(size_t)1 << 46, (size_t)1 << 60, (size_t)1 << 62, ((size_t)1 << 62) + 1, (size_t)1 << 63};
  for (size_t i = 0; i < COUNT_OF(far); i++) {
    errno = 0;
    void* block = memalign(far[i], 100);
    say("[B6] memalign to too much %zu: %s errno %d\n", i, block == NULL ? "null" : "block", errno);
  }
  errno = 0;
  void* block = memalign(((size_t)1 << 63) + 1, 100);
  say("[B6] memalign to more than half of all: %s errno %d\n", block == NULL ? "null" : "block", errno);
}

static void b7_empty_blocks(void) {
  enum { kMany = 300 };
  for (size_t w = 0; w < COUNT_OF(ways); w++) {
    static void* blocks[kMany];
    int good = 1;
    for (int i = 0; i < kMany; i++) good &= (blocks[i] = ways[w].get(0)) != NULL && aligned_to(blocks[i], 16);
    for (int i = 0; i < kMany; i++) {
      for (int k = 0; k < i; k++) good &= blocks[i] != blocks[k];
    }
    for (int i = 0; i < kMany; i++) {
      memset(blocks[i], 0xee, malloc_usable_size(blocks[i]));
      free(blocks[i]);
    }
    say("[B7] %s of nothing: %d different blocks %d\n", ways[w].name, kMany, good);
  }
  void* a = calloc(0, SIZE_MAX);
  void* b = calloc(SIZE_MAX, 0);
  void* c = reallocarray(NULL, 0, SIZE_MAX);
  say("[B7] products of nothing %d\n", a != NULL && b != NULL && c != NULL && a != b && b != c);
  free(a);
  free(b);
  free(c);
}

static unsigned char pattern(size_t at, size_t seed) { return (unsigned char)(at * 31 + seed * 7 + (at >> 8)); }
static void fill(unsigned char* block, size_t size, size_t seed) {
  for (size_t i = 0; i < size; i++) block[i] = pattern(i, seed);
}
static int holds(const unsigned char* block, size_t size, size_t seed) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != pattern(i, seed)) return 0;
  }
  return 1;
}

static void b8_realloc(void) {
  errno = kSentinel;
  void* block = malloc(100);
  void* result = realloc(block, 0);
  say("[B8] realloc(p, 0): %s errno %d\n", result == NULL ? "null" : "block", errno);
  result = realloc(NULL, 0);
  say("[B8] realloc(NULL, 0): %s\n", result == NULL ? "null" : "block");
  free(result);
  result = reallocarray(malloc(10), 10, 0);
  say("[B8] reallocarray(p, 10, 0): %s errno %d\n", result == NULL ? "null" : "block", errno);
  // From every size to every size, from each way to get a block: the shorter of both lengths is kept.
  for (size_t w = 0; w < COUNT_OF(ways); w++) {
    int kept = 1, aligned = 1;
    for (size_t from = 1; from < COUNT_OF(sizes) - 2; from++) {
      for (size_t to = 1 + (from + w) % 3; to < COUNT_OF(sizes) - 2; to += 3) {
        const size_t least = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
        unsigned char* moving = ways[w].get(sizes[from]);
        fill(moving, sizes[from], from);
        moving = realloc(moving, sizes[to]);
        kept &= holds(moving, least, from);
        aligned &= aligned_to(moving, 16);
        fill(moving, malloc_usable_size(moving), to);
        free(moving);
      }
    }
    say("[B8] realloc of %s: kept %d aligned %d\n", ways[w].name, kept, aligned);
  }
  for (size_t s = 1; s < COUNT_OF(sizes); s += 5) {
    unsigned char* stays = malloc(sizes[s]);
    fill(stays, sizes[s], s);
    int failed = 0;
    for (size_t i = 0; i < COUNT_OF(too_much); i++) {
      errno = 0;
      failed += realloc(stays, too_much[i]) == NULL && errno == ENOMEM;
    }
    say("[B8] failed reallocs of %zu: %d kept %d\n", sizes[s], failed, holds(stays, sizes[s], s));
    free(stays);
  }
}

static void b10_calloc(void) {
  int zero = 1;
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
      enum { kSome = 8 };
      void* dirty[kSome];
      const int some = sizes[i] > 100000 ? 2 : kSome;
      for (int k = 0; k < some; k++) {
        dirty[k] = malloc(sizes[i]);
        memset(dirty[k], 0xff, malloc_usable_size(dirty[k]));
      }
      for (int k = 0; k < some; k++) free(dirty[k]);
      for (int k = 0; k < some; k++) {
        unsigned char* block = dirty[k] = calloc(1, sizes[i]);
        for (size_t b = 0; b < sizes[i]; b++) zero &= block[b] == 0;
        memset(block, 0xff, malloc_usable_size(block));
      }
      for (int k = 0; k < some; k++) free(dirty[k]);
    }
  }
  say("[B10] calloc is zero where dirty blocks were %d\n", zero);
}

static void b11_alignment(void) {
  for (size_t w = 0; w < COUNT_OF(ways); w++) {
    int good = 1;
    for (size_t i = 0; i < COUNT_OF(sizes) - 1; i++) {
      void* blocks[5];
      for (int k = 0; k < 5; k++) good &= aligned_to(blocks[k] = ways[w].get(sizes[i]), ways[w].alignment);
      for (int k = 0; k < 5; k++) {
        void* moved = realloc(blocks[k], sizes[i] + 1);
        good &= aligned_to(moved, 16);
        free(moved);
      }
    }
    say("[B11] %s aligned %d\n", ways[w].name, good);
  }
  // Sizes just around a multiple of the alignment, several at a time, so that most are not the first of their page.
  for (unsigned shift = 5; shift <= 13; shift++) {
    const size_t alignment = (size_t)1 << shift;
    int good = 1;
    for (size_t multiple = 1; multiple * alignment <= 20000 && multiple <= 8; multiple++) {
      for (int off = -33; off <= 17; off++) {
        void* blocks[6];
        const size_t size = (size_t)((long)(multiple * alignment) + off);
        if ((long)(multiple * alignment) + off < 0) continue;
        for (int k = 0; k < 6; k++) good &= aligned_to(blocks[k] = aligned_alloc(alignment, size), alignment);
        for (int k = 0; k < 6; k++) free(blocks[k]);
      }
    }
    say("[B11] sizes around multiples of 2^%u aligned %d\n", shift, good);
  }
}

static void b18_usable(void) {
  for (size_t w = 0; w < COUNT_OF(ways); w++) {
    int good = 1;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
      enum { kNeighbours = 6 };
      unsigned char* blocks[kNeighbours];
      const int some = sizes[i] > 1000000 ? 2 : kNeighbours;
      for (int k = 0; k < some; k++) {
        blocks[k] = ways[w].get(sizes[i]);
        const size_t usable = malloc_usable_size(blocks[k]);
        good &= usable >= sizes[i];
        memset(blocks[k], 0x40 + k, usable);
      }
      for (int k = 0; k < some; k++) {
        const size_t usable = malloc_usable_size(blocks[k]);
        good &= blocks[k][0] == 0x40 + k && blocks[k][usable / 2] == 0x40 + k && blocks[k][usable - 1] == 0x40 + k;
      }
      // What lies within the usable size is kept by a realloc within it.
      const size_t usable = malloc_usable_size(blocks[0]);
      blocks[0] = realloc(blocks[0], usable);
      good &= malloc_usable_size(blocks[0]) >= usable && blocks[0][0] == 0x40;
      for (int k = 0; k < some; k++) releases[k % (int)COUNT_OF(releases)](blocks[k], sizes[i], ways[w].alignment);
    }
    say("[B18] %s usable to the last byte %d\n", ways[w].name, good);
  }
  say("[B18] usable size of null %zu\n", malloc_usable_size(NULL));
}

int main(void) {
  say("[B3] errno at main %d\n", errno);
  b1_errno_after_failure();
  b2_errno_after_success();
  b4_posix_memalign();
  b5_aligned_alloc();
  b6_memalign();
  b7_empty_blocks();
  b8_realloc();
  b10_calloc();
  b11_alignment();
  b18_usable();
  return 0;
}
