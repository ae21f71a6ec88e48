// The collector's event loop and the life of its traced processes; see collector.h.
//
// One loop for everything, because all its decisions depend on the same facts: a process that attaches may be the next
// image of one that is being traced, and whether we may leave depends on who could still come. Waiting happens in
// epoll_wait alone. Must not: read a segment or write a trace itself (TracedProcess does), allow one process to hold
// up the attaching of another (arrivals are served between chunks).
#include "profiler/collector.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include "profiler/process_probe.h"

namespace tidemark {
namespace {

// While data flows: the longer the less there is of it. A look costs 15 us, which at 2 ms was a tenth of the collector.
constexpr int kActiveSleep_ms = 2;
constexpr int kSlowSleep_ms = 5;
constexpr uint64_t kFastBytesPerLook = 128 << 10;
constexpr int kIdleSleep_ms = 50;
constexpr int kIdleSleepFull_ms = 20;  // complete recording can fill a ring in 50 ms
constexpr uint64_t kUrgentInterval_ns = 200'000;
constexpr uint64_t kImageCheckInterval_us = 1'000'000;
constexpr uint64_t kFirstHeirInterval_us = 1'000'000;
constexpr uint64_t kMaxHeirInterval_us = 10'000'000;
constexpr int kMaxAncestors = 64;

uint64_t NowUs() { return MonotonicNs() / 1000; }

}  // namespace

std::string ToPacket(const CollectorReport& report) {
  nlohmann::json traces = nlohmann::json::array();
  for (const TraceSummary& trace : report.traces) traces.push_back(ToJson(trace));
  const nlohmann::json json = {{"traces", traces},
                               {"trace_count", report.trace_count},
                               {"events", report.events},
                               {"bytes", report.bytes},
                               {"dropped", report.dropped},
                               {"missing", report.missing},
                               {"unwritten", report.unwritten},
                               {"refused", report.refused},
                               {"still_running", report.still_running},
                               {"launched_attached", report.launched_attached},
                               {"error", report.error}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool FromPacket(const std::string& packet, CollectorReport* report) {
  const nlohmann::json json = nlohmann::json::parse(packet, nullptr, false);
  if (!json.is_object()) return false;
  for (const nlohmann::json& trace : json["traces"]) report->traces.push_back(SummaryFromJson(trace));
  report->trace_count = json.value("trace_count", uint64_t{0});
  report->events = json.value("events", uint64_t{0});
  report->bytes = json.value("bytes", uint64_t{0});
  report->dropped = json.value("dropped", uint64_t{0});
  report->missing = json.value("missing", uint64_t{0});
  report->unwritten = json.value("unwritten", uint64_t{0});
  report->refused = json.value("refused", uint64_t{0});
  report->still_running = json.value("still_running", uint64_t{0});
  report->launched_attached = json.value("launched_attached", false);
  report->error = json.value("error", "");
  return true;
}

Collector::Collector(CollectorOptions options, OwnedFd listener, OwnedFd control)
    : options_(std::move(options)),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      control_(std::move(control)),
      names_(options_.output, options_.replace_output),
      server_(std::move(listener), options_.session_name, options_.session, epoll_fd_,
              [this](pid_t pid, uid_t uid) { return Admit(pid, uid); }) {
  launched_pid_ = options_.launched_pid;
  if (launched_pid_ != 0) {
    if (const std::optional<ProcessStat> stat = ReadProcessStat(launched_pid_)) {
      launched_start_ticks_ = stat->start_ticks;
    }
  }
  if (control_.valid()) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = control_.get()}};
    epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, control_.get(), &event);
  }
}

Collector::~Collector() {
  for (const std::string& path : options_.remove_at_end) {
    if (unlink(path.c_str()) != 0) rmdir(path.c_str());
  }
  close(epoll_fd_);
}

