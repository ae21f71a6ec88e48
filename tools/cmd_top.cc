// `tidemark top`: the live state of a heap in the terminal, once a second.
//
// A trace that is being recorded grows; it is read anew for every screen, and rests at least three times as long as
// that took. On anything but a terminal one screen is printed, without escape sequences. Must not: leave the terminal
// changed, whatever ends it but SIGKILL.
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "tools/commands.h"
#include "tools/loaded_trace.h"
#include "tools/recorded_process.h"
#include "tools/top_screen.h"

namespace tidemark {
namespace {

struct Options {
  std::string target;
  bool once = false;
};

volatile sig_atomic_t g_stop = 0;
void Stop(int) { g_stop = 1; }

// The terminal as this command needs it: keys at once and unseen, another screen, no cursor.
class Terminal {
 public:
  Terminal() {
    has_keys_ = tcgetattr(STDIN_FILENO, &before_) == 0;
    if (has_keys_) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    std::fputs("\x1b[?1049h\x1b[?25l", stdout);
    struct sigaction action {};
    action.sa_handler = Stop;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  }
  ~Terminal() {
    std::fputs("\x1b[?25h\x1b[?1049l", stdout);
    std::fflush(stdout);
    if (has_keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  ScreenSize Size() const {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
    return {size.ws_col, size.ws_row};
  }
  // False: q was pressed, or the terminal is gone.
  bool Wait(int milliseconds) const {
    pollfd key{has_keys_ ? STDIN_FILENO : -1, POLLIN, 0};
    if (poll(&key, 1, milliseconds) <= 0) return g_stop == 0;
    char pressed = 0;
    return read(STDIN_FILENO, &pressed, 1) == 1 && pressed != 'q' && pressed != 'Q' && g_stop == 0;
  }

 private:
  termios before_{};
  bool has_keys_ = false;
};

Result<std::string> ScreenOf(const std::string& file, const ScreenSize& size) {
  LoadOptions load;
  load.history = load.quiet = true;
  Result<LoadedTrace> trace = LoadTrace(file, load);
  if (!trace) return trace.error();
  std::string screen = TopScreen(*trace, size);
  trace->symbolizer->SaveCache();
  return screen;
}

Result<ExitStatus> RunTop(const Options& options) {
  std::string file = options.target;
  const bool is_number = options.target.find_first_not_of("0123456789") == std::string::npos;
  if (is_number && options.target.size() < 10 && access(file.c_str(), F_OK) != 0) {
    Result<std::string> found = FindTraceOf(static_cast<pid_t>(std::stol(options.target)));
    if (!found) return found.error();
    file = *found;
  }
  if (options.once || isatty(STDOUT_FILENO) == 0) {
    const Result<std::string> screen = ScreenOf(file, {});
    if (!screen) return screen.error();
    fmt::print("{}", *screen);
    return ExitStatus::kOk;
  }
  using Clock = std::chrono::steady_clock;
  const Terminal terminal;
  while (true) {
    const Clock::time_point begin = Clock::now();
    ScreenSize size = terminal.Size();
    size.lines = std::max<size_t>(size.lines, 2) - 1;
    const Result<std::string> screen = ScreenOf(file, size);
    if (!screen) return screen.error();
    std::string out = "\x1b[H";
    for (const char c : *screen) out += c == '\n' ? std::string("\x1b[K\n") : std::string(1, c);
    fmt::print("{}\x1b[Jq: quit", out);
    std::fflush(stdout);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
    if (!terminal.Wait(static_cast<int>(std::clamp<int64_t>(3 * took, 1000, 60'000)))) return ExitStatus::kOk;
  }
}

RunFunction DefineTop(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("PID|FILE", options->target, "a process that is being recorded, or a trace")->required();
  app.add_flag("--once", options->once, "print one screen and end");
  return [options] { return RunTop(*options); };
}

}  // namespace

const Command kTopCommand = {
    "top", "watch the heap of a process that is being recorded",
    "Shows live bytes, rates, resident memory, losses and the sites that hold most, once a second; q quits. The "
    "process "
    "must have been started with `tidemark record` (or the preload), by the same user.\n\n"
    "The trace is read anew for each screen, so a long complete recording is shown less often. Where the output is no "
    "terminal, one screen of 80 columns and 24 lines is printed.",
    DefineTop};

}  // namespace tidemark
