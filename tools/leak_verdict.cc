// See leak_verdict.h. Per trace: choose the check, learn from the events who allocated the lost blocks, group the rows
// by class, root and stack, name the stacks; groups of equal name are merged over processes at once.
#include "tools/leak_verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "tools/leak_fingerprint.h"

namespace tidemark {
namespace {

LeakKind KindOf(uint8_t leak_class) {
  switch (static_cast<LeakClass>(leak_class)) {
    case LeakClass::kPossiblyLost:
      return kLeakPossible;
    case LeakClass::kIndirectlyLost:
      return kLeakIndirect;
    case LeakClass::kDefinitelyLost:
      return kLeakDefinite;
    case LeakClass::kReachable:
      break;
  }
  return kLeakReachable;
}

const char* FunctionOf(Api api) {
  switch (api) {
    case Api::kCalloc:
      return "calloc";
    case Api::kRealloc:
      return "realloc";
    case Api::kReallocarray:
      return "reallocarray";
    case Api::kMemalign:
      return "memalign";
    case Api::kAlignedAlloc:
      return "aligned_alloc";
    case Api::kPosixMemalign:
      return "posix_memalign";
    case Api::kValloc:
      return "valloc";
    case Api::kPvalloc:
      return "pvalloc";
    default:
      return "malloc";
  }
}

// What Valgrind's suppressions call the operators.
std::string LinkageOf(const std::string& allocator) {
  constexpr std::string_view kNew = "operator new(", kNewArray = "operator new[](";
  std::string name;
  if (allocator.starts_with(kNewArray)) {
    name = "_Znam";
  } else if (allocator.starts_with(kNew)) {
    name = "_Znwm";
  } else {
    return allocator;
  }
  if (allocator.find("align_val_t") != std::string::npos) name += "St11align_val_t";
  if (allocator.find("nothrow_t") != std::string::npos) name += "RKSt9nothrow_t";
  return name;
}

void AddExact(uint64_t bytes, uint64_t blocks, Usage* usage) {
  usage->bytes.seen += bytes;
  usage->blocks.seen += blocks;
}

void AddSample(uint64_t bytes, uint64_t sample_bytes, Usage* usage) {
  const SampleWeight weight = WeightOfSample(bytes, sample_bytes);
  AddExact(bytes, 1, usage);
  usage->bytes += Amount{0, weight.unseen_bytes, weight.bytes_variance, weight.bytes};
  usage->blocks += Amount{0, weight.unseen_blocks, weight.blocks_variance, weight.blocks};
}

bool CanCount(const TraceLeaks& leaks) { return leaks.whole && leaks.check.outcome == LeakOutcome::kDone; }

const char* WhyNot(LeakOutcome outcome) {
  switch (outcome) {
    case LeakOutcome::kDone:
      break;
    case LeakOutcome::kNoMemory:
      return "had no memory for its marks";
    case LeakOutcome::kTimedOut:
      return "took too long and gave up";
    case LeakOutcome::kNoMaps:
      return "could not read the mappings of the process (is /proc mounted?)";
    case LeakOutcome::kNoSnapshot:
      return "could not make a copy of the process (limits of processes or memory?)";
    case LeakOutcome::kUnfinished:
      return "did not come to its end: the process died in the middle";
  }
  return "did not succeed, for a reason that this version does not know";
}

// Why there is no check that counts.
std::string WhyUnchecked(const LoadedTrace& trace) {
  if (trace.facts.bypassed) return "the program brings its own malloc, so its blocks are not known";
  const std::vector<TraceLeaks>& checks = trace.reader->leak_checks();
  if (!checks.empty()) {
    const TraceLeaks& last = checks.back();
    if (!last.whole && last.check.outcome == LeakOutcome::kDone) {
      return fmt::format("parts of its leak check {} are missing from the trace", last.check.number);
    }
    return fmt::format("leak check {} {}", last.check.number, WhyNot(last.check.outcome));
  }
  const auto asked = trace.reader->info().find("leak_check");
  if (asked == trace.reader->info().end() || *asked != true) {
    return "it was recorded without --leak-check; record it again with that option";
  }
  return fmt::format("there is no leak check in the trace ({})", trace.facts.EndingText());
}

}  // namespace

size_t IndexOf(LeakKind kind) {
  for (size_t i = 0; i < kLeakKindCount; ++i) {
    if (kLeakKinds[i] == kind) return i;
  }
  return kLeakKindCount - 1;
}

const char* TitleOf(LeakKind kind) {
  constexpr const char* kTitles[] = {"definitely lost", "indirectly lost", "possibly lost", "still reachable"};
  return kTitles[IndexOf(kind)];
}

const char* WordOf(LeakKind kind) {
  constexpr const char* kWords[] = {"definite", "indirect", "possible", "reachable"};
  return kWords[IndexOf(kind)];
}

std::optional<uint32_t> LeakKindSet(std::string_view text) {
  if (text == "all") return kAllLeakKinds;
  if (text == "none") return 0;
  uint32_t set = 0;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string_view word = text.substr(at, comma - at);
    const auto* kind =
        std::find_if(std::begin(kLeakKinds), std::end(kLeakKinds), [&](LeakKind k) { return word == WordOf(k); });
    if (kind == std::end(kLeakKinds)) return std::nullopt;
    set |= *kind;
    at = comma + 1;
  }
  return set;
}

