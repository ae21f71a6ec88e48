// See run_facts.h.
#include "tools/run_facts.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/text_table.h"

namespace tidemark {
namespace {

using nlohmann::json;

uint64_t Number(const json& from, const char* key) {
  if (!from.is_object()) return 0;
  auto found = from.find(key);
  if (found == from.end() || !found->is_number_integer()) return 0;
  if (found->is_number_unsigned()) return found->get<uint64_t>();
  return static_cast<uint64_t>(std::max<int64_t>(found->get<int64_t>(), 0));
}
std::string Text(const json& from, const char* key) {
  if (!from.is_object()) return "";
  auto found = from.find(key);
  return found != from.end() && found->is_string() ? found->get<std::string>() : "";
}
const json& Child(const json& from, const char* key) {
  static const json kNothing;
  if (!from.is_object()) return kNothing;
  auto found = from.find(key);
  return found == from.end() ? kNothing : *found;
}

std::string Quoted(const std::string& word) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%^";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

OwnCost CostOf(const json& info, const json& end, uint64_t events) {
  OwnCost cost;
  cost.collector_cpu_us = Number(Child(end, "collector"), "cpu_us");
  cost.bytes_written = Number(Child(end, "collector"), "bytes_written");
  cost.longest_gap_us = Number(Child(end, "collector"), "longest_gap_us");
  cost.timed_events = Number(Child(end, "hooks"), "timed_events");
  const uint64_t ns_before = Number(info, "start_monotonic_ns"), ns_after = Number(end, "end_monotonic_ns");
  const uint64_t ticks_before = Number(info, "start_tsc"), ticks_after = Number(end, "end_tsc");
  if (ns_after <= ns_before || ticks_after <= ticks_before) return cost;
  const double ns_per_tick =
      static_cast<double>(ns_after - ns_before) / static_cast<double>(ticks_after - ticks_before);
  // Centuries, in a damaged trace: they have to fit an integer all the same.
  constexpr double kLongest_ns = 9e18;
  cost.rule_misses_ns =
      std::min(static_cast<double>(Number(Child(end, "hooks"), "rule_miss_ticks")) * ns_per_tick, kLongest_ns);
  if (cost.timed_events == 0) return cost;
  cost.ns_per_event = static_cast<double>(Number(Child(end, "hooks"), "timed_ticks")) * ns_per_tick /
                      static_cast<double>(cost.timed_events);
  cost.hooks_ns = std::min(cost.ns_per_event * static_cast<double>(events), kLongest_ns);
  return cost;
}

}  // namespace

const char* NameOf(Mode mode) { return mode == Mode::kSampled ? "sampled" : "full"; }

Conservation RunFacts::all_events() const {
  Conservation all;
  for (const Conservation& kind : events) {
    all.recorded += kind.recorded;
    all.dropped += kind.dropped;
    all.skipped += kind.skipped;
  }
  return all;
}

std::string RunFacts::CommandText() const {
  if (command.empty()) return executable.empty() ? "(command not known)" : executable;
  std::string text;
  for (const std::string& word : command) text += (text.empty() ? "" : " ") + Quoted(word);
  return text;
}

std::string RunFacts::EndingText() const {
  if (!complete) return "the trace has no end: the recording was cut off";
  if (exit_kind == "exited") return fmt::format("exited with status {}", exit_number);
  if (exit_kind == "signaled") return fmt::format("killed by signal {}", exit_number);
  if (exit_kind == "exec") return "replaced by another program (exec)";
  if (exit_kind == "running") return "still running when the recording was stopped";
  return "ended, nobody saw its status";
}

std::string RunFacts::LossText() const {
  const Conservation all = all_events();
  if (all.lost() == 0) return complete ? "nothing lost" : "losses not known: the trace has no end";
  std::string text;
  for (uint32_t kind = 0; kind < kKindCount; ++kind) {
    const uint64_t lost = events[kind].lost();
    if (lost == 0) continue;
    text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", HumanCount(lost), kEventKindNames[kind],
                        lost == 1 ? "" : "s");
  }
  return fmt::format("{} lost ({} of {} events)", text,
                     HumanPercent(static_cast<double>(all.lost()), static_cast<double>(all.observed())),
                     HumanCount(all.observed()));
}

