// Prints what a process can see of its surroundings; see neutral_test.py. Everything that must not differ under
// tidemark: errno and the program's name at main, what a library's constructor is given, descriptors, threads,
// children, signal mask and actions, alternate stack, limits, umask.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void descriptors(const char* when) {
  for (int fd = 0; fd < 1024; fd++) {
    struct stat st;
    if (fstat(fd, &st) == 0) printf("%s fd %d type %o\n", when, fd, st.st_mode & S_IFMT);
  }
}

static void tasks(const char* path, const char* what) {
  int n = 0;
  DIR* dir = opendir(path);
  while (readdir(dir) != NULL) n++;
  closedir(dir);
  printf("%s %d\n", what, n - 2);
}

static void* thread_main(void* argument) {
  void* volatile p = malloc(123456);
  free(p);
  return argument;
}

int main(int argc, char** argv) {
  const int at_main = errno;
  void* volatile block = malloc(100000);
  errno = 77;
  free(block);
  const int after_free = errno;
  printf("errno %d, after free %d\n", at_main, after_free);
  printf("name %s, %s\n", program_invocation_name, program_invocation_short_name);
  if (argc != 2 || dlopen(argv[1], RTLD_NOW) == NULL) printf("no library was opened: %s\n", dlerror());
  descriptors("start");
  tasks("/proc/self/task", "threads");
  sigset_t mask;
  sigprocmask(SIG_SETMASK, NULL, &mask);
  for (int s = 1; s < NSIG; s++) {
    struct sigaction action;
    if (sigaction(s, NULL, &action) != 0) continue;
    if (sigismember(&mask, s) == 1 || action.sa_handler != SIG_DFL) {
      printf("signal %d blocked %d default %d ignored %d\n", s, sigismember(&mask, s), action.sa_handler == SIG_DFL,
             action.sa_handler == SIG_IGN);
    }
  }
  stack_t alternate;
  sigaltstack(NULL, &alternate);
  printf("altstack flags %d\n", alternate.ss_flags);
  pthread_t threads[20];
  for (int i = 0; i < 20; i++) pthread_create(&threads[i], NULL, thread_main, NULL);
  for (int i = 0; i < 20; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 5; i++) {
    const pid_t child = fork();
    if (child == 0) {
      void* volatile p = malloc(1000);
      free(p);
      descriptors("child");
      fflush(stdout);
      _exit(i);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) printf("waitpid failed\n");
    printf("child %d\n", WEXITSTATUS(status));
    fflush(stdout);
  }
  errno = 0;
  const pid_t none = waitpid(-1, NULL, WNOHANG);
  printf("children left: %d errno %d\n", (int)none, errno);
  FILE* opened = fopen("/dev/null", "r");
  printf("next fd %d\n", fileno(opened));
  fclose(opened);
  pthread_key_t key;
  int keys = 0;
  while (pthread_key_create(&key, NULL) == 0) keys++;
  printf("keys at least 1000: %d\n", keys >= 1000);
  struct rlimit limit;
  for (int i = 0; i < 16; i++) {
    if (getrlimit(i, &limit) == 0)
      printf("limit %d %llu %llu\n", i, (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
  }
  printf("umask %o, nice %d\n", umask(0), getpriority(PRIO_PROCESS, 0));
  descriptors("end");
  tasks("/proc/self/task", "threads");
  return 0;
}