const char* NameOf(RootKind root) {
  switch (root) {
    case RootKind::kNone:
      break;
    case RootKind::kRegisters:
      return "a register";
    case RootKind::kStack:
      return "a stack";
    case RootKind::kThreadLocal:
      return "thread-local storage";
    case RootKind::kGlobal:
      return "a global variable";
    case RootKind::kMapping:
      return "another mapping";
  }
  return "nothing known";
}

const char* WordOf(RootKind root) {
  constexpr const char* kWords[] = {"none", "registers", "stack", "thread_local", "global", "mapping"};
  const auto index = static_cast<size_t>(root);
  return index < std::size(kWords) ? kWords[index] : "unknown";
}

const char* NameOf(LeakTrigger trigger) {
  switch (trigger) {
    case LeakTrigger::kExitBefore:
      return "at exit, before destructors";
    case LeakTrigger::kExitAfter:
      return "at exit, after destructors";
    case LeakTrigger::kUnderscoreExit:
      return "at _exit";
    case LeakTrigger::kQuickExit:
      return "at quick_exit";
    case LeakTrigger::kAbort:
      return "at abort";
    case LeakTrigger::kExec:
      return "at exec";
    case LeakTrigger::kSignal:
      return "at a signal";
    case LeakTrigger::kOnDemand:
      return "on demand";
    case LeakTrigger::kApi:
      return "asked for by the program";
  }
  return "for an unknown reason";
}

const char* NameOf(LeakMethod method) {
  switch (method) {
    case LeakMethod::kInPlace:
      return "in place";
    case LeakMethod::kSnapshot:
      return "in a copy of the process";
    case LeakMethod::kConcurrent:
      return "while it ran";
  }
  return "in an unknown way";
}

