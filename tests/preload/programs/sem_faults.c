// Lets system calls of a program fail, one by one; see semantics_memory_test.py.
//
//   sem_faults once|ever PRELOAD COMMAND [ARGUMENT...]     PRELOAD: LD_PRELOAD of the command
//
// Runs COMMAND again and again: in run n its n-th counted call fails ("ever": and all later ones), until n is more
// than a run makes. Counted are those that take or change memory, open something or talk to somebody, from the
// moment on when libmimalloc is opened, that is when the library has begun to start; a seccomp filter hands them to
// this process, which needs no help by the program. Prints a line for each kind of end (status and output, how often,
// an example of a call), so that the caller sees whether all runs were alike. A run that takes 60 s is killed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
enum { kSkip = 77, kKilledAfterMs = 60000 };

static const struct {
  const char* name;
  int number, error;
} calls[] = {
    {"mmap", SYS_mmap, ENOMEM},           {"munmap", SYS_munmap, ENOMEM},
    {"mprotect", SYS_mprotect, ENOMEM},   {"madvise", SYS_madvise, EAGAIN},
    {"mremap", SYS_mremap, ENOMEM},       {"openat", SYS_openat, EMFILE},
    {"readlink", SYS_readlink, EACCES},   {"readlinkat", SYS_readlinkat, EACCES},
    {"access", SYS_access, EACCES},       {"pread64", SYS_pread64, EIO},
    {"getrandom", SYS_getrandom, ENOSYS}, {"socket", SYS_socket, EMFILE},
    {"connect", SYS_connect, EAGAIN},     {"sendto", SYS_sendto, ECONNRESET},
    {"recvmsg", SYS_recvmsg, ECONNRESET}, {"setsockopt", SYS_setsockopt, ENOMEM},
    {"sendmsg", SYS_sendmsg, ENOBUFS},    {"prctl", SYS_prctl, EINVAL},
    {"getcpu", SYS_getcpu, ENOSYS},       {"uname", SYS_uname, EFAULT},
    {"sysinfo", SYS_sysinfo, EFAULT},     {"memfd_create", SYS_memfd_create, EMFILE},
    {"ftruncate", SYS_ftruncate, ENOSPC}, {"fallocate", SYS_fallocate, ENOSPC},
    {"fcntl", SYS_fcntl, EINVAL},         {"sigaltstack", SYS_sigaltstack, ENOMEM},
    {"mbind", SYS_mbind, ENOSYS},         {"get_mempolicy", SYS_get_mempolicy, ENOSYS},
};

static const char* name_of(int number) {
  for (size_t i = 0; i < COUNT_OF(calls); i++) {
    if (calls[i].number == number) return calls[i].name;
  }
  return "?";
}
static int error_of(int number) {
  for (size_t i = 0; i < COUNT_OF(calls); i++) {
    if (calls[i].number == number) return calls[i].error;
  }
  return EINVAL;
}

// Installs the filter in the calling process; returns the descriptor that hears of the calls.
static int install_filter(void) {
  struct sock_filter program[2 * COUNT_OF(calls) + 4];
  size_t n = 0;
  program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < COUNT_OF(calls); i++) {
    program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].number, 0, 1);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
  }
  program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const struct sock_fprog filter = {(unsigned short)n, program};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
}

// The parent takes the child's descriptor by its number: handing it over would be a counted call.
static int take_descriptor(pid_t child, int number) {
  const int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
  const int taken = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
  close(pidfd);
  return taken;
}

static int opens_mimalloc(const struct seccomp_notif* call) {
  char path[256] = "";
  const struct iovec here = {path, sizeof path - 1};
  // One page at a time: the string may end just before memory that cannot be read.
  const struct iovec there = {(void*)call->data.args[1], 4096 - (call->data.args[1] & 4095)};
  if (process_vm_readv((pid_t)call->pid, &here, 1, &there, 1, 0) <= 0) return 0;
  return strstr(path, "libmimalloc") != NULL;
}

struct End {
  int status, count, call;
  char output[200];
};
static struct End ends[64];
static size_t end_count = 0;
static long counted_calls = 0;

static void note_end(int status, const char* output, int call) {
  for (size_t i = 0; i < end_count; i++) {
    if (ends[i].status == status && strcmp(ends[i].output, output) == 0) {
      ends[i].count++;
      return;
    }
  }
  if (end_count == COUNT_OF(ends)) return;
  struct End* end = &ends[end_count++];
  end->status = status;
  end->count = 1;
  end->call = call;
  strcpy(end->output, output);
}

