// A preload that writes down what a process of any program can see of itself: at the entry of main, and at its end.
//
// One record a look, appended by one write to the file that NEUTRAL_OBSERVER names. It stands in front of the C
// library's start of main and of _exit, so the program needs no change, and each image and each forked child of it is
// seen. neutral_workload.py compares the records of runs with and without tidemark.
//
// Must not: allocate, keep a descriptor, change errno or a signal's action: what it writes down is the program's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

struct KernelAction {
  uintptr_t handler;
  uint64_t flags;
  uintptr_t restorer;
  uint64_t mask;
};

static char path[512];
static char text[1 << 16];
static size_t length;
static atomic_flag busy = ATOMIC_FLAG_INIT;

// Room for one more line is kept, so that a full record ends in a whole line.
static void add(const char* format, ...) {
  if (length > sizeof text - 1024) return;
  va_list arguments;
  va_start(arguments, format);
  const int n = vsnprintf(text + length, 1000, format, arguments);  // integers and strings: glibc allocates for neither
  va_end(arguments);
  if (n > 0) length += n < 1000 ? n : 999;
}

static size_t read_file(const char* name, char* into, size_t room) {
  const int fd = open(name, O_RDONLY | O_CLOEXEC);
  size_t got = 0;
  for (ssize_t n; fd >= 0 && got < room - 1 && (n = read(fd, into + got, room - 1 - got)) > 0;) got += n;
  if (fd >= 0) close(fd);
  into[got] = 0;
  return got;
}