std::vector<LeakFrame> LeakStackOf(LoadedTrace& trace, uint32_t node) {
  std::vector<LeakFrame> stack;
  FrameNames& names = *trace.names;
  for (const FrameNames::Step& step : names.StepsOf(node)) {
    const uint32_t module = step.node != 0 ? names.ModuleOf(step.node) : FrameNames::kNoModule;
    for (uint32_t i = 0; i < step.count; ++i) {
      const NamedFrame& named = names.frame(step.frames[i]);
      LeakFrame frame;
      frame.function = names.function(named.function).name;
      frame.known = names.function(named.function).known;
      frame.file = named.file;
      frame.line = named.line;
      frame.inlined = named.inlined;
      if (step.node != 0) frame.ip = trace.reader->nodes()[step.node].ip;
      if (module != FrameNames::kNoModule) frame.module = trace.reader->modules()[module].path;
      // The recorder stands between main and who calls it when exits are watched.
      if (BaseName(frame.module).starts_with("libtidemark")) continue;
      stack.push_back(std::move(frame));
    }
  }
  return stack;
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string PlaceOf(const LeakFrame& frame) {
  if (frame.file.empty()) return "";
  return frame.line != 0 ? fmt::format("{}:{}", BaseName(frame.file), frame.line) : BaseName(frame.file);
}

Usage Leak::whole() const {
  Usage sum = direct;
  sum += indirect;
  return sum;
}

bool LeakVerdict::sampled() const {
  return std::any_of(processes.begin(), processes.end(), [](const LeakProcess& process) { return process.sampled; });
}

bool LeakVerdict::could_check() const {
  return std::all_of(processes.begin(), processes.end(),
                     [](const LeakProcess& process) { return process.could_not_check.empty(); });
}

// Of one lost block, from the events.
struct LeakVerdictBuilder::Origin {
  uint32_t node = 0, serial = 0;
  Api api = Api::kMalloc;
  uint64_t tsc = 0;
  bool known = false;
};

// Rows of one trace that are one leak.
struct LeakVerdictBuilder::Group {
  LeakKind kind = kLeakReachable;
  RootKind root = RootKind::kNone;
  uint32_t node = 0;
  Api api = Api::kMalloc;
  Usage direct;
  uint64_t lost_running = 0, lost_at_end = 0, heap_sized = 0;
  uint64_t first_tsc = UINT64_MAX, last_tsc = 0;
  std::unordered_set<uint32_t> threads;
  std::map<uint64_t, Usage> by_leader;  // address of the leader -> of these blocks, what is charged to it
  size_t leak = 0;
};

void LeakVerdictBuilder::Add(LoadedTrace& trace, const std::string& path) {
  LeakProcess process;
  process.trace = path;
  process.command = trace.facts.CommandText();
  process.executable = trace.facts.executable;
  process.ending = trace.facts.EndingText();
  process.pid = trace.facts.pid;
  process.sampled = trace.reader->mode() == Mode::kSampled;
  process.sample_bytes = trace.reader->sample_bytes();
  const std::vector<TraceLeaks>& checks = trace.reader->leak_checks();
  const TraceLeaks *counts = nullptr, *before = nullptr;
  for (const TraceLeaks& leaks : checks) {
    if (!CanCount(leaks)) continue;
    if (leaks.check.trigger == LeakTrigger::kExitBefore) before = &leaks;
    counts = &leaks;
  }
  if (counts == nullptr) {
    process.could_not_check = WhyUnchecked(trace);
    verdict_.processes.push_back(std::move(process));
    return;
  }
  process.check = counts->check;
  if (counts != &checks.back()) {
    process.notes.push_back(fmt::format("a later leak check ({}) {}; the one before counts",
                                        NameOf(checks.back().check.trigger), WhyNot(checks.back().check.outcome)));
  }
  if ((counts->check.flags & kLeaksBlocksMissing) != 0) {
    process.could_not_check = "not every live block was known when it was checked, so what they hold seems lost";
  }
  if ((counts->check.flags & kLeaksThreadsRan) != 0) {
    process.notes.push_back(fmt::format("{} of {} threads could not be stopped: what only they hold is possibly lost",
                                        counts->check.threads_not_stopped, counts->check.threads));
  }
  if ((counts->check.flags & kLeaksOwnMemory) != 0) {
    process.notes.push_back("memory of the recorder may have been among the roots: leaks may be missing");
  }
  const auto index = static_cast<uint32_t>(verdict_.processes.size());
  verdict_.processes.push_back(std::move(process));
  AddRows(trace, *counts, before != counts ? before : nullptr, index);
}

void LeakVerdictBuilder::AddRows(LoadedTrace& trace, const TraceLeaks& leaks, const TraceLeaks* before,
                                 uint32_t process) {
  LeakProcess& about = verdict_.processes[process];
  std::unordered_map<uint64_t, Origin> origins;
  for (const TraceLeakRow& row : leaks.rows) {
    if (row.address != 0) origins[row.address];
  }
  if (!origins.empty()) {
    trace.reader->ForEachEvent([&](uint32_t serial, const TraceEvent& event) {
      if (event.kind != RecordKind::kAlloc && event.kind != RecordKind::kRealloc) return;
      if (event.tsc > leaks.check.tsc) return;
      const auto found = origins.find(event.address);
      if (found != origins.end()) found->second = {event.node, serial, event.api, event.tsc, true};
    });
  }
  std::unordered_set<uint64_t> lost_before;
  if (before != nullptr) {
    for (const TraceLeakRow& row : before->rows) {
      if (KindOf(row.leak_class) != kLeakReachable) lost_before.insert(row.address);
    }
  }

  std::map<std::tuple<uint32_t, uint8_t, uint32_t, uint32_t>, Group> groups;
  std::unordered_map<uint64_t, Group*> group_of;  // definitely lost blocks, by address
  for (const TraceLeakRow& row : leaks.rows) {
    const bool inherited = (row.flags & kLeakInherited) != 0;
    const LeakKind kind = KindOf(row.leak_class);
    if (inherited && !count_inherited_) {
      if (kind != kLeakReachable) AddExact(row.bytes, row.blocks, &about.inherited);
      continue;
    }
    Origin origin;
    if (row.address != 0) origin = origins[row.address];
    // The numbers of an inherited block's stack are those of the parent's trace.
    const uint32_t node = inherited ? 0 : row.node != 0 ? row.node : origin.node;
    const uint8_t root = kind == kLeakReachable ? row.root : 0;
    Group& group = groups[{kind, root, node, static_cast<uint32_t>(origin.api)}];
    group.kind = kind;
    group.root = static_cast<RootKind>(root);
    group.node = node;
    group.api = origin.api;
    Usage amount;
    if (about.sampled && row.blocks == 1) {
      AddSample(row.bytes, about.sample_bytes, &amount);
    } else {
      AddExact(row.bytes, row.blocks, &amount);
    }
    group.direct += amount;
    if ((row.flags & kLeakHeapSize) != 0) group.heap_sized += row.blocks;
    if (origin.known) {
      group.first_tsc = std::min(group.first_tsc, origin.tsc);
      group.last_tsc = std::max(group.last_tsc, origin.tsc);
      group.threads.insert(origin.serial);
    }
    if (kind != kLeakReachable && before != nullptr) {
      (lost_before.count(row.address) != 0 ? group.lost_running : group.lost_at_end) += row.blocks;
    }
    if (kind == kLeakDefinite) group_of[row.address] = &group;
    if (kind == kLeakIndirect) group.by_leader[row.leader] += amount;
  }

  std::vector<uint32_t> leaves;
  for (const auto& [key, group] : groups) leaves.push_back(group.node);
  trace.names->Prefetch(leaves);
  std::unordered_map<uint32_t, std::string> thread_names;
  for (const TraceThread& thread : trace.reader->threads()) {
    thread_names[thread.serial] = fmt::format("{} ({})", thread.name.empty() ? "thread" : thread.name, thread.tid);
  }
  for (auto& [key, group] : groups) {
    group.leak = LeakOf(trace, group);
    Leak& leak = verdict_.leaks[group.leak];
    leak.direct += group.direct;
    if (leak.processes.empty() || leak.processes.back().process != process) leak.processes.push_back({process, {}});
    leak.processes.back().direct += group.direct;
    leak.lost_running += group.lost_running;
    leak.lost_at_end += group.lost_at_end;
    leak.heap_sized += group.heap_sized;
    if (group.first_tsc <= group.last_tsc) {
      const int64_t first = trace.reader->TimeNs(group.first_tsc), last = trace.reader->TimeNs(group.last_tsc);
      leak.first_ns = std::min(leak.first_ns.value_or(first), first);
      leak.last_ns = std::max(leak.last_ns.value_or(last), last);
    }
    for (uint32_t serial : group.threads) {
      const auto name = thread_names.find(serial);
      leak.threads.push_back(name != thread_names.end() ? name->second : fmt::format("thread {}", serial));
    }
  }
  for (auto& [key, group] : groups) {
    for (const auto& [leader, amount] : group.by_leader) {
      const auto owner = group_of.find(leader);
      if (owner == group_of.end()) continue;
      verdict_.leaks[owner->second->leak].indirect += amount;
      held_[{owner->second->leak, group.leak}] += amount;
    }
  }
}

size_t LeakVerdictBuilder::LeakOf(LoadedTrace& trace, const Group& group) {
  Leak leak;
  leak.kind = group.kind;
  leak.root = group.root;
  leak.allocator = FunctionOf(group.api);
  if (group.node != 0) {
    leak.stack = LeakStackOf(trace, group.node);
    const FrameNames& names = *trace.names;
    if (names.folded_frame() != FrameNames::kNoFrame) {
      const std::string& entry = names.function_of(names.folded_frame()).name;
      if (entry.starts_with("operator new")) leak.allocator = entry;
    }
  }
  leak.allocator_linkage = LinkageOf(leak.allocator);
  std::string key = fmt::format("{} {} {}", static_cast<int>(leak.kind), static_cast<int>(leak.root), leak.allocator);
  for (const LeakFrame& frame : leak.stack) {
    key += fmt::format("\n{}\t{}\t{}\t{}\t{}", frame.function, frame.module, frame.file, frame.line, frame.inlined);
  }
  const auto [found, added] = by_key_.try_emplace(std::move(key), verdict_.leaks.size());
  if (added) {
    std::tie(leak.fingerprint, leak.fuzzy) = FingerprintsOf(leak);
    verdict_.leaks.push_back(std::move(leak));
  }
  return found->second;
}

LeakVerdict LeakVerdictBuilder::Take() {
  // Heaviest first; equal ones by their stacks, which never differ from run to run.
  std::vector<std::string> keys(verdict_.leaks.size());
  for (const auto& [key, index] : by_key_) keys[index] = key;
  std::vector<size_t> order(verdict_.leaks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto rank = [this](size_t i) {
    const Leak& leak = verdict_.leaks[i];
    const Usage whole = leak.whole();
    return std::tuple(IndexOf(leak.kind), ~whole.bytes.Rounded(), ~whole.blocks.Rounded());
  };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const auto left = rank(a), right = rank(b);
    return left != right ? left < right : keys[a] < keys[b];
  });
  std::vector<size_t> place(order.size());
  for (size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
  std::vector<Leak> sorted;
  for (size_t i : order) sorted.push_back(std::move(verdict_.leaks[i]));
  verdict_.leaks = std::move(sorted);
  for (const auto& [pair, amount] : held_) {
    const Leak& held = verdict_.leaks[place[pair.second]];
    const std::string place_of = held.stack.empty() ? "" : PlaceOf(held.stack.front());
    std::string site = held.stack.empty() ? "[no stack]" : held.stack.front().function;
    if (!place_of.empty()) site += "  " + place_of;
    verdict_.leaks[place[pair.first]].structure.push_back({std::move(site), amount});
    verdict_.leaks[place[pair.second]].leaders.push_back(place[pair.first]);
  }
  for (Leak& leak : verdict_.leaks) {
    std::sort(leak.structure.begin(), leak.structure.end(), [](const LeakPart& a, const LeakPart& b) {
      return std::tuple(~a.held.bytes.Rounded(), ~a.held.blocks.Rounded(), a.site) <
             std::tuple(~b.held.bytes.Rounded(), ~b.held.blocks.Rounded(), b.site);
    });
    std::sort(leak.leaders.begin(), leak.leaders.end());
    std::sort(leak.threads.begin(), leak.threads.end());
    leak.threads.erase(std::unique(leak.threads.begin(), leak.threads.end()), leak.threads.end());
    verdict_.totals[IndexOf(leak.kind)] += leak.direct;
  }
  return std::move(verdict_);
}

}  // namespace tidemark
