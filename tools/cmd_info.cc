// `tidemark info`: what a trace holds, what it lost, and how far its stacks and names can be trusted.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "tools/commands.h"
#include "tools/hex_text.h"
#include "tools/loaded_trace.h"
#include "tools/model_json.h"
#include "tools/text_table.h"

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
      {"collector_cpu_us", trace.facts.collector_cpu_us},
      {"max_rss", MaxRss(*trace.reader)},
      {"memory_samples", trace.reader->memory().size()},
      {"threads", Json::array()},
      {"modules", Json::array()},
      {"problems", trace.reader->problems()}};
  for (const ThreadLine& thread : Threads(trace)) {
    json["threads"].push_back(
        {{"serial", thread.serial}, {"tid", thread.tid}, {"name", thread.name}, {"events", thread.events}});
  }
  for (size_t i = 0; i < trace.reader->modules().size(); ++i) {
    const TraceModule& module = trace.reader->modules()[i];
    const ModuleSymbols symbols = trace.names->SymbolsOf(i);
    json["modules"].push_back({{"path", module.path},
                               {"build_id", HexText(module.build_id)},
                               {"start", module.start},
                               {"end", module.end},
                               {"symbols", NameOf(symbols.source)},
                               {"reason", symbols.reason}});
  }
  return json;
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
    line("", fmt::format("{} frames reused, {} walked, {} rules looked up in CFI", HumanCount(unwind.frames_reused),
                         HumanCount(unwind.frames_walked), HumanCount(unwind.rule_misses)));
  }
  if (!trace.reader->memory().empty()) {
    line("memory", fmt::format("largest RSS {}, {} samples", HumanBytes(static_cast<double>(MaxRss(*trace.reader))),
                               HumanCount(trace.reader->memory().size())));
  }
  if (facts.collector_cpu_us != 0) {
    line("collector", fmt::format("{} of CPU", HumanDuration(static_cast<int64_t>(facts.collector_cpu_us) * 1000)));
  }
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

  TextTable modules({{"symbols", Align::kLeft}, {"build-id", Align::kLeft}, {"module", Align::kLeft, true}});
  for (size_t i = 0; i < trace.reader->modules().size(); ++i) {
    const TraceModule& module = trace.reader->modules()[i];
    const ModuleSymbols symbols = trace.names->SymbolsOf(i);
    modules.AddRow({NameOf(symbols.source), HexText(module.build_id), module.path});
    if (!symbols.reason.empty()) modules.AddNote("   " + symbols.reason);
  }
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