// Runs the command once; its call number `fail` fails. Returns how many calls it made.
static long run(long fail, int ever, char** command, const char* preload) {
  int numbers[2], taken[2], output[2];
  if (pipe(numbers) != 0 || pipe(taken) != 0 || pipe(output) != 0) exit(5);
  setenv("LD_PRELOAD", preload, 1);
  const pid_t child = fork();
  if (child == 0) {
    close(numbers[0]);
    // A limit that is far away: only where memory may be refused does the library make mimalloc expect it everywhere.
    const struct rlimit data = {(rlim_t)8 << 30, (rlim_t)8 << 30};
    setrlimit(RLIMIT_DATA, &data);
    dup2(output[1], 1);
    close(output[0]);
    close(output[1]);
    const int listener = install_filter();
    if (write(numbers[1], &listener, sizeof listener) != sizeof listener || listener < 0) _exit(kSkip);
    char go;
    close(taken[1]);
    if (read(taken[0], &go, 1) != 1) _exit(kSkip);  // exec closes the listener
    close(taken[0]);
    close(numbers[1]);
    execv(command[0], command);
    _exit(127);
  }
  unsetenv("LD_PRELOAD");
  close(numbers[1]);
  close(output[1]);
  int number = -1;
  if (read(numbers[0], &number, sizeof number) != sizeof number || number < 0) {
    puts("no listener for system calls");
    exit(kSkip);
  }
  const int listener = take_descriptor(child, number);
  if (write(taken[1], "g", 1) != 1) exit(5);
  close(numbers[0]);
  close(taken[0]);
  close(taken[1]);
  if (listener < 0) {
    kill(child, SIGKILL);
    puts("no access to the child's listener");
    exit(kSkip);
  }
  long count = 0;
  int counting = 0, failed_call = -1;
  size_t length = 0;
  char text[200] = "";
  struct pollfd both[2] = {{listener, POLLIN, 0}, {output[0], POLLIN, 0}};
  while (both[0].fd >= 0 || both[1].fd >= 0) {
    if (poll(both, 2, kKilledAfterMs) == 0) {
      kill(child, SIGKILL);
      snprintf(text, sizeof text, "hung");
      break;
    }
    if (both[1].revents != 0) {
      char more[200];
      const ssize_t got = read(output[0], more, sizeof more);
      if (got <= 0)
        both[1].fd = -1;
      else
        for (ssize_t i = 0; i < got && length < sizeof text - 1; i++) text[length++] = more[i] == '\n' ? '|' : more[i];
      text[length] = 0;
    }
    if ((both[0].revents & POLLIN) != 0) {
      struct seccomp_notif call;
      memset(&call, 0, sizeof call);
      if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) continue;
      if (!counting && call.data.nr == SYS_openat) counting = opens_mimalloc(&call);
      struct seccomp_notif_resp answer = {call.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
      if (counting) {
        count++;
        if (count == fail || (ever && fail != 0 && count > fail)) {
          answer.flags = 0;
          answer.error = -error_of(call.data.nr);
          if (failed_call < 0) failed_call = call.data.nr;
        }
      }
      ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    } else if ((both[0].revents & (POLLHUP | POLLERR)) != 0) {
      both[0].fd = -1;
    }
  }
  close(listener);
  close(output[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (fail != 0 && count >= fail) note_end(status, text, failed_call);
  if (fail == 0) printf("unhindered: status %d output %s calls %ld\n", WEXITSTATUS(status), text, count);
  if (getenv("FAULTS_VERBOSE") != NULL)
    fprintf(stderr, "%ld of %ld: %s status %x %s\n", fail, count, name_of(failed_call), status, text);
  return count;
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const int ever = strcmp(argv[1], "ever") == 0;
  counted_calls = run(0, 0, argv + 3, argv[2]);
  const long from = getenv("FAULTS_FROM") != NULL ? atol(getenv("FAULTS_FROM")) : 1;
  // A failure may save later calls, so that a run ends early though the next ones do not.
  for (long n = from; run(n, ever, argv + 3, argv[2]) >= n || n < counted_calls; n++) {
    if (n > 5000) return 6;
  }
  for (size_t i = 0; i < end_count; i++) {
    const struct End* end = &ends[i];
    if (WIFSIGNALED(end->status))
      printf("signal %d", WTERMSIG(end->status));
    else
      printf("status %d", WEXITSTATUS(end->status));
    printf(" times %d first %s output %s\n", end->count, name_of(end->call), end->output);
  }
  return 0;
}
