// Works within limits that it sets itself in main: only what happens after start meets them. See limits_test.py.
//   limit_rows LIMIT VALUE      LIMIT: one of the table below, mlockall (VALUE: its flags), exhaust, none
// Prints what must not depend on who allocates; how much memory a limit leaves does, so of that only the sign.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures = 0;

static void* churn(void* argument) {
  void* blocks[64] = {0};
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int i = 0; i < 3000; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & 63;
    if (blocks[k] != NULL && *(uintptr_t*)blocks[k] != (uintptr_t)blocks[k]) abort();
    free(blocks[k]);
    errno = 0;
    blocks[k] = malloc(16 + (seed >> 8) % 3000);
    if (blocks[k] == NULL) {
      if (errno != ENOMEM) abort();
      failures++;
      continue;
    }
    *(uintptr_t*)blocks[k] = (uintptr_t)blocks[k];
  }
  for (int k = 0; k < 64; k++) free(blocks[k]);
  return NULL;
}

// Takes megabytes until there are none, gives them back, and finds small blocks to be had again.
static void exhaust(void) {
  enum { kMost = 4096 };
  static void* blocks[kMost];
  int n = 0;
  errno = 0;
  while (n < kMost && (blocks[n] = malloc(1 << 20)) != NULL) {
    memset(blocks[n], n, 4096);
    n++;
  }
  printf("exhausted %d, errno %d\n", n < kMost, n < kMost ? errno : 0);
  for (int i = 0; i < n; i++) {
    if (*(unsigned char*)blocks[i] != (unsigned char)i) printf("block %d has lost its contents\n", i);
    free(blocks[i]);
  }
  void* small = malloc(100);
  printf("small blocks again %d\n", small != NULL);
  free(small);
}

static void handle(int number) { (void)number; }

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const struct {
    const char* name;
    int resource;
  } limits[] = {{"as", RLIMIT_AS},           {"nproc", RLIMIT_NPROC},
                {"nofile", RLIMIT_NOFILE},   {"stack", RLIMIT_STACK},
                {"cpu", RLIMIT_CPU},         {"fsize", RLIMIT_FSIZE},
                {"core", RLIMIT_CORE},       {"memlock", RLIMIT_MEMLOCK},
                {"sigpending", RLIMIT_SIGPENDING}};
  const char* name = argv[1];
  const long value = atol(argv[2]);
  signal(SIGXFSZ, SIG_IGN);
  for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
    if (strcmp(name, limits[i].name) != 0) continue;
    struct rlimit limit;
    getrlimit((__rlimit_resource_t)limits[i].resource, &limit);
    limit.rlim_cur = (rlim_t)value;
    if (limits[i].resource == RLIMIT_CPU) limit.rlim_max = (rlim_t)value + 5;
    printf("setrlimit %d\n", setrlimit((__rlimit_resource_t)limits[i].resource, &limit));
  }
  if (strcmp(name, "mlockall") == 0) printf("mlockall %d\n", mlockall((int)value) == 0 ? 0 : errno);
  fflush(stdout);
  churn((void*)1);
  if (strcmp(name, "exhaust") == 0) exhaust();
  if (strcmp(name, "cpu") == 0) {
    for (;;) churn((void*)2);  // until SIGXCPU
  }
  if (strcmp(name, "sigpending") == 0) {
    // Real-time signals that are queued while they are blocked. All processes of the user share the limit.
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGRTMIN, handle);
    int queued = 0;
    while (queued < 2 * value && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) queued++;
    printf("queued many: %d, all: %d\n", queued > value / 2, queued > value);
    churn((void*)3);
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 10);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, churn, (void*)4);
  if (failed == 0) pthread_join(thread, NULL);
  const pid_t child = fork();
  if (child == 0) {
    churn((void*)5);
    _exit(7);
  }
  int status = 0;
  const int fork_error = errno;
  if (child > 0) waitpid(child, &status, 0);
  churn((void*)6);
  printf("thread %d, child %d\n", failed, child > 0 ? WEXITSTATUS(status) : -fork_error);
  return failures > 0;
}
