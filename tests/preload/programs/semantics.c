// Asks every allocation function odd and ordinary questions and prints the answers; see semantics_test.py. No address
// is printed, so that the answers of two allocators can be compared as text.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void free_sized(void* block, size_t size) __attribute__((weak));
void free_aligned_sized(void* block, size_t alignment, size_t size) __attribute__((weak));

static volatile size_t huge[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX - 15, SIZE_MAX};

static size_t alignment_of(void* block) { return block == NULL ? 0 : (size_t)1 << __builtin_ctzl((uintptr_t)block); }

// Is every usable byte usable? Fills and checks a block, then frees it.
static int is_usable(void* block, size_t size) {
  const size_t usable = malloc_usable_size(block);
  memset(block, 0x5a, usable);
  int good = usable >= size;
  for (size_t i = 0; i < usable; i++) good &= ((unsigned char*)block)[i] == 0x5a;
  free(block);
  return good;
}

static void answer(const char* what, size_t n, void* block) {
  printf("%s %zu: %s errno %d\n", what, n, block == NULL ? "null" : "block", errno);
  free(block);
  errno = 0;
}

static void* dirty(size_t size) {
  void* block = malloc(size);
  memset(block, 0xff, malloc_usable_size(block));
  return block;
}

static void reallocations(void) {
  errno = 55;
  void* volatile block = dirty(100);
  void* result = realloc(block, 0);
  printf("realloc(p, 0) %s errno %d\n", result == NULL ? "null" : "block", errno);
  result = realloc(NULL, 100);
  printf("realloc(NULL, 100) usable %d errno %d\n", is_usable(result, 100), errno);
  result = realloc(NULL, 0);
  printf("realloc(NULL, 0) %s\n", result == NULL ? "null" : "block");
  free(result);
  unsigned char* grown = dirty(10);
  size_t kept = 10;
  memset(grown, 7, kept);
  int good = 1;
  for (size_t size = 10; size < 3000000; size = size * 3 / 2) {
    grown = realloc(grown, size);
    for (size_t i = 0; i < kept; i++) good &= grown[i] == 7;
    memset(grown, 7, size);
    kept = size;
    good &= (uintptr_t)grown % 16 == 0;
  }
  for (size_t size = kept; size > 0; size /= 3) {
    grown = realloc(grown, size);
    for (size_t i = 0; i < size; i++) good &= grown[i] == 7;
  }
  printf("contents kept %d errno %d\n", good, errno);
  for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
    errno = 0;
    result = realloc(grown, huge[i]);
    printf("realloc(p, huge) %s errno %d kept %d\n", result == NULL ? "null" : "block", errno, grown[0]);
    errno = 0;
    result = reallocarray(grown, huge[i], 2);
    printf("reallocarray(p, huge) %s errno %d kept %d\n", result == NULL ? "null" : "block", errno, grown[0]);
  }
  result = reallocarray(grown, 0, 10);
  printf("reallocarray(p, 0, 10) %s\n", result == NULL ? "null" : "block");
  for (size_t alignment = 16; alignment <= 65536; alignment *= 4) {
    unsigned char* aligned = memalign(alignment, 1000);
    memset(aligned, 9, 1000);
    aligned = realloc(aligned, 5000);
    good = 1;
    for (int i = 0; i < 1000; i++) good &= aligned[i] == 9;
    printf("realloc of memalign(%zu) %d usable %d\n", alignment, good, is_usable(aligned, 5000));
  }
}

