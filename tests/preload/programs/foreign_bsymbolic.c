// A program beside a library that has bound its own malloc to itself; see foreign_test.py. Plainly the library's malloc
// serves the program, too, as it stands before libc; with a preload before both, only the library's own calls reach it.
#include <stdio.h>
#include <stdlib.h>

int own_trade(void);

int main(void) {
  int good = 0;
  for (int i = 0; i < 1000; i++) {
    char* volatile block = malloc((size_t)i + 1);
    block[i] = 1;
    block = realloc(block, 5000);
    good += block[i] == 1;
    free(block);
  }
  printf("library %d program %d\n", own_trade(), good);
  return 0;
}
