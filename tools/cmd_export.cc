// `tidemark export`: a trace in formats of other programs, and as JSON for scripts.
#include <fmt/format.h>

#include "tools/commands.h"
#include "tools/export_callgrind.h"
#include "tools/export_csv.h"
#include "tools/export_dhat.h"
#include "tools/export_firefox.h"
#include "tools/export_folded.h"
#include "tools/export_heaptrack.h"
#include "tools/export_json.h"
#include "tools/export_massif.h"
#include "tools/export_pprof.h"
#include "tools/export_speedscope.h"
#include "tools/output_stream.h"

namespace tidemark {
namespace {

struct Options {
  std::string file, output, format, diff;
  std::string metric = "allocated";
  bool metric_given = false;
  bool all_frames = false;
  std::vector<std::string> path_prefixes;
  bool short_paths = false;
};

struct Format {
  const char* name;
  void (*write)(const ExportSource& source, const WriteText& write);
  bool one_metric = false;     // otherwise all that it can hold
  bool complete_only = false;  // has no place for estimates
  const char* instead = "";    // of one that is complete_only
};

void WriteJson(const ExportSource& source, const WriteText& write) {
  const LoadedTrace& trace = source.trace;
  ExportJson(*trace.reader, *trace.model, trace.facts, *trace.names, source.paths, write);
}

constexpr Format kFormats[] = {
    {.name = "folded", .write = nullptr, .one_metric = true},
    {.name = "pprof", .write = ExportPprof},
    {.name = "speedscope", .write = ExportSpeedscope},
    {.name = "firefox", .write = ExportFirefox},
    {.name = "dhat", .write = ExportDhat},
    {.name = "heaptrack", .write = ExportHeaptrack, .complete_only = true, .instead = "pprof or dhat"},
    {.name = "callgrind", .write = ExportCallgrind},
    {.name = "massif", .write = ExportMassif},
    {.name = "csv", .write = ExportCsv},
    {.name = "json", .write = WriteJson},
};

std::string FormatNames(const char* last_separator) {
  std::string names;
  for (const Format& format : kFormats) {
    if (!names.empty()) names += &format + 1 == std::end(kFormats) ? last_separator : ", ";
    names += format.name;
  }
  return names;
}

Result<ExitStatus> RunExport(const Options& options) {
  const Format* format = nullptr;
  for (const Format& it : kFormats) {
    if (options.format == it.name) format = &it;
  }
  if (format == nullptr) {
    return Error{ExitStatus::kUsage,
                 "there is no export to '" + options.format + "'; formats are " + FormatNames(" and ")};
  }
  if (!format->one_metric && options.metric_given) {
    return Error{ExitStatus::kUsage,
                 "--metric does not go with --format " + options.format + ", which holds all metrics; leave it out"};
  }
  if (!format->one_metric && !options.diff.empty()) {
    return Error{ExitStatus::kUsage, "--diff does not go with --format " + options.format +
                                         "; use it with --format folded, or see tidemark diff"};
  }
  const Result<Metric> metric = MetricFromName(options.metric);
  if (!metric) return metric.error();
  Result<LoadedTrace> trace = LoadTrace(options.file, options.all_frames);
  if (!trace) return trace.error();
  if (std::optional<Error> error = WhyNotAvailable(*metric, *trace->model)) return *error;
  if (format->complete_only && trace->model->sampled()) {
    return Error{ExitStatus::kUsage, options.format +
                                         " counts every block as one and has no place for what a sample "
                                         "stands for, and this trace is sampled; record with --mode "
                                         "full, or export to " +
                                         format->instead};
  }
  std::optional<LoadedTrace> old;
  if (!options.diff.empty()) {
    Result<LoadedTrace> loaded = LoadTrace(options.diff, options.all_frames);
    if (!loaded) return loaded.error();
    old = std::move(*loaded);
    if (std::optional<Error> error = WhyNotAvailable(*metric, *old->model)) return *error;
  }
  Result<OutputStream> output = OutputStream::Open(options.output);
  if (!output) return output.error();
  const WriteText write = [&](std::string_view text) { output->Write(text); };
  if (format->write != nullptr) {
    format->write({*trace, ShownPaths(options.path_prefixes, options.short_paths)}, write);
  } else if (old) {
    ExportFoldedDiff(*old->model, *old->names, *trace->model, *trace->names, *metric, write);
  } else {
    ExportFolded(*trace->model, *trace->names, *metric, write);
  }
  trace->symbolizer->SaveCache();
  if (old) old->symbolizer->SaveCache();
  if (std::optional<Error> error = output->Commit()) return *error;
  return ExitStatus::kOk;
}

RunFunction DefineExport(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "trace to export")->required();
  app.add_option("--format", options->format, FormatNames(" or "))->required();
  app.add_option("-o,--output", options->output, "file to write; - for standard output")->required();
  CLI::Option* metric =
      app.add_option("--metric", options->metric, "folded: allocated, live, peak, count, temporary or leaked")
          ->capture_default_str();
  app.add_option("--diff", options->diff, "folded: an older trace to compare with; lines have two numbers then");
  app.add_option("--strip-path-prefix", options->path_prefixes,
                 "cut this folder off the paths of source files and modules; may be repeated");
  app.add_flag("--short-paths", options->short_paths, "show file names without any folder");
  app.add_flag("--all-frames", options->all_frames, "keep the allocator's own frames");
  return [options, metric] {
    options->metric_given = metric->count() > 0;
    return RunExport(*options);
  };
}

}  // namespace

const Command kExportCommand = {
    "export", "convert a trace for other programs",
    "folded: one line per stack, \"main;caller;leaf 4096\", for flamegraph.pl, inferno, speedscope and text tools; one "
    "metric per file. With --diff OLD, two numbers: before and now.\n\n"
    "pprof: gzip-compressed profile.proto for go tool pprof; one sample per stack and thread. "
    "speedscope: its own JSON, one profile per metric and thread. "
    "firefox: for the Firefox Profiler, with retained and released memory and tracks over time. "
    "dhat: for valgrind's dh_view.html, with lifetimes. "
    "heaptrack: every event, for heaptrack_print and heaptrack_gui; complete recordings only. "
    "callgrind: for callgrind_annotate and KCachegrind. "
    "massif: for ms_print and massif-visualizer.\n\n"
    "csv: one row per stack. json: everything, for scripts: totals, stacks with all metrics, frames, threads, sizes, "
    "modules, memory samples.\n\n"
    "No format holds source text, environment or memory contents. All of them hold paths, which --strip-path-prefix "
    "and "
    "--short-paths shorten, and the command line.",
    DefineExport};

}  // namespace tidemark
