// Every way to become two processes, each with a heap that goes on working on both sides; see fork_test.py.
//   fork_ways WAY [COUNT]      prints what must not depend on who allocates: how many children ended as they should
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;
static volatile int stop = 0;

// Fills blocks and checks their contents when they are freed: a block that two owners write to is found.
static void churn(unsigned seed, int rounds) {
  void* blocks[64] = {0};
  for (int i = 0; i < rounds; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & 63;
    if (blocks[k] != NULL && *(uintptr_t*)blocks[k] != (uintptr_t)blocks[k]) abort();
    free(blocks[k]);
    blocks[k] = malloc(16 + (seed >> 8) % 3000);
    *(uintptr_t*)blocks[k] = (uintptr_t)blocks[k];
  }
  for (int k = 0; k < 64; k++) free(blocks[k]);
}
static void* churn_until_stop(void* argument) {
  do {
    churn((unsigned)(uintptr_t)argument, 1000);
  } while (!stop);
  return NULL;
}

static int ended_with(pid_t child, int expected) {
  int status = 0;
  pid_t got;
  do {
    got = waitpid(child, &status, __WALL);
  } while (got < 0 && errno == EINTR);
  return child > 0 && got == child && WIFEXITED(status) && WEXITSTATUS(status) == expected;
}

// Children of a process whose other threads hold whatever an allocator holds. Every fourth starts a thread itself.
static int storm(int count) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, churn_until_stop, (void*)(uintptr_t)(i + 1));
  int good = 0;
  for (int i = 0; i < count; i++) {
    const pid_t child = fork();
    if (child == 0) {
      churn((unsigned)i, 300);
      if (i % 4 == 0) {
        pthread_t thread;
        stop = 1;
        if (pthread_create(&thread, NULL, churn_until_stop, NULL) != 0) _exit(1);
        pthread_join(thread, NULL);
      }
      if (i % 8 == 1) exit(i % 100);
      _exit(i % 100);
    }
    good += ended_with(child, i % 100);
  }
  stop = 1;
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  printf("good %d\n", good);
  return 0;
}

// A single-threaded process may fork in a handler that has interrupted malloc. Of three children one ends at once, one
// calls exec, and one returns from the handler and goes on in the middle of whatever was interrupted.
static volatile sig_atomic_t handled = 0, failed = 0, am_child = 0;
static void fork_in_handler(int number) {
  (void)number;
  if (am_child) return;
  const int saved = errno;
  const int way = handled % 3;
  const pid_t child = fork();
  if (child == 0) {
    am_child = 1;
    if (way == 0) _exit(3);
    if (way == 1) {
      char* arguments[] = {"/bin/sh", "-c", "exit 3", NULL};
      execve(arguments[0], arguments, environ);
      _exit(1);
    }
    errno = saved;
    return;
  }
  if (!ended_with(child, 3)) failed++;
  handled++;
  errno = saved;
}
static int in_handler(int count) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = fork_in_handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval often = {{0, 300}, {0, 300}}, off = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  for (unsigned i = 0; handled < count; i++) {
    churn(i, 50);
    if (am_child) {
      churn(i, 200);
      _exit(3);
    }
  }
  setitimer(ITIMER_REAL, &off, NULL);
  printf("forked in a handler, failures %d\n", (int)failed);
  return 0;
}

static pid_t raw_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static pid_t raw_fork(void) { return (pid_t)syscall(SYS_fork); }
static int each_way(pid_t (*make)(void), int count) {
  int good = 0;
  churn(1, 1000);
  void* kept = malloc(5000);
  memset(kept, 7, 5000);
  for (int i = 0; i < count; i++) {
    const pid_t child = make();
    if (child == 0) {
      int wrong = 0;
      for (int k = 0; k < 5000; k++) wrong += ((char*)kept)[k] != 7;
      free(kept);
      churn((unsigned)i, 500);
      _exit(wrong ? 1 : i % 100);
    }
    churn((unsigned)i, 20);
    good += ended_with(child, i % 100);
  }
  free(kept);
  printf("good %d\n", good);
  return 0;
}

// A vforked child that allocates: it is its parent, as far as memory goes, and what it takes the parent gives back.
static int with_vfork(int count) {
  int good = 0;
  for (int i = 0; i < count; i++) {
    static void* volatile taken;
    const pid_t child = vfork();
    if (child == 0) {
      taken = malloc(1000 + (size_t)i);
      void* volatile other = malloc(100000);
      free(other);
      if (i % 2 == 0) _exit(5);
      char* arguments[] = {"/bin/sh", "-c", "exit 5", NULL};
      execve(arguments[0], arguments, environ);
      _exit(1);
    }
    good += ended_with(child, 5);
    memset(taken, 1, 1000 + (size_t)i);
    free(taken);
    churn((unsigned)i, 100);
  }
  printf("good %d\n", good);
  return 0;
}

