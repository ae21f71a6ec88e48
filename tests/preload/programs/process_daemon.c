// A daemon that keeps nothing of where it came from: no descriptor, no terminal, no directory, no parent; and that then
// uses the freed descriptor numbers for files of its own. See process_daemon_test.py.
//   process_daemon FOLDER HOW     HOW: loop, closefrom, close_range: the way it closes its descriptors
// Writes FOLDER/result, with what it found, as its last act; FOLDER/parent-gone must appear before it goes on.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kFiles = 12, kBytes = 4096 };
static char folder[3000];

static void churn(unsigned seed, int rounds) {
  void* blocks[64] = {0};
  for (int i = 0; i < rounds; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & 63;
    free(blocks[k]);
    blocks[k] = malloc(16 + (seed >> 8) % 3000);
  }
  for (int k = 0; k < 64; k++) free(blocks[k]);
}

static void path_in_folder(char* out, const char* name, int number) { sprintf(out, "%s/%s%d", folder, name, number); }

static void close_all(const char* how) {
  if (strcmp(how, "closefrom") == 0) return closefrom(0);
  if (strcmp(how, "close_range") == 0 && close_range(0, ~0u, 0) == 0) return;
  for (int fd = 0; fd < 1024; fd++) close(fd);
}

// Errors found, as text: nothing may have moved an offset, closed a descriptor or changed a byte.
static int check(char* out) {
  int errors = 0;
  for (int i = 0; i < kFiles; i++) {
    char bytes[kBytes + 100];
    const off_t at = lseek(i, 0, SEEK_CUR);
    const ssize_t n = pread(i, bytes, sizeof bytes, 0);
    int wrong = 0;
    for (ssize_t k = 0; k < n; k++) wrong += bytes[k] != (char)(i + k % 100);
    if (at != 100 + i || n != kBytes || wrong != 0) {
      out += sprintf(out, "fd %d: offset %ld, %ld bytes, %d wrong\n", i, (long)at, (long)n, wrong);
      errors++;
    }
  }
  if (fcntl(kFiles, F_GETFD) != -1) errors++, out += sprintf(out, "fd %d is open\n", kFiles);
  return errors;
}

static int daemon_main(const char* how) {
  char path[4096], text[8192] = "", *end = text;
  close_all(how);
  if (chdir("/") != 0) return 1;
  umask(077);
  for (int i = 0; i < kFiles; i++) {
    path_in_folder(path, "file", i);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    end += fd == i ? 0 : sprintf(end, "file %d got fd %d\n", i, fd);
    char bytes[kBytes];
    for (int k = 0; k < kBytes; k++) bytes[k] = (char)(i + k % 100);
    if (write(fd, bytes, kBytes) != kBytes || lseek(fd, 100 + i, SEEK_SET) != 100 + i) return 1;
  }
  snprintf(path, sizeof path, "%s/parent-gone", folder);
  while (access(path, F_OK) != 0) {
    if (access(folder, F_OK) != 0) return 1;  // the test has ended
    usleep(1000);
  }
  churn(1, 20000);
  check(end), end += strlen(end);
  // A child that inherits those descriptors and must leave them alone, too, when it attaches.
  const pid_t child = fork();
  if (child == 0) {
    churn(2, 20000);
    _exit(check(end) == 0 ? 3 : 4);
  }
  int status = 0;
  waitpid(child, &status, 0);
  end += sprintf(end, "child %d\n", WEXITSTATUS(status));
  churn(3, 20000);
  check(end), end += strlen(end);
  close(0);
  snprintf(path, sizeof path, "%s/result.new", folder);
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  end += sprintf(end, "result fd %d\n", fd);
  if (write(fd, text, (size_t)(end - text)) != end - text) return 1;
  char result[4096];
  snprintf(result, sizeof result, "%s/result", folder);
  return rename(path, result);
}

int main(int argc, char** argv) {
  if (argc != 3 || strlen(argv[1]) >= sizeof folder) return 2;
  strcpy(folder, argv[1]);
  churn(4, 1000);
  const pid_t first = fork();
  if (first != 0) {
    int status = 1;
    waitpid(first, &status, 0);
    return WEXITSTATUS(status);
  }
  churn(5, 1000);
  if (setsid() < 0) _exit(1);
  if (fork() != 0) _exit(0);
  _exit(daemon_main(argv[2]));
}