// Who may have a segment: our user's processes; and when we are root, also a process that has given up its rights, if
// it descends from the launched one.
bool Collector::Admit(pid_t pid, uid_t uid) const {
  if (pid <= 0) return false;  // of a pid namespace that we cannot see into
  if (!options_.follow_children && launched_pid_ != 0 && pid != launched_pid_) return false;
  if (uid == geteuid() || uid == 0) return true;
  if (geteuid() != 0) return false;
  pid_t ancestor = pid;
  for (int i = 0; i < kMaxAncestors && ancestor > 1; ++i) {
    if (ancestor == launched_pid_) return true;
    for (const auto& process : processes_) {
      if (process->pid() == ancestor) return true;
    }
    const std::optional<ProcessStat> stat = ReadProcessStat(ancestor);
    if (!stat) return false;
    ancestor = stat->parent;
  }
  return false;
}

void Collector::Run(OwnedFd first) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  signals_ = OwnedFd(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  epoll_event event{.events = EPOLLIN, .data = {.fd = signals_.get()}};
  epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, signals_.get(), &event);
  if (first.valid()) server_.Adopt(std::move(first));

  int timeout_ms = 0;
  for (;;) {
    epoll_event events[64];
    const int count = epoll_wait(epoll_fd_, events, 64, timeout_ms);
    ReadControl();
    // Nobody will tell us the launched process's status any more.
    bool ended = std::exchange(record_is_gone_, false);
    bool asked = false;
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (server_.Owns(fd)) {
        asked = true;
      } else if (fd == signals_.get()) {
        stop_ = true;
      } else if (!control_.valid() || fd != control_.get()) {
        ended = true;  // a pidfd
      }
    }
    if (stop_) break;
    if (asked) AdoptPending(processes_.size());
    PollAll();
    if (ended) FinishEnded();
    if (launched_ended_ && control_.valid()) OnLaunchedEnded();
    const uint64_t now_us = NowUs();
    FinishReplacedImages(now_us);
    for (AskedForLeaks& asked : server_.TakeLeakQuestions()) leak_questions_.Add(std::move(asked));
    leak_questions_.Serve(now_us, processes_);
    server_.Idle(now_us, processes_.size());
    if (NobodyLeft(now_us)) break;
    timeout_ms = TimeoutMs(taken_bytes_, any_busy_);
  }
  if (stop_) StopAll();
}

int Collector::TimeoutMs(uint64_t taken_bytes, bool busy) {
  if (busy) return 0;
  if (!leak_questions_.empty()) return kActiveSleep_ms;
  const int longest = options_.session.mode == Mode::kFull ? kIdleSleepFull_ms : kIdleSleep_ms;
  if (taken_bytes != 0) {
    idle_ms_ = taken_bytes >= kFastBytesPerLook ? kActiveSleep_ms : kSlowSleep_ms;
  } else {
    idle_ms_ = std::min(idle_ms_ * 2, longest);
  }
  if (processes_.empty() && !server_.has_connections()) return 1000;  // only new connections matter
  return idle_ms_;
}

void Collector::ReadControl() {
  while (control_.valid()) {
    ControlMessage message;
    const ssize_t n = recv(control_.get(), &message, sizeof message, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n != sizeof message) {  // go on without it
      record_is_gone_ = true;
      CloseControl();
      return;
    }
    if (message.kind == ControlMessage::kEnded) {
      launched_ended_ = true;
      launched_status_ = message.wait_status;
    }
  }
}

void Collector::CloseControl() {
  if (control_.valid()) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, control_.get(), nullptr);
  control_ = OwnedFd();
}

