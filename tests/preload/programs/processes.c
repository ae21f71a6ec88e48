// Forks, threads, signals, jumps and exits in all the ways that go with an allocator badly; see semantics_test.py.
// argv[1] names the case. Each prints what must not depend on who allocates.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;
static volatile int stop = 0;

static void churn(unsigned seed, int rounds) {
  void* blocks[64] = {0};
  for (int i = 0; i < rounds; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & 63;
    if (blocks[k] != NULL && *(unsigned*)blocks[k] != (unsigned)(uintptr_t)blocks[k]) abort();
    free(blocks[k]);
    blocks[k] = malloc(16 + (seed >> 8) % 3000);
    *(unsigned*)blocks[k] = (unsigned)(uintptr_t)blocks[k];
  }
  for (int k = 0; k < 64; k++) free(blocks[k]);
}
static void* churn_until_stop(void* argument) {
  while (!stop) churn((unsigned)(uintptr_t)argument, 1000);
  return NULL;
}
static void start_churning(pthread_t* threads, int count) {
  for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, churn_until_stop, (void*)(uintptr_t)(i + 1));
}
static void stop_churning(pthread_t* threads, int count) {
  stop = 1;
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

static int forks(void) {
  pthread_t threads[3];
  start_churning(threads, 3);
  int good = 0;
  for (int i = 0; i < 200; i++) {
    const pid_t child = fork();
    if (child == 0) {
      churn((unsigned)i, 200);
      _exit(7);
    }
    int status = 0;
    good += child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7;
  }
  stop_churning(threads, 3);
  printf("forks %d\n", good);
  return 0;
}

static volatile int handled = 0, failed = 0;
static void fork_in_handler(int number) {
  (void)number;
  const int saved = errno;
  const pid_t child = fork();
  if (child == 0) {
    void* volatile block = malloc(1000);
    free(block);
    _exit(3);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 3) failed++;
  handled++;
  errno = saved;
}
static void every_millisecond(void (*handler)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval often = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &often, NULL);
}
static void no_timer(void) {
  const struct itimerval off = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &off, NULL);
}
// The interrupted loop takes none of glibc's locks: its fork() would wait for the allocator's for ever.
static int handler_forks(void) {
  every_millisecond(fork_in_handler);
  volatile unsigned spin = 0;
  while (handled < 100) spin++;
  no_timer();
  churn(1, 10000);
  printf("forked in a handler, failures %d\n", failed);
  return 0;
}

static sigjmp_buf jump;
static volatile sig_atomic_t jumps = 0, armed = 0;
static void jump_out(int number) {
  (void)number;
  if (armed) siglongjmp(jump, 1);
}
// Out of the allocator's own code: undefined by the letter, survived by sampled and complete recording all the same.
static int long_jumps(void) {
  every_millisecond(jump_out);
  sigsetjmp(jump, 1);
  if (++jumps <= 200) {
    armed = 1;
    for (;;) {
      void* volatile block = strdup("a string that the handler takes the program away from");
      free(block);
    }
  }
  armed = 0;
  no_timer();
  churn(2, 10000);
  printf("jumped out\n");
  return 0;
}

static int spawns(void) {
  int good = 0;
  for (int i = 0; i < 20; i++) {
    char* arguments[] = {"/bin/sh", "-c", "exit 5", NULL};
    pid_t child = 0;
    int status = 0;
    if (posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) != 0) continue;
    good += waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5;
    child = vfork();
    if (child == 0) {
      execve(arguments[0], arguments, environ);
      _exit(1);
    }
    good += waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5;
    churn((unsigned)i, 100);
  }
  printf("spawned %d, system %d\n", good, WEXITSTATUS(system("exit 9")));
  FILE* pipe = popen("echo from a pipe", "r");
  char line[100] = "";
  if (fgets(line, sizeof line, pipe) != NULL) printf("%s", line);
  printf("pclose %d\n", pclose(pipe));
  return 0;
}

static int libraries(const char* path) {
  pthread_t threads[3];
  start_churning(threads, 3);
  int good = 0;
  for (int i = 0; i < 200; i++) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) continue;
    void* (*take)(size_t) = (void* (*)(size_t))dlsym(library, "plugin_take");
    void* block = take == NULL ? NULL : take(1000);
    good += block != NULL;
    dlclose(library);
    free(block);
  }
  stop_churning(threads, 3);
  printf("loaded %d\n", good);
  return 0;
}

static int deep_binding(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (library == NULL) return 1;
  void* (*take)(size_t) = (void* (*)(size_t))dlsym(library, "plugin_take");
  int good = 0;
  for (int i = 0; i < 1000; i++) {
    char* block = take((size_t)i * 7);
    memset(block, 1, (size_t)i * 7);
    block = realloc(block, (size_t)i * 9 + 1);
    good += i == 0 || block[i * 7 - 1] == 1;
    free(block);
    free(take(100));
  }
  printf("taken from the plugin %d\n", good);
  return 0;
}

static void* after_main(void* argument) {
  pthread_join(*(pthread_t*)argument, NULL);
  churn(4, 10000);
  printf("after main's thread\n");
  fflush(stdout);
  exit(6);
}
static void at_exit(void) {
  churn(5, 1000);
  printf("at exit\n");
}

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "";
  const char* path = argc > 2 ? argv[2] : "";
  static pthread_t self, other;
  if (strcmp(name, "forks") == 0) return forks();
  if (strcmp(name, "handler_forks") == 0) return handler_forks();
  if (strcmp(name, "long_jumps") == 0) return long_jumps();
  if (strcmp(name, "spawns") == 0) return spawns();
  if (strcmp(name, "libraries") == 0) return libraries(path);
  if (strcmp(name, "deep_binding") == 0) return deep_binding(path);
  if (strcmp(name, "main_leaves") == 0) {
    self = pthread_self();
    pthread_create(&other, NULL, after_main, &self);
    pthread_exit(NULL);
  }
  if (strcmp(name, "thread_exits") == 0) {
    atexit(at_exit);
    pthread_t threads[3];
    start_churning(threads, 3);
    churn(6, 1000);
    exit(8);
  }
  return 2;
}
