// Makes one heap error, named by the first argument, on a block of 100 bytes; then says that it went on.
//
// Allocation, release and error are in functions of their own, so that the stacks of a report can be told apart.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

static char *volatile block;
static volatile char sink;

KEEP static void obtain_it(void) {
  block = malloc(112);
  memset(block, 'x', 112);
}
KEEP static void release_it(void) {
  free(block);
  __asm__ volatile("");
}
KEEP static void *in_thread(void *unused) {
  release_it();
  return unused;
}
KEEP static void use_it(char *at, int write) {
  if (write)
    *(volatile char *)at = 'y';
  else
    sink = *(volatile char *)at;
}

static void handler(int number) {
  static const char text[] = "own handler\n";
  (void)number;
  if (write(1, text, sizeof text - 1) < 0) _exit(4);
  _exit(3);
}

// A block that ends (or begins) with its page: then the byte beyond is one that faults.
static int find_edge(int at_the_end) {
  for (int i = 0; i < 200; i++) {
    obtain_it();
    const int begins = (uintptr_t)block % 4096 == 0;
    const int ends = ((uintptr_t)block + 112) % 4096 == 0;
    if (at_the_end ? ends : begins) return 1;
    free(block);
  }
  return 0;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  const int is_read = strstr(what, "read") != NULL;
  const int at_the_end = strstr(what, "underflow") == NULL;
  if (strstr(what, "own-handler")) signal(SIGSEGV, handler);
  if (!find_edge(at_the_end)) {
    puts("no guarded block");
    return 5;
  }
  if (strstr(what, "overflow-inside")) {  // beside the block, but in its page: found when it is released
    free(block);
    if (!find_edge(0)) return 5;
    use_it(block + 112, 1);
    release_it();
  } else if (strstr(what, "overflow")) {
    use_it(block + 112, !is_read);
    release_it();
  } else if (strstr(what, "underflow")) {
    use_it(block - 1, !is_read);
    release_it();
  } else if (strstr(what, "use-after-free")) {
    release_it();
    use_it(block + 8, !is_read);
    if (is_read && sink != 'x') puts("the old content is gone");
    use_it(block + 9, !is_read);
  } else if (strstr(what, "thread-free")) {
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread, NULL);
    pthread_join(thread, NULL);
    use_it(block, 1);
  } else if (strstr(what, "double-free")) {
    release_it();
    release_it();
  } else if (strstr(what, "realloc-freed")) {
    release_it();
    if (realloc(block, 300) != NULL) puts("got a block");
  } else if (strstr(what, "invalid-free")) {
    free(block + 16);
    release_it();
  } else if (strstr(what, "child")) {
    const pid_t child = fork();
    if (child == 0) {
      free(malloc(100));
      release_it();
      use_it(block, 1);
      puts("child went on");
      fflush(stdout);
      _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
  } else if (strstr(what, "wild")) {
    *(volatile int *)8 = 1;
  } else if (strstr(what, "sent")) {
    raise(SIGSEGV);
  } else if (strstr(what, "usable")) {
    printf("%d\n", malloc_usable_size(block) >= 112);
    release_it();
  }
  puts("went on");
  return 0;
}
