// The collector: a process of its own that empties the rings of all profiled processes into trace files.
//
//   attach (socket) -> Segment -> TracedProcess: poll, poll, poll -> process ends or execs -> Finish -> TraceSummary
//
// It outlives `tidemark record` when profiled processes do (daemons), and its death harms nobody: processes drop what
// they cannot hand over. It ends when no process is attached, none can attach any more, and record has its report.
//
// One thread, one epoll loop: it sleeps 2 to 5 ms while data flows and up to 50 ms when idle; connections and process
// ends wake it at once. Must not: write to the terminal (it has none), block on anything but epoll and the trace files.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "profiler/leak_questions.h"
#include "profiler/session_server.h"
#include "profiler/trace_names.h"
#include "profiler/traced_process.h"

namespace tidemark {

// From `record` to its collector: one packet each, on a SOCK_SEQPACKET pair.
struct ControlMessage {
  enum Kind : uint32_t {
    kEnded = 1,  // CMD has ended with `wait_status`: finish what has ended, and report
  };
  uint32_t kind = 0;
  int32_t wait_status = 0;
};

// From the collector to `record`: one packet, JSON.
struct CollectorReport {
  static constexpr size_t kMaxTraces = 5;
  std::vector<TraceSummary> traces;  // the launched process first; the rest only in sum:
  uint64_t trace_count = 0;
  uint64_t events = 0;
  uint64_t bytes = 0;
  uint64_t dropped = 0;
  uint64_t missing = 0;
  uint64_t unwritten = 0;
  uint64_t refused = 0;        // processes that were given no segment
  uint64_t still_running = 0;  // processes whose traces go on
  bool launched_attached = false;
  std::string error;  // the first one
};
std::string ToPacket(const CollectorReport& report);
bool FromPacket(const std::string& packet, CollectorReport* report);

struct CollectorOptions {
  SessionOptions session;
  std::string session_name;
  std::string tool_version;
  std::string launch = "record";  // or "preload"
  std::string output;             // file name or pattern, see trace_names.h
  bool replace_output = false;
  bool follow_children = true;
  pid_t launched_pid = 0;                  // the process that writes `output` itself; 0: the first one that attaches
  std::vector<std::string> remove_at_end;  // paths that were made for this recording: files, then their directory
};

class Collector {
 public:
  // `listener` and `control` may be invalid.
  Collector(CollectorOptions options, OwnedFd listener, OwnedFd control);
  ~Collector();

  // Serves until nobody needs it any more, or SIGTERM. `first`: a connection that exists already, or invalid.
  void Run(OwnedFd first);
  // After Run: what was written.
  const CollectorReport& report() const { return report_; }

 private:
  struct Image {  // the images that a process has attached with so far
    uint64_t start_ticks = 0;
    uint32_t count = 0;
  };

  bool Admit(pid_t pid, uid_t uid) const;
  void OnAttached(Attached attached);
  void AdoptPending(size_t live_sessions);
  void AdoptArrivals();
  void ReadControl();
  void OnLaunchedEnded();
  void PollAll();
  void FinishEnded();
  void FinishReplacedImages(uint64_t now_us);
  ProcessExit HowEnded(const TracedProcess& process) const;
  void Finish(size_t index, const ProcessExit& exit);
  void SendReport();
  void StopAll();
  bool NobodyLeft(uint64_t now_us);
  int TimeoutMs(uint64_t taken_bytes, bool busy);
  void CloseControl();

  const CollectorOptions options_;
  const int epoll_fd_;
  OwnedFd control_;
  OwnedFd signals_;
  TraceNames names_;
  SessionServer server_;
  LeakQuestions leak_questions_;
  std::vector<std::unique_ptr<TracedProcess>> processes_;
  std::vector<Attached> arrivals_;  // attached while a drain went on
  std::unordered_map<pid_t, Image> images_;
  pid_t launched_pid_ = 0;
  uint64_t launched_start_ticks_ = 0;
  int launched_status_ = 0;
  bool launched_ended_ = false;
  bool record_is_gone_ = false;  // found out since the last turn
  bool stop_ = false;
  int idle_ms_ = 2;
  bool any_busy_ = false;
  uint64_t taken_bytes_ = 0;
  uint64_t not_recorded_ = 0;  // processes that never took their segment
  uint64_t last_urgent_ns_ = 0;
  uint64_t next_image_check_us_ = 0;
  uint64_t next_heir_check_us_ = 0;
  uint64_t heir_interval_us_ = 0;
  CollectorReport report_;
};

// Makes the calling process a daemon fit to run a collector: own session, no terminal signals, standard descriptors on
// /dev/null, all others but `keep` closed. The working directory stays: trace names are relative to it.
void DetachForCollecting(const std::vector<int>& keep);

}  // namespace tidemark