static void alignments(void) {
  for (size_t size = 0; size <= 64; size++) {
    void* volatile a = malloc(size);
    void* volatile b = malloc(size);
    const int good = a != NULL && b != NULL && a != b && (uintptr_t)a % 16 == 0 && (uintptr_t)b % 16 == 0;
    printf("malloc(%zu) unique and aligned %d usable %d %d\n", size, good, is_usable(a, size), is_usable(b, size));
    void* volatile c = calloc(size, 1);
    printf("calloc(%zu) aligned %d usable %d\n", size, (uintptr_t)c % 16 == 0, is_usable(c, size));
  }
  const size_t odd[] = {0, 1, 2, 3, 8, 15, 17, 48, 100, 1000, 4095, 4097};
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    size_t rounded = 16;
    while (rounded < odd[i]) rounded *= 2;
    void* block = memalign(odd[i], 100);
    printf("memalign(%zu) rounded %d", odd[i], alignment_of(block) >= rounded);
    printf(" usable %d errno %d\n", is_usable(block, 100), errno);
  }
  errno = 0;
  answer("memalign to", (size_t)1 << 63, memalign((size_t)1 << 63, 1));
  answer("memalign to", SIZE_MAX, memalign(SIZE_MAX, 1));
  answer("memalign to", ((size_t)1 << 63) + 1, memalign(((size_t)1 << 63) + 1, 1));
  answer("memalign to", (size_t)1 << 60, memalign((size_t)1 << 60, 1));
  for (size_t alignment = 16; alignment <= (size_t)64 << 20; alignment *= 2) {
    void* volatile many[3];
    for (int i = 0; i < 3; i++) many[i] = aligned_alloc(alignment, alignment > 4096 ? 100 : 3 * alignment + 1);
    for (int i = 0; i < 3; i++) printf("aligned_alloc(%zu) %d\n", alignment, alignment_of(many[i]) >= alignment);
    for (int i = 0; i < 3; i++) printf("usable %d\n", is_usable(many[i], 100));
  }
  int aligned = 1;
  for (size_t alignment = 16; alignment <= 8192; alignment *= 2) {
    for (size_t size = 16; size <= 40000; size = size % 3 == 0 ? size * 4 / 3 : size * 3 / 2) {  // 2^n and 3 * 2^n
      void* blocks[20];
      for (int i = 0; i < 20; i++) aligned &= alignment_of(blocks[i] = aligned_alloc(alignment, size)) >= alignment;
      for (int i = 0; i < 20; i++) free(blocks[i]);
    }
  }
  printf("aligned_alloc of multiples aligned %d\n", aligned);
  for (size_t alignment = 1; alignment <= 8; alignment *= 2)
    answer("aligned_alloc", alignment, aligned_alloc(alignment, 7));
  errno = 66;
  const size_t bad[] = {0, 1, 2, 3, 4, 7, 9, 12, 24, 48, 4097, SIZE_MAX, ((size_t)1 << 63) + 8};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    void* out = &errno;
    const int code = posix_memalign(&out, bad[i], 100);
    printf("posix_memalign(%zu) %d untouched %d errno %d\n", bad[i], code, out == &errno, errno);
  }
  for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
    void* out = &errno;
    const int code = posix_memalign(&out, 64, huge[i]);
    printf("posix_memalign(64, huge) %d untouched %d\n", code, out == &errno);
  }
  errno = 67;
  for (size_t alignment = 8; alignment <= 1 << 20; alignment *= 2) {
    void* out = NULL;
    const int code = posix_memalign(&out, alignment, 0);
    printf("posix_memalign(%zu, 0) %d aligned %d errno %d\n", alignment, code, alignment_of(out) >= alignment, errno);
    free(out);
  }
  const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    void* page = valloc(sizes[i]);
    printf("valloc(%zu) aligned %d usable %d\n", sizes[i], alignment_of(page) >= 4096, is_usable(page, sizes[i]));
    page = pvalloc(sizes[i]);
    const size_t rounded = (sizes[i] + 4095) / 4096 * 4096;
    printf("pvalloc(%zu) aligned %d usable %d\n", sizes[i], alignment_of(page) >= 4096, is_usable(page, rounded));
  }
  printf("errno %d\n", errno);
}

static void failures(void) {
  errno = 0;
  for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
    const size_t n = huge[i];
    answer("malloc", n, malloc(n));
    answer("calloc", n, calloc(n, 1));
    answer("calloc by 8", n, calloc(8, n));
    answer("calloc squared", n, calloc(n, n));
    answer("realloc", n, realloc(NULL, n));
    answer("reallocarray", n, reallocarray(NULL, n, 1));
    answer("reallocarray by 16", n, reallocarray(NULL, n, 16));
    answer("memalign", n, memalign(64, n));
    answer("aligned_alloc", n, aligned_alloc(64, n));
    answer("valloc", n, valloc(n));
    answer("pvalloc", n, pvalloc(n));
  }
  answer("calloc of 2^32 by 2^32", 0, calloc((size_t)1 << 32, (size_t)1 << 32));
  answer("calloc", 0, calloc(0, SIZE_MAX));
  answer("reallocarray", 0, reallocarray(NULL, SIZE_MAX, 0));
  for (int shift = 45; shift < 63; shift++) answer("malloc of too much", (size_t)shift, malloc((size_t)1 << shift));
}

static void contents(void) {
  int zero = 1;
  for (int round = 0; round < 400; round++) {
    const size_t size = round % 40 == 0 ? 300000 + (size_t)round * 5000 : (size_t)round * 13;
    free(dirty(size));
    unsigned char* block = calloc(1, size);
    for (size_t i = 0; i < size; i++) zero &= block[i] == 0;
    memset(block, 0xff, malloc_usable_size(block));
    free(block);
  }
  printf("calloc is zero after dirty reuse %d\n", zero);
  int usable = 1;
  for (size_t size = 0; size < 6000000; size = size * 5 / 4 + 1) usable &= is_usable(malloc(size), size);
  printf("usable to the last byte %d\n", usable);
  printf("usable_size(NULL) %zu\n", malloc_usable_size(NULL));
  errno = 33;
  free(NULL);
  for (size_t size = 1; size < 5000000; size *= 2) {
    void* volatile block = malloc(size);
    free(block);
    block = calloc(size, 1);
    free(block);
    if (free_sized != NULL) free_sized(malloc(size), size);
    if (free_aligned_sized != NULL) free_aligned_sized(aligned_alloc(64, size), 64, size);
  }
  printf("errno kept by success and by free %d\n", errno);
}

int main(void) {
  printf("errno at main %d\n", errno);
  reallocations();
  alignments();
  failures();
  contents();
  // Here newer glibc differs from older: kept apart, so that the test can know the answer.
  const size_t bad[] = {0, 3, 24, 48, 100, SIZE_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    errno = 0;
    void* block = aligned_alloc(bad[i], 64);
    fprintf(stderr, "aligned_alloc(%zu) %s errno %d\n", bad[i], block == NULL ? "null" : "block", errno);
    free(block);
  }
  return 0;
}
