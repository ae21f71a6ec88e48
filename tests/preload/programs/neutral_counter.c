// A preload that counts calls of the allocation functions and nothing else, in front of glibc's own allocator.
//
// The oracle of neutral_counts_test.py: it shares no line with tidemark. Each process image has a page of counters, a
// file of its own in the folder that TIDEMARK_OPTIONS names as "out=FOLDER/..." (the same variable as tidemark's, so
// that a program that copies its environment sees one of the same size in both runs). Counted is what an event of
// tidemark is: an allocation that succeeded, the release of a block, a realloc of a block that succeeded.
//
// Blocks that the loader asked for before the first constructor are outside of both counts: they are remembered, and
// their release or realloc is outside, too. Must not: allocate, keep a descriptor.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* __libc_valloc(size_t);
void* __libc_pvalloc(size_t);
void __libc_free(void*);

// The order of the 64-bit words of the file.
struct Counts {
  _Atomic uint64_t alloc, free, realloc, alloc_bytes, early;
};

enum { kMaxEarly = 4096 };
static void* early_blocks[kMaxEarly];
static unsigned early_count;
static struct Counts unshared;  // until the page is mapped, and where it cannot be
static struct Counts* counts = &unshared;
static int started;

static void* remember(void* block) {
  if (block == NULL || started) return block;
  counts->early++;
  if (early_count < kMaxEarly) early_blocks[early_count++] = block;
  return block;
}

static int forget(const void* block) {
  for (unsigned i = 0; i < early_count; i++) {
    if (early_blocks[i] == block) {
      early_blocks[i] = NULL;
      return 1;
    }
  }
  return 0;
}

static void* obtained(void* block, size_t size) {
  if (!started) return remember(block);
  if (block != NULL) {
    counts->alloc++;
    counts->alloc_bytes += size != 0 ? size : 1;  // an empty block counts as a byte (docs/metrics.md)
  }
  return block;
}

void* malloc(size_t size) { return obtained(__libc_malloc(size), size); }
void* calloc(size_t count, size_t size) { return obtained(__libc_calloc(count, size), count * size); }
void* memalign(size_t alignment, size_t size) { return obtained(__libc_memalign(alignment, size), size); }
void* valloc(size_t size) { return obtained(__libc_valloc(size), size); }
void* pvalloc(size_t size) { return obtained(__libc_pvalloc(size), size); }
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** out, size_t alignment, size_t size) {
  if (alignment < sizeof(void*) || (alignment & (alignment - 1)) != 0) return EINVAL;
  const int saved = errno;
  void* block = memalign(alignment, size);
  errno = saved;
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}

void free(void* block) {
  if (block != NULL && started && !forget(block)) counts->free++;
  __libc_free(block);
}

void* realloc(void* block, size_t size) {
  if (block == NULL) return malloc(size);
  if (!started || forget(block)) {
    void* moved = __libc_realloc(block, size);
    return started ? moved : remember(moved);
  }
  if (size == 0) {
    free(block);
    return NULL;
  }
  void* moved = __libc_realloc(block, size);
  if (moved != NULL) {
    counts->realloc++;
    counts->alloc_bytes += size;
  }
  return moved;
}

void* reallocarray(void* block, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return realloc(block, bytes);
}

// A forked child counts on in the page of its image.
__attribute__((constructor)) static void start(int argc, char** argv, char** environment) {
  (void)argc;
  (void)argv;
  const int saved = errno;
  const char* out = NULL;
  for (char** entry = environment; *entry != NULL; entry++) {
    if (strncmp(*entry, "TIDEMARK_OPTIONS=", 17) == 0) out = strstr(*entry, "out=");
  }
  const char* end = out == NULL ? NULL : strrchr(out, '/');
  if (end != NULL) {
    char path[1024];
    int fd = -1;
    for (int image = 0; image < 100 && fd < 0; image++) {  // a process may be several images, one after the other
      snprintf(path, sizeof path, "%.*s/counts.%d.%d", (int)(end - out - 4), out + 4, (int)getpid(), image);
      fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd >= 0 && ftruncate(fd, 4096) == 0) {
      void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (page != MAP_FAILED) {
        counts = page;
        counts->early = unshared.early;
      }
    }
    if (fd >= 0) close(fd);
  }
  errno = saved;
  started = 1;
}
