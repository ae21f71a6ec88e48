// One image of a profiled process as the collector sees it: its segment on one side, its trace file on the other.
//
// Context: collector process, one thread. Must not: decide when a process has ended or what its file is called
// (collector.h does), wait for anything.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "profiler/process_probe.h"
#include "profiler/ring_reader.h"
#include "profiler/session_server.h"
#include "profiler/trace_writer.h"

namespace tidemark {

// How a process ended. Unknown unless somebody saw its wait status.
struct ProcessExit {
  enum class Kind { kUnknown, kWaitStatus, kExec, kStillRunning };
  Kind kind = Kind::kUnknown;
  int wait_status = 0;
};

// What is told about a finished trace.
struct TraceSummary {
  std::string path;
  std::string command;  // name of the program
  pid_t pid = 0;
  uint64_t events = 0;        // taken out of the ring
  uint64_t bytes = 0;         // of the file
  uint64_t dropped = 0;       // by the process: no room in the ring
  uint64_t missing = 0;       // counted as recorded, never received
  uint64_t unwritten = 0;     // events that did not reach the file
  bool bypassed = false;      // the program brings its own malloc
  bool not_recorded = false;  // it never took its segment; there is no file
  std::string error;          // why the file is not whole; empty: it is
};
nlohmann::json ToJson(const TraceSummary& summary);
TraceSummary SummaryFromJson(const nlohmann::json& json);

class TracedProcess : private RingReader::Sink {
 public:
  struct Context {
    std::string tool_version;
    std::string launch;  // "record" or "preload"
    SessionOptions session;
    uint32_t image = 1;
    bool parent_traced = false;
    std::function<void()> between_chunks;  // called while a long drain goes on
  };

  TracedProcess(Attached attached, Context context);
  ~TracedProcess() override;
  TracedProcess(const TracedProcess&) = delete;

  // Where the trace goes. Without a writer events are taken and thrown away, and the summary says why.
  void OpenTrace(std::unique_ptr<TraceWriter> writer, const std::string& wanted_path, const std::string& error);

  // One turn: the tick, new records, dead threads, samples. Returns the bytes taken out of the ring.
  uint64_t Poll(uint64_t now_us, size_t live_processes);
  // Takes everything that was committed, closes the trace. The segment is not looked at afterwards.
  TraceSummary Finish(const ProcessExit& exit);
  // The process will not be read any more, though it lives: it must not wait for free chunks.
  void Abandon();

  // True when /proc says that the image in the process is another one than the one that attached.
  bool ImageWasReplaced() const;
  // True when the process has ended (it may still be a zombie); asks /proc only where there is no pidfd.
  bool HasEnded() const;
  // True when more than a quarter of the ring was full at the last poll: come back at once.
  bool busy() const { return busy_; }

  // ---- Leak checks on demand.
  bool looks_for_leaks() const { return context_.session.leak_check; }
  // The signal that makes the process look at its request; 0: it handles that signal itself.
  uint32_t leak_signal() const { return header().leak_signal.load(std::memory_order_relaxed); }
  // Writes a request down; what leak_taken() will be when it was taken up.
  uint32_t RequestLeaks(uint32_t bits);
  uint32_t leak_taken() const { return header().leak_taken.load(std::memory_order_acquire); }
  // Number of the last check that was finished and had been asked for; 0: none.
  uint32_t last_requested_check() const { return last_requested_check_; }
  // Everything so far goes to the file; its name, or empty: it cannot be written.
  std::string FlushTrace();

  pid_t pid() const { return attached_.pid; }
  int pidfd() const { return attached_.pidfd.get(); }
  uint64_t start_ticks() const { return attached_.identity.start_ticks; }
  uint32_t image() const { return context_.image; }

 private:
  void OnNode(TraceStackNode node) override;
  void OnModule(TraceModule module) override;
  void OnThread(TraceThread thread) override;
  void OnEvents(const EventsHeader& header, EventEncoder& events) override;
  void OnLeakCheck(const TraceLeakCheck& check, bool ended) override;
  void OnLeakRow(uint32_t check_number, const TraceLeakRow& row) override;
  void BetweenChunks() override;

  SessionHeader& header() const { return attached_.segment->header(); }
  TraceSummary GiveUp();
  void WriteInfo();
  struct LeakCheckUnderWay {
    uint32_t given_number = 0;  // as the process says
    TraceLeakCheck check;
    std::vector<TraceLeakRow> rows;
  };
  using LeakChecks = std::vector<LeakCheckUnderWay>;
  LeakChecks::iterator FindLeakCheck(uint32_t given_number);
  LeakChecks::iterator EndLeakCheck(LeakChecks::iterator check);
  bool RetireIsDue(uint64_t now_us);
  void RetireDeadThreads(uint64_t now_us);
  bool ThreadExists(uint32_t own_tid);
  void SampleMemory(uint64_t now_us, size_t live_processes);
  void SampleMemoryFully(uint64_t now_us);

  Attached attached_;
  const Context context_;
  RingReader reader_;
  std::unique_ptr<TraceWriter> writer_;
  TraceSummary summary_;
  uint64_t unwritten_[kKindCount] = {};  // received, but their section could not be written
  std::vector<uint32_t> nested_tids_;    // ids, as the process sees them, of the threads that exist
  bool nested_tids_complete_ = false;
  uint32_t leak_checks_begun_ = 0, leak_checks_finished_ = 0;
  LeakChecks leak_checks_;
  bool saw_exiting_ = false;
  bool busy_ = false;
  uint64_t last_poll_us_ = 0;
  uint64_t longest_gap_us_ = 0;
  uint64_t cpu_ns_ = 0;
  uint64_t next_clock_us_ = 0;
  uint64_t next_quick_us_ = 0;
  uint64_t next_full_us_ = 0;
  uint64_t last_retire_us_ = 0;
  uint32_t retired_when_wanted_ = 0, retired_when_started_ = 0;
  TraceMemory last_memory_;
  uint32_t leak_requests_ = 0, last_requested_check_ = 0;
};

}  // namespace tidemark
