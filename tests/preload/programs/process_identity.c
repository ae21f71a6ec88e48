// Changes who and where it is in the middle of its life, and goes on allocating, also in threads and children that it
// makes only then; see process_identity_test.py. Prints what it finds itself to be, and how its children ended.
//   process_identity WAY [FOLDER]
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kRounds = 2000 };  // blocks that churn() takes: the test counts them

static void* churn(void* argument) {
  void* blocks[64] = {0};
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int i = 0; i < kRounds; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & 63;
    free(blocks[k]);
    blocks[k] = malloc(16 + (seed >> 8) % 3000);
    *(unsigned*)blocks[k] = seed;
  }
  for (int k = 0; k < 64; k++) free(blocks[k]);
  return NULL;
}

static int threads_now(void) {
  int n = -2;
  DIR* folder = opendir("/proc/self/task");
  if (folder == NULL) return 0;
  while (readdir(folder) != NULL) n++;
  closedir(folder);
  return n;
}

// A new thread, a child, and more of the same thread.
static int go_on(const char* what) {
  printf("%s: uid %d, errno %d, threads %d\n", what, (int)getuid(), errno, threads_now());
  fflush(stdout);
  churn(NULL);
  pthread_t thread;
  const int failed = pthread_create(&thread, NULL, churn, (void*)1);
  if (failed == 0) pthread_join(thread, NULL);
  const pid_t child = fork();
  if (child == 0) {
    churn((void*)2);
    _exit(7);
  }
  int status = 0;
  if (child > 0) waitpid(child, &status, 0);
  churn((void*)3);
  printf("thread %d, child %d\n", failed, child > 0 ? WEXITSTATUS(status) : -errno);
  return 0;
}

static int report(const char* what, int result) {
  printf("%s %d\n", what, result == 0 ? 0 : errno);
  errno = 0;
  return result;
}

static int become_nobody(void) {
  report("setgroups", setgroups(0, NULL));
  report("setgid", setgid(65534));
  return report("setuid", setuid(65534));
}

static int stopped(void) {
  // The child is stopped while it allocates, and continued; its parent waits for both.
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 20; i++) churn((void*)(uintptr_t)i);
    _exit(7);
  }
  int status = 0, stops = 0;
  while (stops < 20) {
    kill(child, SIGSTOP);
    if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) break;
    usleep(20000);
    kill(child, SIGCONT);
    stops++;
  }
  if (stops == 20) waitpid(child, &status, 0);
  printf("child %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  return 0;
}

int main(int argc, char** argv) {
  const int errno_at_main = errno;
  if (argc < 2) return 2;
  const char* way = argv[1];
  const char* folder = argc > 2 ? argv[2] : "/";
  printf("errno at main %d\n", errno_at_main);
  errno = 0;
  churn(NULL);
  if (strcmp(way, "nothing") == 0) return go_on("as it was");
  if (strcmp(way, "uid") == 0) {
    become_nobody();
    return go_on("nobody");
  }
  if (strcmp(way, "uid_with_threads") == 0) {  // glibc tells all threads by a signal
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, churn, (void*)(uintptr_t)i);
    become_nobody();
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    return go_on("nobody");
  }
  if (strcmp(way, "worker") == 0) {  // as a server does: the master stays root
    const pid_t worker = fork();
    if (worker == 0) {
      become_nobody();
      go_on("worker");
      exit(9);
    }
    int status = 0;
    waitpid(worker, &status, 0);
    printf("worker %d\n", WEXITSTATUS(status));
    return go_on("master");
  }
  if (strcmp(way, "chroot") == 0) {
    report("chroot", chroot(folder));
    report("chdir", chdir("/"));
    return go_on("in its own root");
  }
  if (strcmp(way, "chroot_exec") == 0) {
    report("chroot", chroot(folder));
    report("chdir", chdir("/"));
    fflush(stdout);
    execl("/program", "program", "nothing", NULL);
    return 1;
  }
  if (strcmp(way, "stopped") == 0) return stopped();
  const struct {
    const char* name;
    int flags;
  } kinds[] = {{"user", CLONE_NEWUSER},   {"pid", CLONE_NEWPID}, {"mount", CLONE_NEWNS},
               {"network", CLONE_NEWNET}, {"ipc", CLONE_NEWIPC}, {"names", CLONE_NEWUTS},
               {"files", CLONE_FILES},    {"paths", CLONE_FS},   {"user+pid", CLONE_NEWUSER | CLONE_NEWPID}};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    if (strcmp(way, kinds[i].name) != 0) continue;
    report("unshare", unshare(kinds[i].flags));
    if (kinds[i].flags & CLONE_NEWPID) {  // the next child is process 1 of it; a thread could not be made any more
      const pid_t first = fork();
      if (first == 0) {
        printf("process %d\n", (int)getpid());
        go_on("in the namespace");
        exit(5);
      }
      int status = 0;
      if (first > 0) waitpid(first, &status, 0);
      churn((void*)4);
      printf("first %d\n", WEXITSTATUS(status));
      return 0;
    }
    return go_on("in the namespace");
  }
  if (strcmp(way, "setns") == 0) {
    const int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    report("unshare", unshare(CLONE_NEWNS));
    report("setns", setns(fd, CLONE_NEWNS));
    close(fd);
    return go_on("back");
  }
  return 2;
}
