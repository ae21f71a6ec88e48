// Linked to libtidemark.so itself, so that the library is there in a setuid program too; see process_identity_test.py.
// Prints whether something is recorded, and the effective user.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int tidemark_is_recording(void);

int main(void) {
  for (int i = 0; i < 1000; i++) {
    void* volatile block = malloc(100 + (size_t)i * 50);
    free(block);
  }
  printf("recording %d, effective user %d\n", tidemark_is_recording(), (int)geteuid());
  return 0;
}
