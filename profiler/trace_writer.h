// Writes a trace file (docs/trace-format.md): takes decoded records, keeps columns, appends checksummed sections.
//
// Runs in the collector process only (uses the C++ library, allocates, does file I/O). The file is created 0600 with
// O_EXCL|O_NOFOLLOW and only ever appended to, so that what was written stays readable whatever happens next.
// A failed write (disk full) never loses what is in the file: the partial section is cut off again, the writer turns
// into a sink that counts what it threw away, and error() says why.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/guard_report.h"
#include "profiler/session.h"
#include "profiler/trace_format.h"

namespace tidemark {

class EventEncoder;

// One event as it stands in the trace; times in TSC ticks.
struct TraceEvent {
  RecordKind kind = RecordKind::kPad;  // kAlloc, kFree, kRealloc, kGap, kHeapError or kMark
  Api api = Api::kMalloc;              // for kAlloc and kRealloc
  uint32_t node = 0;                   // stack; 0: none
  uint64_t tsc = 0;                    // absolute; equal to the previous event's when the thread did not stamp
  uint64_t address = 0;                // kRealloc: the new block
  uint64_t old_address = 0;            // kRealloc only
  uint64_t size = 0;                   // requested bytes; kGap: bytes lost
  uint64_t elapsed = 0;                // kRealloc: TSC from the old block's release to the event
  uint64_t count = 0;                  // kGap: events lost; kHeapError: HeapError
  uint32_t gap_kind = 0;               // kGap: EventKind
  GuardReport guard;                   // kGuardReport; the stack of the error is `node`
  std::string text;                    // kMark
};

struct TraceModule {
  uint64_t start = 0, end = 0, load_bias = 0;
  uint64_t first_tsc = 0;  // from this moment on the range belongs to this module
  std::string build_id;    // raw bytes, may be empty
  std::string path;
  uint32_t first_node = 0;  // in nodes from this number on; what is below means the module that was there before
};
struct TraceStackNode {
  uint32_t node = 0, parent = 0, flags = 0;  // flags: NodeFlags
  uint64_t ip = 0;
};
struct TraceThread {
  uint32_t serial = 0, tid = 0;
  uint64_t first_tsc = 0;
  std::string name;
};
struct TraceClock {
  uint64_t tsc = 0, monotonic_ns = 0, realtime_ns = 0;
};
struct TraceMemory {  // bytes; 0 when the kernel does not tell
  uint64_t monotonic_ns = 0;
  uint64_t rss = 0, pss = 0, anonymous = 0, file = 0, shmem = 0, swap = 0, virtual_size = 0;
};

// One leak check, and what it found.
struct TraceLeakCheck {
  uint32_t number = 0;  // 1, 2 ... in the trace
  LeakTrigger trigger = LeakTrigger::kExitBefore;
  LeakMethod method = LeakMethod::kInPlace;
  LeakOutcome outcome = LeakOutcome::kDone;
  uint32_t flags = 0;  // LeakFlags
  uint64_t tsc = 0;
  uint64_t pause_us = 0, scan_us = 0;
  uint32_t threads = 0, threads_not_stopped = 0;
  uint64_t root_bytes = 0, live_blocks = 0, live_bytes = 0;
};
struct TraceLeakRow {
  uint8_t leak_class = 0;  // LeakClass
  uint8_t root = 0;        // RootKind
  uint32_t flags = 0;      // LeakRowFlags
  uint32_t node = 0;
  uint64_t blocks = 1, bytes = 0;
  uint64_t address = 0;  // 0: stands for several blocks
  uint64_t leader = 0;   // address of the block that this one is charged to; often its own
};

class TraceWriter {
 public:
  // Creates `path`. On failure returns nullptr and sets *error to one sentence (path, what, errno text).
  static std::unique_ptr<TraceWriter> Create(const std::string& path, std::string* error);
  ~TraceWriter();

  void WriteInfo(std::string_view json);
  void AddModule(TraceModule module);      // buffered; flushed before the next events section
  void AddStackNode(TraceStackNode node);  // buffered; flushed before the next events section
  void AddThread(TraceThread thread);      // buffered; the last entry of a serial wins
  void AddClock(TraceClock clock);
  void AddMemory(TraceMemory sample);
  // One section of consecutive events of one thread, which `events` ends with; the header says whose and which.
  void WriteEvents(const EventsHeader& header, EventEncoder* events);
  // Rows of one leak check; any number of calls. The numbers of the call with `last` count.
  void AddLeaks(const TraceLeakCheck& check, std::span<const TraceLeakRow> rows, bool last);
  void Flush();  // writes what is buffered
  // Ends the trace: flushes, writes the kEnd and kIndex sections, closes.
  void Finish(std::string_view end_json);

  uint64_t bytes_written() const;
  uint64_t lost_sections() const;    // sections that could not be written
  const std::string& error() const;  // empty: everything was written
  const std::string& path() const;

 private:
  class Impl;
  explicit TraceWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark
