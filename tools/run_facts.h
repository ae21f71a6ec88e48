// What a trace says about the run it was taken from, beside its events: the process, how it ended, what was lost, how
// good the unwinding was. Read from the two JSON sections (docs/trace-format.md), which a damaged or foreign trace may
// lack in whole or in part: a field that is missing or of the wrong type keeps its default.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/model/heap_model.h"
#include "tools/trace_reader.h"

namespace tidemark {

inline constexpr const char* kEventKindNames[kKindCount] = {"alloc", "free", "realloc"};

// Per kind: observed = recorded + dropped + skipped.
struct Conservation {
  uint64_t recorded = 0;  // in the trace, as read
  uint64_t dropped = 0;   // by the process: no room in the ring
  uint64_t skipped = 0;   // not looked at (nested in a hook), or handed over but not in the trace
  uint64_t observed() const { return recorded + dropped + skipped; }
  uint64_t lost() const { return dropped + skipped; }
};

struct Unwinding {
  uint64_t stacks = 0, truncated = 0, frames_walked = 0, frames_reused = 0, rule_misses = 0, fp_guesses = 0;
  // Builds that take every stack twice (-DTIDEMARK_CHECK_UNWIND): how many, and how many differed.
  uint64_t checked = 0, wrong = 0;
  bool perfect() const { return truncated == 0 && fp_guesses == 0 && wrong == 0; }
};

// What the profiler itself cost.
struct OwnCost {
  uint64_t timed_events = 0;      // events whose recording was timed
  double ns_per_event = 0;        // their mean, in the hooks, without the heap's own work
  double hooks_ns = 0;            // estimate for all events
  double rule_misses_ns = 0;      // of that, looking up unwinding rules in CFI; measured, not estimated
  uint64_t collector_cpu_us = 0;  // user and system
  uint64_t bytes_written = 0;
  uint64_t longest_gap_us = 0;  // the longest time for which the collector did not look at the ring
};

struct RunFacts {
  std::vector<std::string> command;
  std::string executable, tool_version, launch;
  uint64_t pid = 0;              // 0: unknown
  bool guards_given_up = false;  // the program took SIGSEGV for itself
  bool bypassed = false;         // the program brings its own malloc: nothing was recorded
  bool complete = false;         // the trace has its end
  std::string exit_kind;         // "exited", "signaled", "exec", "running", "unknown"; "" without an end
  int64_t exit_number = 0;       // status or signal
  int64_t start_realtime_ns = 0;
  int64_t duration_ns = 0;  // to the trace's end, or its last event
  std::array<Conservation, kKindCount> events{};
  std::optional<Unwinding> unwinding;
  uint64_t exact_allocated_bytes = 0;  // counted, not estimated, by the sampler; 0: unknown
  uint64_t foreign_frees = 0, region_full_count = 0, region_full_bytes = 0, internal_failures = 0, heap_errors = 0;
  OwnCost cost;

  Conservation all_events() const;
  std::string CommandText() const;  // "./prog 'an argument'"; the executable when the command is not known
  std::string EndingText() const;   // "exited with status 0"
  std::string LossText() const;     // "nothing lost", "12 allocs, 3 frees lost (0.1 % of 12,345 events)"
  std::string UnwindText() const;   // "2.1 % truncated, 12 frames guessed by frame pointer"
};

RunFacts FactsOf(const TraceReader& reader, const HeapModel& model);

const char* NameOf(Mode mode);  // "full", "sampled"

}  // namespace tidemark
