// What the allocator says of itself, and the knobs it has: mallinfo, mallopt, malloc_info, malloc_stats, malloc_trim;
// see semantics_symbols_test.py. Their numbers are the allocator's own; what the manuals promise of them is not.
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  enum { kBlocks = 64, kBytes = 1 << 20 };
  static char* blocks[kBlocks];
  const struct mallinfo2 before = mallinfo2();
  for (int i = 0; i < kBlocks; i++) memset(blocks[i] = malloc(kBytes), 1, kBytes);
  const struct mallinfo2 full = mallinfo2();
  const size_t held_before = before.uordblks + before.hblkhd, held = full.uordblks + full.hblkhd;
  fprintf(stderr, "held before %zu, with %d bytes more %zu\n", held_before, kBlocks * kBytes, held);
  printf("holds what was allocated %d\n", held >= (size_t)kBlocks * kBytes * 9 / 10);
  printf("not several times as much %d\n", held <= held_before + (size_t)kBlocks * kBytes * 2);
  printf("in use is not more than there is %d\n", full.uordblks <= full.arena + full.hblkhd);
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  errno = 77;
  printf("M_TRIM_THRESHOLD %d M_MMAP_THRESHOLD %d M_TOP_PAD %d M_ARENA_MAX %d\n", mallopt(M_TRIM_THRESHOLD, 1 << 20),
         mallopt(M_MMAP_THRESHOLD, 1 << 20), mallopt(M_TOP_PAD, 4096), mallopt(M_ARENA_MAX, 2));
  const int trimmed = malloc_trim(0);
  printf("malloc_trim answers yes or no %d\n", trimmed == 0 || trimmed == 1);
  static char buffer[100000];
  FILE* stream = fmemopen(buffer, sizeof buffer, "w");
  const int code = malloc_info(0, stream);
  fclose(stream);
  printf("malloc_info %d %.8s errno %d\n", code, buffer, errno);
  stream = fmemopen(buffer, sizeof buffer, "w");
  const int refused = malloc_info(5, stream);
  fclose(stream);
  printf("malloc_info with options it does not have: %d\n", refused == EINVAL || (refused == -1 && errno == EINVAL));
  fflush(stdout);
  malloc_stats();
  for (int i = 0; i < 1000; i++) {
    char* block = malloc((size_t)i * 100);
    memset(block, 1, (size_t)i * 100);
    free(block);
  }
  printf("afterwards as before\n");
  return 0;
}
