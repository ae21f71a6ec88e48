// Fork, hold, release, wait; see launch.h.
//
// The child is forked before the collector and waits for Release(), so that its pid is known to the collector before
// its first instruction. exec's errno comes back through a pipe that exec closes. Must not: start or expect threads
// (the child allocates between fork and exec).
#include "tools/launch.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace tidemark {
namespace {

// True when `awaited` was among them; then *status is its own.
bool ReapOrphans(pid_t awaited, int* status) {
  for (;;) {
    const pid_t ended = waitpid(-1, status, WNOHANG);
    if (ended == awaited) return true;
    if (ended <= 0) return false;
  }
}

}  // namespace

Launcher::Launcher() {
  const auto set = [this](int signal, void (*handler)(int)) {
    Saved saved{signal, {}};
    struct sigaction action {};
    action.sa_handler = handler;
    sigaction(signal, &action, &saved.action);
    saved_.push_back(saved);
  };
  set(SIGINT, SIG_IGN);
  set(SIGQUIT, SIG_IGN);
  set(SIGPIPE, SIG_IGN);  // a message to a closed stderr must not cost the command's status
  set(SIGCHLD, SIG_DFL);  // ignored, it would take the status away
  sigset_t blocked;
  sigemptyset(&blocked);
  sigprocmask(SIG_BLOCK, nullptr, &saved_mask_);
  sigemptyset(&forwarded_);
  for (int signal : {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) {
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    // Ignored (nohup) or blocked by whoever started us: meant for the command as well.
    if (action.sa_handler != SIG_IGN && sigismember(&saved_mask_, signal) == 0) sigaddset(&forwarded_, signal);
  }
  sigaddset(&forwarded_, SIGCHLD);
  sigprocmask(SIG_BLOCK, &forwarded_, nullptr);
  signals_ = signalfd(-1, &forwarded_, SFD_CLOEXEC);
}

Launcher::~Launcher() {
  for (int fd : {signals_, gate_, exec_error_}) {
    if (fd >= 0) close(fd);
  }
}

void Launcher::RestoreSignals() const {
  for (const Saved& saved : saved_) sigaction(saved.signal, &saved.action, nullptr);
  sigprocmask(SIG_SETMASK, &saved_mask_, nullptr);
}

pid_t Launcher::Fork(const std::vector<std::string>& command,
                     const std::vector<std::pair<std::string, std::string>>& environment, int* error) {
  int gate[2], exec_error[2];
  if (pipe2(gate, O_CLOEXEC) != 0) {
    *error = errno;
    return 0;
  }
  if (pipe2(exec_error, O_CLOEXEC) != 0) {
    *error = errno;
    close(gate[0]);
    close(gate[1]);
    return 0;
  }
  pid_ = fork();
  if (pid_ == 0) {
    close(gate[1]);
    char go = 0;
    ssize_t n;
    while ((n = read(gate[0], &go, 1)) < 0 && errno == EINTR) {
    }
    if (n != 1) _exit(125);  // record gave up, or was killed
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    RestoreSignals();
    execvp(words[0], words.data());
    const int failed = errno;
    (void)!write(exec_error[1], &failed, sizeof failed);
    _exit(127);
  }
  const int fork_error = errno;
  close(gate[0]);
  close(exec_error[1]);
  gate_ = gate[1];
  exec_error_ = exec_error[0];
  if (pid_ < 0) {
    *error = fork_error;
    pid_ = 0;
  }
  return pid_;
}

int Launcher::Release() {
  const char go = 1;
  (void)!write(gate_, &go, 1);
  close(gate_);
  gate_ = -1;
  int failed = 0;
  ssize_t n;
  while ((n = read(exec_error_, &failed, sizeof failed)) < 0 && errno == EINTR) {
  }
  close(exec_error_);
  exec_error_ = -1;
  if (n != sizeof failed) return 0;
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
  return failed;
}

void Launcher::Cancel() {
  if (gate_ >= 0) close(gate_);
  gate_ = -1;
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

int Launcher::Wait() {
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) return status;
    if (ended < 0 && errno != EINTR) return 0;
    // As the first process of a container the orphans are ours, as they would have been the command's.
    if (getpid() == 1 && ReapOrphans(pid_, &status)) return status;
    signalfd_siginfo info{};
    if (read(signals_, &info, sizeof info) != sizeof info) {
      if (errno == EINTR) continue;
      // No signalfd (a seccomp filter, descriptors exhausted): nothing is passed on, but the status is.
      while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
      }
      return status;
    }
    // What the kernel sends (a terminal's keys), it sends to the command as well; but that the terminal has hung up, it
    // tells the leader of the session alone.
    const bool sent_to_both = info.ssi_code == SI_KERNEL && getsid(0) != getpid();
    if (info.ssi_signo != SIGCHLD && !sent_to_both) kill(pid_, static_cast<int>(info.ssi_signo));
  }
}

}  // namespace tidemark
