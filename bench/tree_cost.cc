// Runs one command and tells what its whole process tree cost: CPU, peak memory, status, as one line of JSON.
//
//   tree_cost [--env NAME=VALUE]... [--host COMM] [--timeout-s N] RESULT.json COMMAND [ARGUMENT...]
//
// Profilers leave their children: daemonised collectors, interpreters behind a pipe. This program makes itself the
// reaper of orphans, so that each of them is waited for here and counted. CPU is what wait4 says, thus exact. Peak
// memory is exact for the command itself and polled (20 ms) for everything below it: ru_maxrss cannot be taken apart by
// process. It is a program of its own, and small: ru_maxrss of a child begins with the size of whoever forked it. Must
// not: be inside of what is measured (variables of --env are set in the child only), or write to stdout.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPollInterval = std::chrono::milliseconds(20);

struct Arguments {
  std::vector<std::string> environment;
  std::string host;
  double timeout_s = 600;
  const char* result = nullptr;
  char** command = nullptr;
};

struct Cost {
  int64_t user_us = 0, system_us = 0;
  int64_t maxrss_bytes = 0;
};

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "tree_cost: %s\n", what.c_str());
  std::exit(125);
}

Arguments ParseArguments(int argc, char** argv) {
  Arguments arguments;
  int i = 1;
  for (; i + 1 < argc && std::strncmp(argv[i], "--", 2) == 0; i += 2) {
    const std::string option = argv[i];
    if (option == "--env") {
      arguments.environment.emplace_back(argv[i + 1]);
    } else if (option == "--host") {
      arguments.host = std::string(argv[i + 1]).substr(0, 15);  // the kernel keeps 15 characters of a name
    } else if (option == "--timeout-s") {
      arguments.timeout_s = std::atof(argv[i + 1]);
    } else {
      Die("unknown option " + option + "; known are --env, --host, --timeout-s");
    }
  }
  if (i + 1 >= argc) Die("usage: tree_cost [--env NAME=VALUE]... [--host COMM] [--timeout-s N] RESULT COMMAND...");
  arguments.result = argv[i];
  arguments.command = argv + i + 1;
  return arguments;
}