void Collector::OnAttached(Attached attached) {
  const pid_t pid = attached.pid;
  const uint64_t start_ticks = attached.identity.start_ticks;
  TracedProcess::Context context;
  context.tool_version = options_.tool_version;
  context.launch = options_.launch;
  context.session = options_.session;
  if (launched_pid_ == 0) {
    launched_pid_ = pid;
    launched_start_ticks_ = start_ticks;
  }
  // A pid that attaches again is the same process after an exec, or another one that got the number of a dead one.
  for (size_t i = 0; i < processes_.size(); ++i) {
    if (processes_[i]->pid() != pid) continue;
    const bool same = processes_[i]->start_ticks() == start_ticks && !attached.fork_child;
    Finish(i, same ? ProcessExit{ProcessExit::Kind::kExec, 0} : HowEnded(*processes_[i]));
    break;
  }
  Image& image = images_[pid];
  if (image.start_ticks != start_ticks) image = Image{start_ticks, 0};
  context.image = ++image.count;
  for (const auto& process : processes_) context.parent_traced |= process->pid() == attached.identity.parent;
  context.between_chunks = [this] {
    // Attaching processes wait for us; a long drain of another one must not hold them up.
    const uint64_t now_ns = MonotonicNs();
    if (now_ns - last_urgent_ns_ < kUrgentInterval_ns) return;
    last_urgent_ns_ = now_ns;
    ReadControl();
    for (Attached& arrival : server_.ServePending(processes_.size() + arrivals_.size())) {
      arrivals_.push_back(std::move(arrival));
    }
  };
  const bool launched = pid == launched_pid_ && start_ticks == launched_start_ticks_;
  if (launched) report_.launched_attached = true;
  const uint32_t number = context.image;
  auto process = std::make_unique<TracedProcess>(std::move(attached), std::move(context));
  std::string error;
  if (launched && number > 1) {
    const TraceNames::Moved moved = names_.MoveAside(pid, number - 1);
    for (TraceSummary& trace : report_.traces) {
      if (!moved.from.empty() && trace.path == moved.from) trace.path = moved.to;
    }
  }
  std::unique_ptr<TraceWriter> writer = names_.Create(pid, number, launched, &error);
  process->OpenTrace(std::move(writer), names_.output(), error);
  if (process->pidfd() >= 0) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = process->pidfd()}};
    epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, process->pidfd(), &event);
  }
  processes_.push_back(std::move(process));
  idle_ms_ = kActiveSleep_ms;
}

// Images of a process are adopted in the order in which they attached; so whoever asks the server puts them behind
// those that were answered during a drain.
void Collector::AdoptPending(size_t live_sessions) {
  for (Attached& attached : server_.ServePending(live_sessions)) arrivals_.push_back(std::move(attached));
  AdoptArrivals();
}

void Collector::AdoptArrivals() {
  while (!arrivals_.empty()) {
    std::vector<Attached> arrivals = std::exchange(arrivals_, {});
    for (Attached& arrival : arrivals) OnAttached(std::move(arrival));
  }
}

void Collector::PollAll() {
  taken_bytes_ = 0;
  any_busy_ = false;
  bool check_ended = false;
  for (size_t i = 0; i < processes_.size(); ++i) {
    taken_bytes_ += processes_[i]->Poll(NowUs(), processes_.size());
    any_busy_ |= processes_[i]->busy() && taken_bytes_ != 0;
    check_ended |= processes_[i]->pidfd() < 0;
  }
  AdoptArrivals();
  if (check_ended) FinishEnded();
}

ProcessExit Collector::HowEnded(const TracedProcess& process) const {
  const std::optional<ProcessStat> stat = ReadProcessStat(process.pid());
  if (stat && stat->start_ticks == process.start_ticks() && stat->wait_status) {
    return {ProcessExit::Kind::kWaitStatus, *stat->wait_status};
  }
  if (process.pid() == launched_pid_ && launched_ended_) return {ProcessExit::Kind::kWaitStatus, launched_status_};
  if (const std::optional<int> status = ReapedStatus(process.pidfd())) {
    return {ProcessExit::Kind::kWaitStatus, *status};
  }
  return {};
}

void Collector::FinishEnded() {
  for (size_t i = 0; i < processes_.size();) {
    const TracedProcess& process = *processes_[i];
    if (!process.HasEnded()) {
      ++i;
      continue;
    }
    const ProcessExit exit = HowEnded(process);
    if (exit.kind == ProcessExit::Kind::kUnknown && process.pid() == launched_pid_ && control_.valid()) {
      // record is about to tell us; until then the pidfd must not wake us again and again.
      epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, process.pidfd(), nullptr);
      ++i;
      continue;
    }
    images_.erase(process.pid());
    Finish(i, exit);
  }
  AdoptArrivals();
}

void Collector::FinishReplacedImages(uint64_t now_us) {
  if (now_us < next_image_check_us_) return;
  next_image_check_us_ = now_us + kImageCheckInterval_us;
  // After an exec into a program that cannot attach (static, setuid) nobody tells us that the old image is gone.
  for (size_t i = 0; i < processes_.size();) {
    if (processes_[i]->ImageWasReplaced()) {
      Finish(i, {ProcessExit::Kind::kExec, 0});
    } else {
      ++i;
    }
  }
  AdoptArrivals();
}