// Children on stacks of their own that share the memory: their parent waits, as it must, since they share its
// thread-local storage, too.
static void* volatile handed_over;
static int shared_child(void* argument) {
  churn((unsigned)(uintptr_t)argument, 300);
  handed_over = malloc(2000);
  return 6;
}
static int shared_memory(int count) {
  int good = 0;
  char* stack = malloc(256 << 10);
  for (int i = 0; i < count; i++) {
    const int flags = i % 2 == 0 ? CLONE_VM | SIGCHLD : CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_FILES | SIGCHLD;
    const pid_t child = clone(shared_child, stack + (256 << 10), flags, (void*)(uintptr_t)i);
    good += ended_with(child, 6);
    free(handed_over);
    churn((unsigned)i, 100);
  }
  free(stack);
  printf("good %d\n", good);
  return 0;
}

// A raw thread of the same process and with the same thread-local storage, while its maker sleeps in a futex.
static volatile int raw_thread_id;
static int raw_thread(void* argument) {
  churn((unsigned)(uintptr_t)argument, 300);
  handed_over = malloc(3000);
  return 0;
}
static int raw_threads(int count) {
  int good = 0;
  char* stack = malloc(256 << 10);
  for (int i = 0; i < count; i++) {
    handed_over = NULL;
    raw_thread_id = -1;
    const int flags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    if (clone(raw_thread, stack + (256 << 10), flags, (void*)(uintptr_t)i, &raw_thread_id, NULL, &raw_thread_id) < 0) {
      continue;
    }
    for (int seen; (seen = raw_thread_id) != 0;) syscall(SYS_futex, &raw_thread_id, 0, seen, NULL);
    good += handed_over != NULL;
    free(handed_over);
    churn((unsigned)i, 100);
  }
  free(stack);
  printf("good %d\n", good);
  return 0;
}

static int spawns(int count) {
  int good = 0;
  for (int i = 0; i < count; i++) {
    char* arguments[] = {"/bin/sh", "-c", "exit 5", NULL};
    pid_t child = 0;
    if (posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0) good += ended_with(child, 5);
    good += WEXITSTATUS(system("exit 9")) == 9;
    FILE* pipe = popen("echo from a pipe; exit 4", "r");
    char line[100] = "";
    good += fgets(line, sizeof line, pipe) != NULL && strcmp(line, "from a pipe\n") == 0;
    good += WEXITSTATUS(pclose(pipe)) == 4;
    churn((unsigned)i, 100);
  }
  printf("good %d\n", good);
  return 0;
}

// Three generations, five children each, that all allocate before and after.
static int tree(int depth) {
  churn((unsigned)depth, 200);
  int sum = 1;
  for (int i = 0; depth > 0 && i < 5; i++) {
    const pid_t child = fork();
    if (child == 0) _exit(tree(depth - 1));
    int status = 0;
    waitpid(child, &status, 0);
    sum += WEXITSTATUS(status);
    churn((unsigned)i, 50);
  }
  return sum;
}

// One process, `count` images one after the other, each with blocks that it leaves behind.
static int chain(char** argv, int count) {
  churn((unsigned)count, 500);
  void* volatile left = malloc(1000 * (size_t)count);
  (void)left;
  if (count > 1) {
    char text[12];
    snprintf(text, sizeof text, "%d", count - 1);
    char* arguments[] = {argv[0], argv[1], text, NULL};
    execve("/proc/self/exe", arguments, environ);
    return 1;
  }
  printf("the last image\n");
  return 4;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const char* way = argv[1];
  const int count = atoi(argv[2]);
  if (strcmp(way, "storm") == 0) return storm(count);
  if (strcmp(way, "handler") == 0) return in_handler(count);
  if (strcmp(way, "fork") == 0) return each_way(fork, count);
  if (strcmp(way, "_Fork") == 0) return each_way(_Fork, count);
  if (strcmp(way, "clone") == 0) return each_way(raw_clone, count);
  if (strcmp(way, "SYS_fork") == 0) return each_way(raw_fork, count);
  if (strcmp(way, "vfork") == 0) return with_vfork(count);
  if (strcmp(way, "shared") == 0) return shared_memory(count);
  if (strcmp(way, "raw_thread") == 0) return raw_threads(count);
  if (strcmp(way, "spawn") == 0) return spawns(count);
  if (strcmp(way, "chain") == 0) return chain(argv, count);
  if (strcmp(way, "tree") == 0) {
    printf("processes %d\n", tree(count));
    return 0;
  }
  return 2;
}
