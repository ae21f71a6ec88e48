// What the leak checks of a run say, as one model that every format of `tidemark leaks` prints: no two can disagree.
//
// A run is one or more processes, one trace each. Of each trace the last whole check counts. Blocks that are alike
// (class, way in, stack with its lines) are one Leak, in whatever process they were lost. An indirectly lost block is
// counted in its own Leak and charged to the one of its leader, so that sums over classes count each block once. In
// sampled traces all amounts are estimates with intervals (tools/model/estimator.h); in complete ones they are exact.
// Must not: decide what is allowed (leak_gate.h), print.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "profiler/reachability.h"
#include "profiler/trace_format.h"
#include "tools/loaded_trace.h"
#include "tools/model/tally.h"
#include "tools/suppressions.h"

namespace tidemark {

// In the order in which they are shown, and as indexes of arrays.
inline constexpr LeakKind kLeakKinds[] = {kLeakDefinite, kLeakIndirect, kLeakPossible, kLeakReachable};
inline constexpr size_t kLeakKindCount = 4;
size_t IndexOf(LeakKind kind);
const char* TitleOf(LeakKind kind);                          // "definitely lost", as memcheck says it
const char* WordOf(LeakKind kind);                           // "definite", as suppression files and options have it
std::optional<uint32_t> LeakKindSet(std::string_view text);  // "definite,possible", "all", "none"
const char* NameOf(RootKind root);                           // "a global variable"
const char* WordOf(RootKind root);                           // "global"
const char* NameOf(LeakTrigger trigger);                     // "at exit, after destructors"
const char* NameOf(LeakMethod method);                       // "in place"

struct LeakFrame {
  std::string function;  // demangled; a placeholder when `known` is false
  std::string module;    // path; "" unknown
  std::string file;      // source; "" unknown
  uint32_t line = 0;
  uint64_t ip = 0;  // as recorded, in the first process that has it; 0 for frames that stand for something else
  bool inlined = false;
  bool known = false;
};
std::string BaseName(const std::string& path);
// Without the allocator's frames at the leaf, and without the recorder's that stand between main and its caller.
std::vector<LeakFrame> LeakStackOf(LoadedTrace& trace, uint32_t node);
// "list.c:12", "" unknown.
std::string PlaceOf(const LeakFrame& frame);

// What has a leader somewhere: blocks of one stack that only its blocks hold.
struct LeakPart {
  std::string site;  // "node_new list.c:4"
  Usage held;
};

struct LeakShare {
  uint32_t process = 0;  // index into LeakVerdict::processes
  Usage direct;
};

enum class BaselineState { kNone, kNew, kKnown, kGrown };

struct Leak {
  LeakKind kind = kLeakDefinite;
  RootKind root = RootKind::kNone;  // of reachable blocks
  std::vector<LeakFrame> stack;     // innermost first, the allocator's own frames left out; may be empty: no stack
  std::string allocator;            // "malloc", "operator new(unsigned long)"; "" unknown
  std::string allocator_linkage;    // "_Znwm"
  Usage direct;                     // the blocks themselves
  Usage indirect;                   // and what only they hold (definitely lost ones)
  std::vector<LeakPart> structure;  // that, by stack, heaviest first
  std::vector<LeakShare> processes;
  std::optional<int64_t> first_ns, last_ns;  // of their allocations, since the process's first clock sample
  std::vector<std::string> threads;          // that allocated them: "main (4711)"
  uint64_t lost_running = 0;                 // blocks (samples) that were lost while the program ran
  uint64_t lost_at_end = 0;                  // blocks that destructors lost; both 0: there was one check only
  uint64_t heap_sized = 0;                   // blocks whose size is the heap's, rounded up
  std::string fingerprint, fuzzy;            // leak_fingerprint.h
  std::vector<size_t> leaders;               // of indirectly lost ones: the leaks that they are charged to
  // The gate's (leak_gate.h).
  std::string suppressed_by;  // the rule; "": none
  std::string suppressed_in;  // its file and line
  BaselineState baseline = BaselineState::kNone;
  bool fails = false;  // counts against the policy
  std::string rule;    // a suppression that would match this leak and little else

  Usage whole() const;
};

struct LeakProcess {
  std::string trace, command, executable, ending;
  uint64_t pid = 0;
  bool sampled = false;
  uint64_t sample_bytes = 0;
  std::optional<TraceLeakCheck> check;  // the one that counts
  std::string could_not_check;          // why nothing is known, or not enough; "": fine
  std::vector<std::string> notes;
  Usage inherited;  // lost blocks that the process had from its parent; not among the leaks unless asked for
};

struct LeakVerdict {
  std::vector<LeakProcess> processes;
  std::vector<Leak> leaks;  // in order: class, bytes, stack
  Usage totals[kLeakKindCount];

  bool sampled() const;
  bool could_check() const;  // every process
};

class LeakVerdictBuilder {
 public:
  explicit LeakVerdictBuilder(bool count_inherited) : count_inherited_(count_inherited) {}
  void Add(LoadedTrace& trace, const std::string& path);
  LeakVerdict Take();

 private:
  struct Origin;
  struct Group;
  void AddRows(LoadedTrace& trace, const TraceLeaks& leaks, const TraceLeaks* before, uint32_t process);
  size_t LeakOf(LoadedTrace& trace, const Group& group);

  bool count_inherited_;
  LeakVerdict verdict_;
  std::map<std::string, size_t> by_key_;
  std::map<std::pair<size_t, size_t>, Usage> held_;  // (leader's leak, held leak) -> how much
};

}  // namespace tidemark