void Collector::Finish(size_t index, const ProcessExit& exit) {
  std::unique_ptr<TracedProcess> process = std::move(processes_[index]);
  processes_.erase(processes_.begin() + static_cast<ptrdiff_t>(index));
  const bool launched = process->pid() == launched_pid_ && process->start_ticks() == launched_start_ticks_;
  if (process->pidfd() >= 0) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, process->pidfd(), nullptr);
  TraceSummary summary = process->Finish(exit);
  if (summary.not_recorded) {
    ++not_recorded_;
    return;
  }
  ++report_.trace_count;
  report_.events += summary.events;
  report_.bytes += summary.bytes;
  report_.dropped += summary.dropped;
  report_.missing += summary.missing;
  report_.unwritten += summary.unwritten;
  if (report_.error.empty()) report_.error = summary.error;
  if (launched) {  // its last image, which FILE is, comes first
    report_.traces.insert(report_.traces.begin(), std::move(summary));
    if (report_.traces.size() > CollectorReport::kMaxTraces) report_.traces.pop_back();
  } else if (report_.traces.size() < CollectorReport::kMaxTraces) {
    report_.traces.push_back(std::move(summary));
  }
}

// CMD has ended: finish every trace whose process has ended too, and let record go.
void Collector::OnLaunchedEnded() {
  AdoptPending(processes_.size());
  FinishEnded();
  SendReport();
}

void Collector::SendReport() {
  report_.still_running = processes_.size();
  report_.refused = server_.refused() + not_recorded_;
  if (report_.error.empty()) report_.error = server_.error();
  const std::string packet = ToPacket(report_);
  (void)send(control_.get(), packet.data(), packet.size(), MSG_NOSIGNAL);
  CloseControl();
}

// The system is shutting down, or somebody wants us gone: leave whole traces behind and hosts that do not wait for us.
void Collector::StopAll() {
  for (const auto& process : processes_) process->Abandon();
  while (!processes_.empty()) {
    const TracedProcess& first = *processes_[0];
    Finish(0, first.HasEnded() ? HowEnded(first) : ProcessExit{ProcessExit::Kind::kStillRunning, 0});
  }
  if (control_.valid()) SendReport();
}

bool Collector::NobodyLeft(uint64_t now_us) {
  if (!processes_.empty() || control_.valid() || server_.has_connections()) {
    heir_interval_us_ = 0;
    next_heir_check_us_ = 0;
    return false;
  }
  if (now_us < next_heir_check_us_) return false;
  heir_interval_us_ = std::clamp(heir_interval_us_ * 2, kFirstHeirInterval_us, kMaxHeirInterval_us);
  next_heir_check_us_ = now_us + heir_interval_us_;
  // Twice: a process may have been forked while the first look went on, with a number that it had passed.
  if (options_.follow_children) {
    for (int i = 0; i < 2; ++i) {
      if (!FindHeirs(options_.session_name).empty()) return false;
    }
  }
  AdoptPending(0);
  return processes_.empty() && !server_.has_connections();
}

namespace {

void CloseRange(unsigned first, unsigned last) {
  if (syscall(SYS_close_range, first, last, 0) == 0) return;
  for (unsigned fd = first; fd <= last && fd < 65536; ++fd) close(static_cast<int>(fd));  // kernel before 5.9
}

}  // namespace

void DetachForCollecting(const std::vector<int>& keep) {
  setsid();
  for (int signal : {SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGXFSZ, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP}) {
    std::signal(signal, SIG_IGN);
  }
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  prctl(PR_SET_NAME, "tidemark-collec");
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  std::vector<unsigned> kept;
  for (int fd : keep) {
    if (fd > 2) kept.push_back(static_cast<unsigned>(fd));
  }
  for (int fd = 0; fd <= 2 && null >= 0; ++fd) {
    if (std::find(keep.begin(), keep.end(), fd) == keep.end()) dup2(null, fd);
  }
  std::sort(kept.begin(), kept.end());
  unsigned from = 3;
  for (unsigned fd : kept) {
    if (fd > from) CloseRange(from, fd - 1);
    from = fd + 1;
  }
  CloseRange(from, ~0u);
}

}  // namespace tidemark
