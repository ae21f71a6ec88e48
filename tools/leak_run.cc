// See leak_run.h.
#include "tools/leak_run.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

namespace tidemark {
namespace {

volatile pid_t g_recorder = 0;

void PassOn(int signal) {
  const int error = errno;
  if (g_recorder > 0) kill(g_recorder, signal);
  errno = error;
}

// While CMD runs, the terminal's signals are for it, and what is sent to us is passed on to `record`, which passes it
// on to CMD.
class PassedSignals {
 public:
  PassedSignals() {
    for (size_t i = 0; i < kCount; ++i) {
      struct sigaction action {};
      action.sa_handler = kSignals[i] == SIGINT || kSignals[i] == SIGQUIT ? SIG_IGN : PassOn;
      action.sa_flags = SA_RESTART;
      sigaction(kSignals[i], &action, &before_[i]);
    }
  }
  ~PassedSignals() { Restore(); }
  void Restore() const {
    for (size_t i = 0; i < kCount; ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
  static constexpr size_t kCount = std::size(kSignals);
  struct sigaction before_[kCount] {};
};

}  // namespace

Result<LeakRun> LeakRun::Record(const std::vector<std::string>& command, const std::string& output) {
  LeakRun run;
  run.trace_ = output;
  if (output.empty()) {
    const char* folder = std::getenv("TMPDIR");
    std::string name = std::string(folder != nullptr && *folder == '/' ? folder : "/tmp") + "/tidemark-leaks-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) {
      return Error{ExitStatus::kCouldNotCheck, "no folder for the trace can be made (" + name +
                                                   "): " + std::strerror(errno) +
                                                   "; name a file for it with -o, or set TMPDIR"};
    }
    run.folder_ = name;
    run.trace_ = name + "/run.tmk";
  }
  std::vector<std::string> words = {"tidemark",     "record", "--quiet",  "--mode", "full",
                                    "--leak-check", "-o",     run.trace_, "--"};
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  const PassedSignals signals;
  const pid_t pid = fork();
  if (pid < 0) {
    return Error{ExitStatus::kCouldNotCheck, std::string("starting `tidemark record` failed: ") + std::strerror(errno)};
  }
  if (pid == 0) {
    signals.Restore();
    execv("/proc/self/exe", arguments.data());
    _exit(125);
  }
  g_recorder = pid;
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  g_recorder = 0;
  run.status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return run;
}

LeakRun::LeakRun(LeakRun&& other) noexcept
    : trace_(std::move(other.trace_)), folder_(std::exchange(other.folder_, "")), status_(other.status_) {}

LeakRun::~LeakRun() {
  std::error_code error;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, error);
}

bool LeakRun::has_trace() const {
  std::error_code error;
  return std::filesystem::exists(trace_, error);
}

}  // namespace tidemark
