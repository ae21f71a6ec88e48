// `tidemark export`: a trace in formats of other programs, and as JSON for scripts.
#include <fmt/format.h>

#include "tools/commands.h"
#include "tools/export_folded.h"
#include "tools/export_json.h"
#include "tools/loaded_trace.h"
#include "tools/output_stream.h"

namespace tidemark {
namespace {

struct Options {
  std::string file, output, format;
  std::string metric = "allocated";
  bool metric_given = false;
  bool all_frames = false;
};

Result<ExitStatus> RunExport(const Options& options) {
  const bool folded = options.format == "folded";
  if (!folded && options.format != "json") {
    return Error{ExitStatus::kUsage,
                 "there is no export to '" + options.format + "' in this version; formats are folded and json"};
  }
  if (!folded && options.metric_given) {
    return Error{ExitStatus::kUsage, "--metric does not go with --format json, which holds all metrics; leave it out"};
  }
  const Result<Metric> metric = MetricFromName(options.metric);
  if (!metric) return metric.error();
  Result<LoadedTrace> trace = LoadTrace(options.file, options.all_frames);
  if (!trace) return trace.error();
  if (std::optional<Error> error = WhyNotAvailable(*metric, *trace->model)) return *error;
  Result<OutputStream> output = OutputStream::Open(options.output);
  if (!output) return output.error();
  auto write = [&](std::string_view text) { output->Write(text); };
  if (folded) {
    ExportFolded(*trace->model, *trace->names, *metric, write);
  } else {
    ExportJson(*trace->reader, *trace->model, trace->facts, *trace->names, write);
  }
  trace->symbolizer->SaveCache();
  if (std::optional<Error> error = output->Commit()) return *error;
  return ExitStatus::kOk;
}

RunFunction DefineExport(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "trace to export")->required();
  app.add_option("--format", options->format, "folded or json")->required();
  app.add_option("-o,--output", options->output, "file to write; - for standard output")->required();
  CLI::Option* metric =
      app.add_option("--metric", options->metric, "folded: allocated, live, peak, count, temporary or leaked")
          ->capture_default_str();
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
    "metric per file.\n\n"
    "json: everything, for scripts: totals, stacks with all metrics, frames, threads, sizes, modules, memory samples.",
    DefineExport};

}  // namespace tidemark