std::string RunFacts::UnwindText() const {
  if (!unwinding) return "not known: the trace has no end";
  if (unwinding->perfect()) return fmt::format("{} taken, all complete", HumanCount(unwinding->stacks));
  std::string text = fmt::format("{} taken", HumanCount(unwinding->stacks));
  if (unwinding->truncated != 0) {
    text += fmt::format(", {} of them truncated", HumanPercent(static_cast<double>(unwinding->truncated),
                                                               static_cast<double>(unwinding->stacks)));
  }
  if (unwinding->fp_guesses != 0) {
    text += fmt::format(", {} frames guessed by frame pointer", HumanCount(unwinding->fp_guesses));
  }
  if (unwinding->wrong != 0) {
    text += fmt::format(", {} of {} WRONG by a second unwind", HumanCount(unwinding->wrong),
                        HumanCount(unwinding->checked));
  }
  return text;
}

RunFacts FactsOf(const TraceReader& reader, const HeapModel& model) {
  RunFacts facts;
  const json& info = reader.info();
  const json& end = reader.end();
  if (const json& words = Child(info, "command"); words.is_array()) {
    for (const json& word : words) {
      if (word.is_string()) facts.command.push_back(word.get<std::string>());
    }
  }
  facts.executable = Text(info, "executable");
  facts.tool_version = Text(info, "tool_version");
  facts.launch = Text(info, "launch");
  facts.pid = Number(info, "pid");
  facts.bypassed = Child(info, "bypassed").is_boolean() && Child(info, "bypassed").get<bool>();
  facts.start_realtime_ns = static_cast<int64_t>(Number(info, "start_realtime_ns"));
  facts.complete = end.is_object();
  const uint64_t counts[kKindCount] = {model.events().allocs, model.events().frees, model.events().reallocs};
  for (uint32_t kind = 0; kind < kKindCount; ++kind) {
    Conservation& it = facts.events[kind];
    // A window has part of the events; what was lost was lost to the whole run.
    it.recorded = model.window().whole() ? counts[kind] : Number(Child(end, "received"), kEventKindNames[kind]);
    // A trace without an end still has what its gap records say.
    it.dropped = std::max(Number(Child(end, "dropped"), kEventKindNames[kind]), model.oddities().lost[kind]);
    const uint64_t handed_over = Number(Child(end, "recorded"), kEventKindNames[kind]);
    const uint64_t missing = handed_over > it.recorded ? handed_over - it.recorded : 0;
    it.skipped = missing + Number(Child(end, "skipped"), kEventKindNames[kind]);
  }
  facts.duration_ns = model.last_ns();
  if (facts.complete) {
    const json& how = Child(end, "exit");
    facts.exit_kind = Text(how, "kind");
    facts.exit_number =
        static_cast<int64_t>(facts.exit_kind == "signaled" ? Number(how, "signal") : Number(how, "status"));
    const uint64_t start_ns = Number(info, "start_monotonic_ns"), end_ns = Number(end, "end_monotonic_ns");
    if (start_ns != 0 && end_ns > start_ns) {
      facts.duration_ns = std::max(facts.duration_ns, static_cast<int64_t>(end_ns - start_ns));
    }
    if (const json& unwind = Child(end, "unwind"); unwind.is_object()) {
      facts.unwinding =
          Unwinding{Number(unwind, "stacks"),        Number(unwind, "truncated"),   Number(unwind, "frames_walked"),
                    Number(unwind, "frames_reused"), Number(unwind, "rule_misses"), Number(unwind, "fp_guesses"),
                    Number(unwind, "checked"),       Number(unwind, "wrong")};
    }
    facts.exact_allocated_bytes = Number(end, "allocated_bytes");
    facts.foreign_frees = Number(end, "foreign_frees");
    facts.region_full_count = Number(Child(end, "region_full"), "count");
    facts.region_full_bytes = Number(Child(end, "region_full"), "bytes");
    facts.guards_given_up = Number(end, "guards_given_up") != 0;
    facts.internal_failures = Number(end, "internal_failures");
    facts.heap_errors = Number(end, "heap_errors");
    facts.cost = CostOf(info, end, facts.all_events().recorded);
  }
  if (!model.window().whole()) {
    const int64_t end_ns = std::min(facts.duration_ns, model.window().to_ns.value_or(facts.duration_ns));
    const int64_t from_ns = std::max<int64_t>(0, model.window().from_ns.value_or(0));
    facts.duration_ns = std::max<int64_t>(0, std::max<int64_t>(0, end_ns) - from_ns);
  }
  return facts;
}

}  // namespace tidemark
