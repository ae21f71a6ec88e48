/* Programs that are asked for their leaks while they run. Blocks are named by their sizes: 1001 are lost, others held.
 *
 *   leak_demand WHAT     prints its pid, runs until its standard input ends, prints what it has noticed
 *
 * Must not: print with stdio (its buffers are blocks, too). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUT_OF_LINE __attribute__((noinline, noclone))

static void **global, **mapped, **shared;
static volatile int ended, interrupted, children_ended, urgent;
static pthread_t threads[4];

static void **block(size_t size) {
  void **made = malloc(size);
  memset(made, 0, size);
  return made;
}

OUT_OF_LINE static void lose(void) {
  for (int i = 0; i < 10; i++) block(1001);
}

static void say(const char *name, long number) {
  char text[64], digits[24];
  size_t n = sizeof digits;
  digits[--n] = '\n';
  do digits[--n] = '0' + number % 10;
  while ((number /= 10) != 0);
  size_t length = strlen(name);
  memcpy(text, name, length);
  memcpy(text + length, digits + n, sizeof digits - n);
  if (write(1, text, length + sizeof digits - n) < 0) _exit(9);
}

static void on_child(int number) {
  (void)number;
  children_ended++;
}
static void on_urgent(int number) {
  (void)number;
  urgent++;
}

/* Sleeps in poll, as servers do. */
static void *sleeper(void *unused) {
  (void)unused;
  void **held = block(2001);
  while (!ended) {
    if (poll(NULL, 0, 200) < 0 && errno == EINTR) __atomic_add_fetch(&interrupted, 1, __ATOMIC_RELAXED);
    held[0] = held;
  }
  free(held);
  return NULL;
}

/* Makes and drops lists, and is stopped anywhere in it. */
static void *worker(void *unused) {
  (void)unused;
  for (uint64_t round = 0; !ended; round++) {
    void **list = NULL;
    for (int i = 0; i < 50; i++) {
      void **head = block(16 + (round * 7 + i) % 500);
      head[0] = list;
      list = head;
    }
    while (list != NULL) {
      void **next = list[0];
      free(list);
      list = next;
    }
  }
  return NULL;
}

/* No process can be made any more. */
static int forbid_copies(void) {
  struct sock_filter filter[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_clone},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  struct sock_fprog program = {4, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void wait_for_end(void) {
  char byte;
  ssize_t n;
  while ((n = read(0, &byte, 1)) != 0) {
    if (n < 0 && errno == EINTR) interrupted++;
  }
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  void *(*run)(void *) = strcmp(what, "busy") == 0 ? worker : strcmp(what, "asleep") == 0 ? sleeper : NULL;
  struct sigaction child = {.sa_handler = on_child}, own = {.sa_handler = on_urgent};
  sigaction(SIGCHLD, &child, NULL);
  if (strcmp(what, "own-handler") == 0) sigaction(SIGURG, &own, NULL);
  global = block(3001);
  mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mapped[9] = block(3002);
  shared = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  shared[4001] = block(3003);
  lose();
  for (int i = 0; run != NULL && i < 4; i++) pthread_create(&threads[i], NULL, run, NULL);
  pid_t child_pid = 0;
  if (strcmp(what, "no-copies") == 0 && !forbid_copies()) return 9;
  if (strcmp(what, "fork") == 0) {
    child_pid = fork();
    if (child_pid == 0) {
      lose();
      say("", getpid());
      wait_for_end();
      _exit(0);
    }
    if (child_pid < 0) return 9;
  } else {
    say("", getpid());
  }
  wait_for_end();
  if (child_pid != 0) {
    while (waitpid(child_pid, NULL, 0) < 0 && errno == EINTR) continue;
    children_ended = 0;
  }
  ended = 1;
  for (int i = 0; run != NULL && i < 4; i++) pthread_join(threads[i], NULL);
  say("interrupted ", interrupted);
  say("children ", children_ended);
  errno = 0;
  const int none_left = waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
  say("none left ", none_left);
  return 0;
}
