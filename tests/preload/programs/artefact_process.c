// Says what somebody has made of this process: whether it runs with raised rights, whether the library and a segment of
// it are mapped, whose heap it has, and whether it may be dumped; see artefacts_test.py.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

static int mapped(const char* what) {
  char line[4352];
  int found = 0;
  FILE* maps = fopen("/proc/self/maps", "r");
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) found |= strstr(line, what) != NULL;
  if (maps != NULL) fclose(maps);
  return found;
}

int main(int argc, char** argv) {
  char* volatile block = malloc(100);
  const char* const end_of_heap = sbrk(0);
  printf("secure %lu\n", getauxval(AT_SECURE));
  printf("library %d\n", mapped("libtidemark.so"));
  printf("segment %d\n", mapped("memfd:tidemark"));
  printf("heap of libc %d\n", block < end_of_heap && block > end_of_heap - (1 << 24));
  printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
  if (argc > 1 && strcmp(argv[1], "undumpable") == 0) {
    prctl(PR_SET_DUMPABLE, 0);
    for (int i = 0; i < 10000; i++) free(malloc((size_t)i));
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
  }
  free(block);
  return 0;
}
