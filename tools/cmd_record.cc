// `tidemark record`: runs a command with the library preloaded and says, at its end, what was written.
//
//   record ──fork──> CMD           (same group, same descriptors: launch.h)
//          ──fork──> collector     (a daemon: collector.h); told of CMD's end over a socket pair, answers with a report
//
// record itself only waits. Whatever happens to it or to the collector, CMD runs on. Must not: change what CMD sees,
// except LD_PRELOAD and TIDEMARK_OPTIONS; write to stdout.

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "profiler/collector.h"
#include "tools/commands.h"
#include "tools/elf_probe.h"
#include "tools/launch.h"
#include "tools/library_path.h"
#include "tools/machine_probe.h"
#include "tools/output_file.h"

namespace tidemark {
namespace {

constexpr auto kOwnFailure = static_cast<ExitStatus>(125);
constexpr auto kNotExecutable = static_cast<ExitStatus>(126);
constexpr auto kNotFound = static_cast<ExitStatus>(127);

struct RecordOptions {
  std::string output;
  std::string mode = "sampled";
  std::string sample_bytes = "512K";
  std::string follow = "yes";
  std::string ring_bytes = "0";
  uint32_t guard = 0;
  std::string guard_action = "report";
  bool leak_check = false;
  std::string leak_check_signal;
  uint64_t seed = 0;
  uint64_t full_wait_ms = SessionOptions().full_wait_us / 1000;
  bool quiet = false;
  std::string cpu;
};

// "512K", "2M", "1G", "4096"
bool ParseBytes(const std::string& text, uint64_t* bytes) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return false;
  std::string suffix(parsed.ptr, text.data() + text.size());
  if (suffix.size() > 1 && (suffix == "KiB" || suffix == "MiB" || suffix == "GiB")) suffix.resize(1);
  const char* units = "KMG";
  unsigned shift = 0;
  if (suffix.size() == 1) {
    const char* unit = std::strchr(units, suffix[0] & ~0x20);
    if (unit == nullptr || *unit == '\0') return false;
    shift = 10 * static_cast<unsigned>(unit - units + 1);
  } else if (!suffix.empty()) {
    return false;
  }
  if (value << shift >> shift != value) return false;
  *bytes = value << shift;
  return true;
}

std::string Grouped(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string Size(uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} bytes", bytes);
  if (bytes < 1'000'000) return fmt::format("{:.0f} KB", static_cast<double>(bytes) / 1e3);
  if (bytes < 1'000'000'000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

// "TERM", "SIGTERM" -> 15; 0: not the name of a signal that ends a program unless it is handled, and can be.
int SignalNumber(const std::string& name) {
  const std::string bare = name.substr(name.starts_with("SIG") ? 3 : 0);
  for (const int number :
       {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGXCPU, SIGVTALRM, SIGPROF}) {
    const char* known = sigabbrev_np(number);
    if (known != nullptr && bare == known) return number;
  }
  return 0;
}

Error Fail(std::string message, ExitStatus status = kOwnFailure) { return Error{status, std::move(message)}; }

Result<SessionOptions> SessionFrom(const RecordOptions& options) {
  SessionOptions session;
  if (options.mode != "sampled" && options.mode != "full") {
    return Fail("record: --mode is 'sampled' or 'full', not '" + options.mode + "'");
  }
  session.mode = options.mode == "full" ? Mode::kFull : Mode::kSampled;
  if (!ParseBytes(options.sample_bytes, &session.sample_bytes) || session.sample_bytes == 0 ||
      session.sample_bytes > uint64_t{1} << 40) {
    return Fail("record: --sample-bytes needs a size from 1 to 1024G, such as 512K or 2M, not '" +
                options.sample_bytes + "'");
  }
  if (!ParseBytes(options.ring_bytes, &session.ring_bytes) ||
      (session.ring_bytes != 0 && (session.ring_bytes < 64 << 10 || session.ring_bytes > 1 << 30))) {
    return Fail("record: --ring-bytes needs a size from 64K to 1G, not '" + options.ring_bytes + "'");
  }
  if (options.guard != 0 && session.mode == Mode::kFull) {
    return Fail(
        "record: --guard puts samples between guard pages, and --mode full takes none; use --mode sampled, with a "
        "small --sample-bytes for many guarded blocks");
  }
  if (options.guard_action != "report" && options.guard_action != "die") {
    return Fail("record: --guard-action is 'report' or 'die', not '" + options.guard_action + "'");
  }
  session.guard_every = options.guard;
  session.leak_check = options.leak_check || !options.leak_check_signal.empty();
  if (!options.leak_check_signal.empty() && SignalNumber(options.leak_check_signal) == 0) {
    return Fail(
        "record: --leak-check-signal needs the name of a signal that ends a program and can be handled, such "
        "as TERM or SIGUSR1, not '" +
        options.leak_check_signal + "'");
  }
  session.seed = options.seed;
  if (options.full_wait_ms > 3'600'000) return Fail("record: --full-wait takes milliseconds, an hour at most");
  session.full_wait_us = options.full_wait_ms * 1000;
  return session;
}

class Recording {
 public:
  Recording(const RecordOptions& options, const std::vector<std::string>& command)
      : options_(options), command_(command) {}

  Result<ExitStatus> Run() {
    Result<SessionOptions> session = SessionFrom(options_);
    if (!session) return session.error();
    if (!options_.cpu.empty()) {
      return Fail("record: CPU sampling (--cpu) is not available in this version; record without it");
    }
    if (options_.follow != "yes" && options_.follow != "no") {
      return Fail("record: --follow-children is 'yes' or 'no', not '" + options_.follow + "'");
    }
    if (command_.empty()) {
      return Fail("record: no command to record; write it behind the options, as in: tidemark record -- ls -l");
    }
    bool denied = false;
    const std::string program = FindProgram(command_[0], &denied);
    if (program.empty()) {
      return denied ? Fail("cannot run '" + command_[0] + "': permission denied, or not a program", kNotExecutable)
                    : Fail("cannot run '" + command_[0] + "': no such program", kNotFound);
    }
    probe_ = ProbeProgram(program);

    CollectorOptions collect;
    collect.session = *session;
    if (std::optional<Error> error = ChooseOutput(&collect)) return *error;
    Result<std::string> library = FindLibrary();
    if (!library) return Fail(library.error().message);
    // The loader ends every program whose LD_PRELOAD names a library that does not load: better to find out before.
    if (const std::string why = WhyLibraryDoesNotLoad(*library); !why.empty()) return Fail(why);
    Result<PreloadPath> preload = MakePreloadPath(*library);
    if (!preload) return Fail(preload.error().message);
    made_ = preload->made;
    Result<ExitStatus> result = Start(std::move(collect), preload->path);
    if (!collector_took_over_) RemoveMade();
    return result;
  }

 private:
  std::optional<Error> ChooseOutput(CollectorOptions* collect) {
    Result<bool> usable = options_.output.empty() ? CheckDirectory("x") : CheckOutput(options_.output);
    if (!usable) return Fail(usable.error().message);
    collect->output = options_.output;
    collect->replace_output = !options_.output.empty() && *usable;
    return std::nullopt;
  }

  void RemoveMade() {
    for (const std::string& path : made_) {
      if (unlink(path.c_str()) != 0) rmdir(path.c_str());
    }
  }

  std::vector<std::pair<std::string, std::string>> Environment(const std::string& session_name,
                                                               const std::string& library) const {
    // The loader writes a line into the stderr of a program of another word size: such a one is left alone.
    if (probe_.elf && !probe_.same_machine) return {};
    const char* before = std::getenv("LD_PRELOAD");
    std::string preload = library;
    if (before != nullptr && before[0] != '\0') preload += std::string(":") + before;
    std::string words = "mode=" + options_.mode + ",session=" + session_name;
    if (options_.follow == "no") words += ",follow=no";
    if (options_.guard_action == "die") words += ",guard_action=die";
    if (options_.leak_check || !options_.leak_check_signal.empty()) words += ",leak_check=yes";
    if (const int number = SignalNumber(options_.leak_check_signal); number != 0) {
      words += ",leak_check_signal=" + std::to_string(number);
    }
    return {{"LD_PRELOAD", preload}, {"TIDEMARK_OPTIONS", words}};
  }

  Result<ExitStatus> Start(CollectorOptions collect, const std::string& library) {
    std::string error;
    collect.session_name = NewSessionName();
    OwnedFd listener = SessionServer::Listen(collect.session_name, &error);
    if (!listener.valid()) return Fail(error);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
      return Fail(std::string("opening a socket pair failed: ") + std::strerror(errno));
    }
    OwnedFd control(pair[0]), collector_end(pair[1]);
    if (probe_.verdict == Verdict::kNoEffect) {
      Say(fmt::format("'{}' {}; running it unprofiled", command_[0], probe_.reason));
      said_reason_ = true;
    }

    Launcher launcher;
    int failed = 0;
    const pid_t pid = launcher.Fork(command_, Environment(collect.session_name, library), &failed);
    if (pid == 0) return Fail(std::string("starting a process failed: ") + std::strerror(failed));
    if (collect.output.empty()) collect.output = DefaultOutput(command_[0], pid);
    output_ = collect.output;
    collect.tool_version = TIDEMARK_VERSION;
    collect.launched_pid = pid;
    collect.follow_children = options_.follow == "yes";
    collect.remove_at_end = made_;

    const pid_t collector = fork();
    if (collector < 0) {
      const std::string reason = std::strerror(errno);
      launcher.Cancel();
      return Fail("starting the collector process failed: " + reason);
    }
    if (collector == 0) {
      control = OwnedFd();
      RunCollector(std::move(collect), std::move(listener), std::move(collector_end));
    }
    collector_took_over_ = true;
    listener = OwnedFd();
    collector_end = OwnedFd();

    failed = launcher.Release();
    if (failed != 0) {
      return Fail(fmt::format("cannot run '{}': {}", command_[0], std::strerror(failed)),
                  failed == ENOENT ? kNotFound : kNotExecutable);
    }
    const int status = launcher.Wait();
    ReadReport(control.get(), status, collector);
    return static_cast<ExitStatus>(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
  }

  [[noreturn]] static void RunCollector(CollectorOptions options, OwnedFd listener, OwnedFd control) {
    DetachForCollecting({listener.get(), control.get()});
    {
      Collector collector(std::move(options), std::move(listener), std::move(control));
      collector.Run(OwnedFd());
    }
    _exit(0);  // not exit(): what record has registered there is record's
  }

  // The report takes the time that it takes to write the rest of the trace. Only a collector that somebody has stopped
  // would never send it: false.
  static bool AwaitReport(int control, pid_t collector) {
    constexpr int kPatience_s = 5;
    for (int stopped_s = 0; stopped_s < kPatience_s;) {
      pollfd report{control, POLLIN, 0};
      if (poll(&report, 1, 1000) > 0) return true;
      siginfo_t change{};
      const int error = waitid(P_PID, static_cast<id_t>(collector), &change, WSTOPPED | WNOHANG | WNOWAIT);
      stopped_s = error == 0 && change.si_pid == collector ? stopped_s + 1 : 0;
    }
    return false;
  }

  void ReadReport(int control, int status, pid_t collector) {
    signal(SIGINT, SIG_DFL);  // should the report take long, the user may give up on it
    ControlMessage ended;
    ended.kind = ControlMessage::kEnded;
    ended.wait_status = status;
    std::string packet(256 << 10, '\0');
    ssize_t n = send(control, &ended, sizeof ended, MSG_NOSIGNAL);
    if (n == sizeof ended) {
      if (!AwaitReport(control, collector)) {
        Say(fmt::format(
            "the collector process {} has been stopped, so {} is not finished; it will be when that process "
            "goes on: kill -CONT {}",
            collector, output_, collector));
        return;
      }
      while ((n = recv(control, packet.data(), packet.size(), 0)) < 0 && errno == EINTR) {
      }
    }
    CollectorReport report;
    packet.resize(n > 0 ? static_cast<size_t>(n) : 0);
    if (packet.empty() || !FromPacket(packet, &report)) {
      int collector_status = 0;
      std::string how = "ended early";
      if (waitpid(collector, &collector_status, 0) == collector && WIFSIGNALED(collector_status)) {
        how = fmt::format("was killed by signal {} ({})", WTERMSIG(collector_status),
                          strsignal(WTERMSIG(collector_status)));
      }
      RemoveMade();
      const bool exists = access(output_.c_str(), F_OK) == 0;
      Say(fmt::format("the collector process {}: {}", how,
                      exists
                          ? "what it had written by then is in " + output_ + " and can be read; what came later is lost"
                          : "there is no " + output_ + ", nothing was recorded"));
      return;
    }
    Tell(report);
  }

  void Tell(const CollectorReport& report) {
    if (!options_.quiet) {
      for (const TraceSummary& trace : report.traces) {
        if (trace.unwritten != 0 && trace.bytes == 0) continue;  // no file: said below
        Say(fmt::format("wrote {} ({}, pid {}, {} events, {})", trace.path, trace.command, trace.pid,
                        Grouped(trace.events), Size(trace.bytes)));
      }
      if (report.trace_count > report.traces.size()) {
        Say(fmt::format("and {} more traces, {}.PID; {} events, {} in all", report.trace_count - report.traces.size(),
                        output_, Grouped(report.events), Size(report.bytes)));
      }
      if (report.still_running != 0) {
        Say(fmt::format("{} process{} still running; {} recorded until {} end", report.still_running,
                        report.still_running == 1 ? " is" : "es are", report.still_running == 1 ? "it is" : "they are",
                        report.still_running == 1 ? "its" : "their"));
      }
    }
    for (const TraceSummary& trace : report.traces) {
      if (trace.bypassed && !said_reason_) {
        Say(fmt::format("{} (pid {}) brings its own malloc, so none of its allocations were seen", trace.command,
                        trace.pid));
      }
    }
    if (report.dropped != 0) {
      Say(
          fmt::format("{} events were dropped because the ring was full, or had no slot for their thread; "
                      "give it more room with --ring-bytes",
                      Grouped(report.dropped)));
    }
    if (report.missing != 0) {
      Say(fmt::format("{} events that were recorded did not arrive at the collector", Grouped(report.missing)));
    }
    if (!report.error.empty()) {
      Say(fmt::format("{}{}", report.error,
                      report.unwritten != 0
                          ? fmt::format("; {} events are lost, the others can be read", Grouped(report.unwritten))
                          : std::string()));
    }
    if (report.refused != 0) {
      Say(fmt::format("{} process{} not recorded: {}", Grouped(report.refused),
                      report.refused == 1 ? " was" : "es were",
                      options_.follow == "no" ? "--follow-children is no" : "no shared memory, or another user's"));
    }
    const bool nobody = report.trace_count == 0 && report.still_running == 0;
    if (nobody && !said_reason_) {
      Say(fmt::format("no process attached: '{}' {}", command_[0],
                      probe_.reason.empty()
                          ? "ran, but libtidemark.so did not come up in it; see tidemark doctor -- " + command_[0]
                          : probe_.reason));
    }
  }

  void Say(const std::string& sentence) const { fmt::print(stderr, "tidemark: {}\n", sentence); }

  const RecordOptions& options_;
  const std::vector<std::string>& command_;
  ProgramProbe probe_;
  std::vector<std::string> made_;
  std::string output_;
  bool collector_took_over_ = false;
  bool said_reason_ = false;
};

RunFunction DefineRecord(CLI::App& app) {
  auto options = std::make_shared<RecordOptions>();
  app.add_option("-o,--output", options->output,
                 "trace file (default tidemark.CMD.PID.tmk; children and earlier images FILE.PID)")
      ->type_name("FILE");
  app.add_option("--mode", options->mode, "sampled: about one allocation per --sample-bytes; full: every one")
      ->type_name("sampled|full");
  app.add_option("--sample-bytes", options->sample_bytes, "mean distance between samples (default 512K)")
      ->type_name("SIZE");
  app.add_option("--follow-children", options->follow, "record child processes too (default yes)")->type_name("yes|no");
  app.add_option("--guard", options->guard, "put one sample in N between guard pages (default 0: none)")
      ->type_name("N");
  app.add_option("--guard-action", options->guard_action,
                 "after a heap error on a guarded block: report it and go on, or die of it (default report)")
      ->type_name("report|die");
  app.add_flag("--leak-check", options->leak_check,
               "look for lost blocks when the program ends: exit, _exit, abort, exec");
  app.add_option("--leak-check-signal", options->leak_check_signal,
                 "do so, too, when this signal ends the program, unless the program handles or ignores it")
      ->type_name("NAME");
  app.add_option("--seed", options->seed, "seed of the sampler, for runs that repeat (default 0: from the clock)")
      ->type_name("N");
  app.add_option("--ring-bytes", options->ring_bytes, "shared memory per process (default 1M sampled, 8M full)")
      ->type_name("SIZE");
  app.add_option("--full-wait", options->full_wait_ms,
                 "full mode: how long an event waits for room in the ring before it is dropped (default 10000)")
      ->type_name("MS");
  app.add_flag("-q,--quiet", options->quiet, "say only what was lost");
  app.add_option("--cpu", options->cpu, "")->group("");
  return [options] { return Recording(*options, TrailingCommand()).Run(); };
}

}  // namespace

const Command kRecordCommand = {
    "record",
    "run a command and record its heap",
    "Runs CMD with libtidemark.so preloaded and writes its heap history to a trace file, one per process.\n\n"
    "CMD's exit status is passed through; 128+signal when it was killed, 125 when tidemark failed, 126 when CMD "
    "cannot be executed, 127 when it was not found. Processes that outlive CMD are recorded until they end.",
    DefineRecord,
    kOwnFailure,
    /*hidden=*/false,
    /*takes_command=*/true,
};

}  // namespace tidemark
