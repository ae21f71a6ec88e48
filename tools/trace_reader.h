// Reads a trace file (docs/trace-format.md) and hands out its events in time order.
//
// Bounds-checked throughout: any prefix of a trace and any damaged byte yields the sections that are whole, and
// problems() says what is missing. Memory is independent of the number of events: sections are scanned and checked
// once, event sections are decoded one per thread at a time while they are merged. The file is read, not mapped: see
// trace_source.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "profiler/trace_format.h"
#include "profiler/trace_writer.h"
#include "tools/result.h"
#include "tools/trace_leaks.h"

namespace tidemark {

class TraceReader {
 public:
  // Fails only when nothing can be told: not a file, not a trace, another major version, no whole section.
  static Result<std::unique_ptr<TraceReader>> Open(const std::string& path);
  // The same for bytes in memory (tests, fuzzing).
  static Result<std::unique_ptr<TraceReader>> FromMemory(std::string bytes);
  virtual ~TraceReader() = default;

  virtual const nlohmann::json& info() const = 0;  // kInfo; {} when missing
  virtual const nlohmann::json& end() const = 0;   // kEnd; null when the trace has no end
  virtual const std::vector<TraceModule>& modules() const = 0;
  virtual const std::vector<TraceThread>& threads() const = 0;  // one per serial, last name
  virtual const std::vector<TraceMemory>& memory() const = 0;   // by time
  // Indexed by node id (holes have parent 0, ip 0); node 0 is the root.
  virtual const std::vector<TraceStackNode>& nodes() const = 0;
  // By number; also those that are not whole.
  virtual const std::vector<TraceLeaks>& leak_checks() const = 0;
  // One sentence per thing that is missing or damaged; empty for a whole trace. ForEachEvent may add to it.
  virtual const std::vector<std::string>& problems() const = 0;
  virtual uint64_t file_bytes() const = 0;

  // Nanoseconds of CLOCK_MONOTONIC since the first clock record, by interpolation between clock records.
  virtual int64_t TimeNs(uint64_t tsc) const = 0;
  // CLOCK_MONOTONIC at TimeNs 0: what to subtract from TraceMemory::monotonic_ns for the same time line.
  virtual uint64_t origin_monotonic_ns() const = 0;
  virtual Mode mode() const = 0;
  virtual uint64_t sample_bytes() const = 0;  // 0 in full mode

  // All events, merged over threads by time; within a thread in program order. May be called again.
  // Single-threaded spans carry no stamps: their events keep the time of the last one that had.
  using Visitor = std::function<void(uint32_t thread_serial, const TraceEvent&)>;
  virtual void ForEachEvent(const Visitor& visit) = 0;
  // The events before a moment. Sections that begin later are not even read: a window at the beginning of a long trace
  // costs what it holds.
  virtual void ForEachEventBefore(uint64_t tsc, const Visitor& visit) {
    ForEachEvent([&](uint32_t thread_serial, const TraceEvent& event) {
      if (event.tsc < tsc) visit(thread_serial, event);
    });
  }
};

}  // namespace tidemark
