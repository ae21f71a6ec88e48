// `tidemark info`: what a trace holds, what it lost, and how far its stacks and names can be trusted.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "tools/commands.h"
#include "tools/hex_text.h"
#include "tools/loaded_trace.h"
#include "tools/model_json.h"
#include "tools/text_table.h"
#include "tools/unwind_levels.h"

namespace tidemark {
namespace {

struct Options {
  std::string file;
  bool json = false;
};

const char* NameOf(SymbolSource source) {
  switch (source) {
    case SymbolSource::kDwarf:
      return "dwarf";
    case SymbolSource::kLlvm:
      return "llvm";
    case SymbolSource::kMinidebug:
      return "minidebuginfo";
    case SymbolSource::kSymtab:
      return "symtab";
    case SymbolSource::kDynsym:
      return "dynsym";
    case SymbolSource::kNone:
      return "none";
  }
  return "none";
}

uint64_t MaxRss(const TraceReader& reader) {
  uint64_t most = 0;
  for (const TraceMemory& sample : reader.memory()) most = std::max(most, sample.rss);
  return most;
}

double BytesPerEvent(const LoadedTrace& trace) {
  const uint64_t events = trace.model->events().all();
  return events == 0 ? 0 : static_cast<double>(trace.reader->file_bytes()) / static_cast<double>(events);
}

// Threads that recorded something, with the names that the trace knows.
struct ThreadLine {
  uint32_t serial = 0, tid = 0;
  std::string name;
  uint64_t events = 0;
};
std::vector<ThreadLine> Threads(const LoadedTrace& trace) {
  std::vector<ThreadLine> lines;
  std::unordered_map<uint32_t, size_t> index;
  for (const TraceThread& thread : trace.reader->threads()) {
    index[thread.serial] = lines.size();
    lines.push_back({thread.serial, thread.tid, thread.name, 0});
  }
  for (const ThreadUse& use : trace.model->threads()) {
    auto [found, added] = index.try_emplace(use.serial, lines.size());
    if (added) lines.push_back({use.serial, 0, "", 0});
    lines[found->second].events = use.events;
  }
  return lines;
}

Json LevelsJson(const UnwindLevels& levels) {
  return {{"by_rule", levels.by_rule},
          {"by_frame_pointer", levels.by_frame_pointer},
          {"evaluated", levels.evaluated},
          {"guessed", levels.guessed}};
}

Json CostJson(const OwnCost& cost) {
  return {{"timed_events", cost.timed_events},
          {"ns_per_event", cost.timed_events == 0 ? Json(nullptr) : Json(cost.ns_per_event)},
          {"hooks_ns", cost.timed_events == 0 ? Json(nullptr) : Json(static_cast<uint64_t>(cost.hooks_ns))},
          {"rule_misses_ns", static_cast<uint64_t>(cost.rule_misses_ns)},
          {"collector_cpu_us", cost.collector_cpu_us},
          {"bytes_written", cost.bytes_written},
          {"longest_gap_us", cost.longest_gap_us}};
}

Json InfoJson(const LoadedTrace& trace, const std::string& file) {
  Json json = {
      {"schema", "tidemark.info/1"},
      {"file", {{"path", file}, {"bytes", trace.reader->file_bytes()}, {"bytes_per_event", BytesPerEvent(trace)}}},
      {"run", RunJson(*trace.model, trace.facts)},
      {"tool_version", trace.facts.tool_version},
      {"launch", trace.facts.launch},
      {"totals", TotalsJson(*trace.model, trace.facts)},
      {"nodes", trace.reader->nodes().empty() ? 0 : trace.reader->nodes().size() - 1},
      {"stacks", trace.model->stacks().size()},
      {"collector_cpu_us", trace.facts.cost.collector_cpu_us},
      {"cost", CostJson(trace.facts.cost)},
      {"max_rss", MaxRss(*trace.reader)},
      {"memory_samples", trace.reader->memory().size()},
      {"threads", Json::array()},
      {"modules", Json::array()},
      {"problems", trace.reader->problems()}};
  for (const ThreadLine& thread : Threads(trace)) {
    json["threads"].push_back(
        {{"serial", thread.serial}, {"tid", thread.tid}, {"name", thread.name}, {"events", thread.events}});
  }
  const std::vector<UnwindLevels> levels = UnwindLevelsOf(*trace.reader, *trace.names);
  for (size_t i = 0; i < trace.reader->modules().size(); ++i) {
    const TraceModule& module = trace.reader->modules()[i];
    const ModuleSymbols symbols = trace.names->SymbolsOf(i);
    json["modules"].push_back({{"path", module.path},
                               {"build_id", HexText(module.build_id)},
                               {"start", module.start},
                               {"end", module.end},
                               {"frames", LevelsJson(levels[i])},
                               {"symbols", NameOf(symbols.source)},
                               {"reason", symbols.reason}});
  }
  json["frames_outside_of_modules"] = LevelsJson(levels.back());
  return json;
}

std::string OwnCostText(const OwnCost& cost) {
  if (cost.bytes_written == 0) return "not known: the trace has no end";
  std::string text;
  if (cost.timed_events != 0) {
    text = fmt::format("about {} in the hooks ({:.0f} ns per event, {} timed), ",
                       HumanDuration(static_cast<int64_t>(cost.hooks_ns)), cost.ns_per_event,
                       HumanCount(cost.timed_events));
  }
  text += fmt::format("{} of CPU in the collector, {} written",
                      HumanDuration(static_cast<int64_t>(cost.collector_cpu_us) * 1000),
                      HumanBytes(static_cast<double>(cost.bytes_written)));
  constexpr uint64_t kWorthSaying_us = 500'000;
  if (cost.longest_gap_us >= kWorthSaying_us) {
    text +=
        fmt::format("; it stood still for {} once", HumanDuration(static_cast<int64_t>(cost.longest_gap_us) * 1000));
  }
  return text;
}

std::string InfoText(const LoadedTrace& trace, const std::string& file, const TextStyle& style) {
  const RunFacts& facts = trace.facts;
  const HeapModel& model = *trace.model;
  std::string out;
  auto line = [&](const char* label, const std::string& text) {
    out += fmt::format("{:<12} {}\n", label, Printable(text));
  };
  line("file", fmt::format("{}, {}, {:.2f} bytes per event", file,
                           HumanBytes(static_cast<double>(trace.reader->file_bytes())), BytesPerEvent(trace)));
  line("command", facts.CommandText());
  if (!facts.executable.empty()) line("executable", facts.executable);
  line("process", fmt::format("pid {}, {}", facts.pid, facts.EndingText()));
  line("mode", model.sampled() ? fmt::format("sampled, one sample per {} on average",
                                             HumanBytes(static_cast<double>(model.sample_bytes())))
                               : "full: every event with its stack");
  if (!facts.tool_version.empty())
    line("recorded by", fmt::format("tidemark {} ({})", facts.tool_version, facts.launch));
  line("duration", HumanDuration(facts.duration_ns));
  if (facts.bypassed) line("bypassed", "the program brings its own malloc; none of its allocations were seen");
  line("losses", facts.LossText());
  line("stacks", fmt::format("{} different, of {} frames", HumanCount(model.stacks().size()),
                             HumanCount(trace.reader->nodes().empty() ? 0 : trace.reader->nodes().size() - 1)));
  line("unwinding", facts.UnwindText());
  if (facts.unwinding && facts.unwinding->frames_walked + facts.unwinding->frames_reused > 0) {
    const Unwinding& unwind = *facts.unwinding;
    line("", fmt::format("{} frames reused, {} walked, {} rules looked up in CFI{}", HumanCount(unwind.frames_reused),
                         HumanCount(unwind.frames_walked), HumanCount(unwind.rule_misses),
                         facts.cost.rule_misses_ns == 0
                             ? ""
                             : " in " + HumanDuration(static_cast<int64_t>(facts.cost.rule_misses_ns))));
  }
  if (!trace.reader->memory().empty()) {
    line("memory", fmt::format("largest RSS {}, {} samples", HumanBytes(static_cast<double>(MaxRss(*trace.reader))),
                               HumanCount(trace.reader->memory().size())));
  }
  if (facts.unwinding && facts.unwinding->checked != 0) {
    line("check", fmt::format("{} stacks unwound twice, {} of them differently", HumanCount(facts.unwinding->checked),
                              HumanCount(facts.unwinding->wrong)));
  }
  line("own cost", OwnCostText(facts.cost));
  if (facts.foreign_frees != 0)
    line("foreign", fmt::format("{} frees of other allocators' blocks", HumanCount(facts.foreign_frees)));
  if (facts.internal_failures != 0) {
    line("failures", fmt::format("{} times the recorder itself found no memory", HumanCount(facts.internal_failures)));
  }
  for (const std::string& problem : trace.reader->problems()) line("problem", problem);

  using Align = TextTable::Align;
  TextTable events({{"events", Align::kLeft}, {"observed"}, {"recorded"}, {"dropped"}, {"skipped"}});
  for (uint32_t kind = 0; kind < kKindCount; ++kind) {
    const Conservation& it = facts.events[kind];
    events.AddRow({kEventKindNames[kind], HumanCount(it.observed()), HumanCount(it.recorded), HumanCount(it.dropped),
                   HumanCount(it.skipped)});
  }
  out += "\n" + events.Render(style);

  TextTable threads({{"thread"}, {"tid"}, {"events"}, {"name", Align::kLeft, true}});
  for (const ThreadLine& thread : Threads(trace)) {
    threads.AddRow({std::to_string(thread.serial), std::to_string(thread.tid), HumanCount(thread.events), thread.name});
  }
  out += "\n" + threads.Render(style);

  // Of the different frames: those whose caller was found by a rule, by a frame pointer, by evaluating expressions, by
  // a guess.
  TextTable modules({{"symbols", Align::kLeft},
                     {"by rule"},
                     {"by rbp"},
                     {"evaluated"},
                     {"guessed"},
                     {"build-id", Align::kLeft},
                     {"module", Align::kLeft, true}});
  const std::vector<UnwindLevels> levels = UnwindLevelsOf(*trace.reader, *trace.names);
  const auto add_module = [&modules](const char* symbols, const UnwindLevels& level, const std::string& id,
                                     const std::string& path) {
    modules.AddRow({symbols, HumanCount(level.by_rule), HumanCount(level.by_frame_pointer), HumanCount(level.evaluated),
                    HumanCount(level.guessed), id, path});
  };
  for (size_t i = 0; i < trace.reader->modules().size(); ++i) {
    const TraceModule& module = trace.reader->modules()[i];
    const ModuleSymbols symbols = trace.names->SymbolsOf(i);
    add_module(NameOf(symbols.source), levels[i], HexText(module.build_id).substr(0, 12), module.path);
    if (!symbols.reason.empty()) modules.AddNote("   " + symbols.reason);
  }
  if (levels.back().frames() != 0) add_module("", levels.back(), "", "[outside of every module]");
  out += "\n" + modules.Render(style);
  return out;
}

Result<ExitStatus> RunInfo(const Options& options) {
  Result<LoadedTrace> trace = LoadTrace(options.file, false);
  if (!trace) return trace.error();
  fmt::print("{}",
             options.json ? Dump(InfoJson(*trace, options.file)) : InfoText(*trace, options.file, StyleOfStdout()));
  return ExitStatus::kOk;
}

RunFunction DefineInfo(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "trace to look at")->required();
  app.add_flag("--json", options->json, "print JSON");
  return [options] { return RunInfo(*options); };
}

}  // namespace

const Command kInfoCommand = {"info", "show what a trace holds and what it lost",
                              "Prints the process, the events by kind with what was dropped and skipped, threads, "
                              "modules with the source of their "
                              "symbols, the quality of the stacks, and what is damaged or missing in the file.",
                              DefineInfo};

}  // namespace tidemark
