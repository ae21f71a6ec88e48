// Runs a command the way `env` or `time` do: same process group, same descriptors, same signal dispositions and mask;
// only the environment variables that are asked for differ.
//
// While it runs: SIGINT and SIGQUIT are ignored here (the terminal sends them to the command too), SIGTERM, SIGHUP,
// SIGUSR1 and SIGUSR2 are passed on, SIGTSTP stops both, as the terminal means it. Must not: wait for any other child.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace tidemark {

class Launcher {
 public:
  // From here on signals are handled as above; Start() undoes that in the child.
  Launcher();
  ~Launcher();
  Launcher(const Launcher&) = delete;

  // Forks the process; it waits, before exec, for Release(). 0 and *error (an errno) on failure.
  pid_t Fork(const std::vector<std::string>& command,
             const std::vector<std::pair<std::string, std::string>>& environment, int* error);
  // Lets it exec. Returns 0, or the errno of exec (then the child is gone).
  int Release();
  // Waits for the end of the process and passes signals on. Returns its wait status.
  int Wait();
  // The process never runs.
  void Cancel();

 private:
  void RestoreSignals() const;

  struct Saved {
    int signal;
    struct sigaction action;
  };
  std::vector<Saved> saved_;
  sigset_t saved_mask_;
  sigset_t forwarded_;   // what signals_ reports
  int signals_ = -1;     // signalfd
  int gate_ = -1;        // write end: one byte lets the child exec
  int exec_error_ = -1;  // read end: errno of a failed exec; end of file after a good one
  pid_t pid_ = 0;
};

}  // namespace tidemark