static void add_status(void) {
  static const char* const wanted[] = {
      "Umask:",  "Uid:",    "Gid:",    "Groups:",     "VmLck:",   "VmPin:",       "Threads:",
      "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:",     "SigCgt:",  "CapInh:",      "CapPrm:",
      "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "THP_enabled:", "Cpus_allowed:"};
  char status[8192];
  read_file("/proc/self/status", status, sizeof status);
  char* rest = NULL;
  for (char* line = strtok_r(status, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
      if (strncmp(line, wanted[i], strlen(wanted[i])) == 0) add("status %s\n", line);
    }
  }
}

static void add_descriptors(void) {
  const int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  char entries[4096];
  for (long n; folder >= 0 && (n = syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0;) {
    for (long at = 0; at < n; at += ((struct DirectoryEntry*)(entries + at))->length) {
      const char* name = ((struct DirectoryEntry*)(entries + at))->name;
      const int fd = atoi(name);
      char target[256];
      struct stat st;
      const ssize_t size = readlinkat(folder, name, target, sizeof target - 1);
      if (name[0] == '.' || fd == folder || size < 0 || fstat(fd, &st) != 0) continue;
      target[size] = 0;
      // "pipe:[12345]", "socket:[12345]": the number is another one each time.
      char* bracket = target[0] == '/' ? NULL : strchr(target, '[');
      if (bracket != NULL && bracket[1] >= '0' && bracket[1] <= '9') *bracket = 0;
      add("fd %d %s flags %o close-on-exec %d", fd, target, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
      if (S_ISREG(st.st_mode)) add(" offset %lld", (long long)lseek(fd, 0, SEEK_CUR));
      add("\n");
    }
  }
  if (folder >= 0) close(folder);
}

// Numbers 32 and 33 are glibc's own; only the system call tells of them.
static void add_signals(void) {
  for (int number = 1; number <= 64; number++) {
    struct KernelAction action;
    if (syscall(SYS_rt_sigaction, number, NULL, &action, 8) != 0) continue;
    if (action.handler == 0 && action.flags == 0 && action.mask == 0) continue;
    const char* what = action.handler == 0 ? "default" : action.handler == 1 ? "ignored" : "handled";
    add("signal %d %s flags %llx mask %llx\n", number, what, (unsigned long long)action.flags,
        (unsigned long long)action.mask);
  }
  stack_t alternate;
  if (sigaltstack(NULL, &alternate) == 0) {
    add("altstack flags %d size %zu\n", alternate.ss_flags, (alternate.ss_flags & SS_DISABLE) ? 0 : alternate.ss_size);
  }
}

static void add_timers(void) {
  for (int which = 0; which < 3; which++) {
    struct itimerval timer;
    if (getitimer(which, &timer) == 0) {
      add("itimer %d set %d\n", which, timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0);
    }
  }
  char timers[4096];
  int count = 0;
  read_file("/proc/self/timers", timers, sizeof timers);
  for (const char* at = timers; (at = strstr(at, "ID:")) != NULL; at++) count++;
  add("timers %d\n", count);
}

static void add_children(void) {
  char name[64], children[4096];
  snprintf(name, sizeof name, "/proc/self/task/%d/children", (int)syscall(SYS_gettid));
  read_file(name, children, sizeof children);
  int count = 0;
  for (const char* at = children; *at != 0; at++) count += *at == ' ';
  add("children %d\n", count);
}

static void add_limits(void) {
  for (int which = 0; which < RLIM_NLIMITS; which++) {
    struct rlimit limit;
    if (getrlimit(which, &limit) == 0) {
      add("limit %d %llu %llu\n", which, (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
    }
  }
}

static void add_attributes(void) {
  static const int asked[] = {PR_GET_DUMPABLE,   PR_GET_KEEPCAPS,    PR_GET_TIMERSLACK,
                              PR_GET_SECUREBITS, PR_GET_THP_DISABLE, PR_MCE_KILL_GET};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) add("prctl %d %d\n", asked[i], prctl(asked[i], 0, 0, 0, 0));
  int by_pointer[3] = {0};
  prctl(PR_GET_PDEATHSIG, &by_pointer[0]);
  prctl(PR_GET_CHILD_SUBREAPER, &by_pointer[1]);
  prctl(PR_GET_TSC, &by_pointer[2]);
  add("death signal %d subreaper %d tsc %d\n", by_pointer[0], by_pointer[1], by_pointer[2]);
  add("personality %x nice %d scheduler %d\n", personality(0xffffffff), getpriority(PRIO_PROCESS, 0),
      sched_getscheduler(0));
  add("leads group %d leads session %d\n", getpgrp() == getpid(), getsid(0) == getpid());
  char folder[1024];
  for (int i = 0; i < 2; i++) {
    const ssize_t n = readlink(i == 0 ? "/proc/self/cwd" : "/proc/self/root", folder, sizeof folder - 1);
    folder[n > 0 ? n : 0] = 0;
    add("%s %s\n", i == 0 ? "cwd" : "root", folder);
  }
}

// All of it but the variables that record has to set; one number, since an environment can be larger than a record. The
// working folder is told apart: its name may be random.
static void add_environment(void) {
  static const char* const ours[] = {"LD_PRELOAD=", "TIDEMARK_OPTIONS=", "NEUTRAL_OBSERVER="};
  uint64_t hash = 14695981039346656037u;
  int count = 0;
  for (char** entry = environ; entry != NULL && *entry != NULL; entry++) {
    int skip = 0;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) skip |= strncmp(*entry, ours[i], strlen(ours[i])) == 0;
    if (skip) continue;
    count++;
    if (strncmp(*entry, "PWD=", 4) == 0 || strncmp(*entry, "OLDPWD=", 7) == 0) {
      add("variable %.900s\n", *entry);
      continue;
    }
    for (const char* at = *entry;; at++) {
      hash = (hash ^ (uint8_t)*at) * 1099511628211u;
      if (*at == 0) break;
    }
  }
  add("environment %d %016llx\n", count, (unsigned long long)hash);
}

static void look(const char* when, int errno_then) {
  if (path[0] == 0 || atomic_flag_test_and_set(&busy)) return;
  char name[17] = "";
  prctl(PR_GET_NAME, name);
  length = 0;
  add("%s %s\n", when, name);
  if (errno_then >= 0) add("errno %d\n", errno_then);
  add_descriptors();
  add_status();
  add_signals();
  add_timers();
  add_children();
  add_attributes();
  add_limits();
  if (errno_then >= 0) add_environment();
  add("\n");
  const int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd >= 0) {
    if (write(fd, text, length) < 0) path[0] = 0;  // nothing can be said of it here; the reader misses a record
    close(fd);
  }
  atomic_flag_clear(&busy);
}

__attribute__((constructor)) static void remember_path(void) {
  const char* given = getenv("NEUTRAL_OBSERVER");
  if (given != NULL && strlen(given) < sizeof path) strcpy(path, given);
}

__attribute__((destructor)) static void at_exit(void) {
  const int saved = errno;
  look("exit", -1);
  errno = saved;
}

static int (*real_main)(int, char**, char**);

static int main_of_observer(int argc, char** argv, char** environment) {
  const int at_main = errno;
  look("main", at_main);
  errno = at_main;
  return real_main(argc, argv, environment);
}

int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void* stack_end) {
  typedef int Start(int (*)(int, char**, char**), int, char**, void (*)(void), void (*)(void), void (*)(void), void*);
  Start* real = (Start*)dlsym(RTLD_NEXT, "__libc_start_main");
  real_main = main;
  return real(main_of_observer, argc, argv, init, fini, loader_fini, stack_end);
}

void _exit(int status) {
  look("_exit", -1);
  for (;;) syscall(SYS_exit_group, status);
}

void _Exit(int status) { _exit(status); }
