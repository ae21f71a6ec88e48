// What open() answers in main, and what is left of files that took the numbers of closed standard streams; see
// process_daemon_test.py. Everything is told by the exit status: standard output may be anybody's.
//   process_descriptors FILE OPEN     OPEN: the numbers that are open at start, such as 012
// 0: nothing else was open, the lowest free number was given again and again, and FILE holds what was written to it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void* thread_main(void* argument) {
  for (int i = 0; i < 2000; i++) {
    void* volatile block = malloc(1000 + (size_t)i * 10);
    free(block);
  }
  return argument;
}
static void churn(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, thread_main, NULL);
  thread_main(NULL);
  pthread_join(thread, NULL);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int expected = 0;
  while (strchr(argv[2], '0' + expected) != NULL) expected++;
  for (int fd = 0; fd < 1024; fd++) {
    if ((fcntl(fd, F_GETFD) != -1) != (fd < 10 && strchr(argv[2], '0' + fd) != NULL)) return 10;
  }
  for (int i = 0; i < 5; i++) {
    const int fd = open("/dev/null", O_RDONLY);
    if (fd != expected) return 11;
    churn();
    close(fd);
  }
  for (int fd = 0; fd < 3; fd++) close(fd);
  for (int fd = 0; fd < 3; fd++) {
    if (open(argv[1], O_RDWR | O_CREAT | O_APPEND, 0600) != fd) return 12;
  }
  if (write(1, "one\n", 4) != 4) return 13;
  churn();
  free((void*)0);
  if (write(2, "two\n", 4) != 4) return 14;
  churn();
  char text[100];
  if (pread(0, text, sizeof text, 0) != 8 || memcmp(text, "one\ntwo\n", 8) != 0) return 15;
  for (int fd = 3; fd < 1024; fd++) {
    if ((fcntl(fd, F_GETFD) != -1) != (fd < 10 && strchr(argv[2], '0' + fd) != NULL)) return 16;
  }
  return 0;
}