std::string ReadFile(const std::string& path) {
  std::string text;
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return text;  // the process has ended since
  char buffer[8192];
  for (ssize_t got; (got = read(file, buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<size_t>(got));
  close(file);
  return text;
}

int64_t StatusField(const std::string& status, const char* name) {
  const size_t at = status.find(name);
  return at == std::string::npos ? 0 : std::strtoll(status.c_str() + at + std::strlen(name), nullptr, 10) * 1024;
}

// Largest memory by process name, and of all processes at one time.
class MemoryWatch {
 public:
  void Poll(const std::string& host) {
    const pid_t self = getpid();
    int64_t sum = 0;
    processes_.clear();
    std::vector<pid_t> open_list = {self};
    while (!open_list.empty()) {
      const pid_t pid = open_list.back();
      open_list.pop_back();
      // Children belong to the thread that forked them; a server may fork from any.
      const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
      DIR* folder = opendir(tasks.c_str());
      if (folder == nullptr) continue;
      int threads = 0;
      while (dirent* entry = readdir(folder)) {
        if (entry->d_name[0] == '.' || ++threads > 8) continue;  // a thousand threads: the first ones must do
        const std::string children = ReadFile(tasks + "/" + entry->d_name + "/children");
        for (char* at = const_cast<char*>(children.c_str());;) {
          char* end;
          const long child = std::strtol(at, &end, 10);
          if (end == at) break;
          open_list.push_back(static_cast<pid_t>(child));
          at = end;
        }
      }
      closedir(folder);
      if (pid == self) continue;
      processes_.push_back(pid);
      const std::string status = ReadFile("/proc/" + std::to_string(pid) + "/status");
      sum += StatusField(status, "VmRSS:");
      const size_t name = status.find("Name:\t");
      const size_t end = status.find('\n');
      if (name == 0 && end != std::string::npos && status.substr(6, end - 6) == host) {
        host_peak_ = std::max(host_peak_, StatusField(status, "VmHWM:"));
      }
    }
    tree_peak_ = std::max(tree_peak_, sum);
  }
  int64_t host_peak() const { return host_peak_; }
  int64_t tree_peak() const { return tree_peak_; }
  const std::vector<pid_t>& processes() const { return processes_; }  // of the last poll

 private:
  int64_t host_peak_ = 0, tree_peak_ = 0;
  std::vector<pid_t> processes_;
};

Cost CostOf(const rusage& usage) {
  const auto microseconds = [](const timeval& time) { return time.tv_sec * int64_t{1'000'000} + time.tv_usec; };
  return {microseconds(usage.ru_utime), microseconds(usage.ru_stime), usage.ru_maxrss * int64_t{1024}};
}

pid_t Start(const Arguments& arguments, const sigset_t& mask) {
  const pid_t child = fork();
  if (child < 0) Die(std::string("fork: ") + std::strerror(errno));
  if (child > 0) return child;
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  for (const std::string& variable : arguments.environment) {
    const size_t equals = variable.find('=');
    if (equals == std::string::npos) Die("--env " + variable + ": no '=' in it; write NAME=VALUE");
    setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
  }
  execvp(arguments.command[0], arguments.command);
  Die(std::string(arguments.command[0]) + ": " + std::strerror(errno));
}

int StatusAsShell(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

int Run(const Arguments& arguments) {
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  // Blocked, so that sigtimedwait() below is a sleep that the end of a child ends.
  sigset_t child_ends, mask;
  sigemptyset(&child_ends);
  sigaddset(&child_ends, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child_ends, &mask);
  const auto start = Clock::now();
  const auto seconds = [start] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const pid_t first = Start(arguments, mask);

  MemoryWatch watch;
  Cost command, others;
  int status = -1;
  double command_s = 0;
  bool timed_out = false;
  for (bool running = true; running;) {
    watch.Poll(arguments.host);
    timespec interval = {0, std::chrono::nanoseconds(kPollInterval).count()};
    sigtimedwait(&child_ends, nullptr, &interval);
    if (!timed_out && seconds() > arguments.timeout_s) {
      timed_out = true;
      for (const pid_t pid : watch.processes()) kill(pid, SIGKILL);
    }
    for (;;) {
      int child_status;
      rusage usage;
      const pid_t ended = wait4(-1, &child_status, WNOHANG, &usage);
      if (ended < 0) running = false;  // ECHILD: nobody is left
      if (ended <= 0) break;
      const Cost cost = CostOf(usage);
      Cost& sum = ended == first ? command : others;
      sum.user_us += cost.user_us;
      sum.system_us += cost.system_us;
      sum.maxrss_bytes = std::max(sum.maxrss_bytes, cost.maxrss_bytes);
      if (ended == first) status = StatusAsShell(child_status), command_s = seconds();
    }
  }

  std::FILE* file = std::fopen(arguments.result, "we");
  if (file == nullptr) Die(std::string(arguments.result) + ": " + std::strerror(errno));
  std::fprintf(file,
               "{\"status\": %d, \"timed_out\": %s, \"command_s\": %.6f, \"wall_s\": %.6f, \"user_us\": %lld, "
               "\"system_us\": %lld, \"other_user_us\": %lld, \"other_system_us\": %lld, \"command_rss\": %lld, "
               "\"other_rss\": %lld, \"host_peak_rss\": %lld, \"tree_peak_rss\": %lld}\n",
               status, timed_out ? "true" : "false", command_s, seconds(), static_cast<long long>(command.user_us),
               static_cast<long long>(command.system_us), static_cast<long long>(others.user_us),
               static_cast<long long>(others.system_us), static_cast<long long>(command.maxrss_bytes),
               static_cast<long long>(others.maxrss_bytes), static_cast<long long>(watch.host_peak()),
               static_cast<long long>(watch.tree_peak()));
  return std::fclose(file) == 0 ? 0 : 125;
}

}  // namespace

int main(int argc, char** argv) { return Run(ParseArguments(argc, argv)); }
