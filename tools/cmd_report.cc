// `tidemark report`: a summary of a trace and its hotspots, as text or JSON.
#include <fmt/format.h>

#include <cstdio>

#include "tools/commands.h"
#include "tools/heap_errors.h"
#include "tools/hotspots.h"
#include "tools/loaded_trace.h"
#include "tools/model_json.h"
#include "tools/report_text.h"
#include "tools/time_window_option.h"

namespace tidemark {
namespace {

struct Options {
  std::string file;
  std::string by = "site";
  std::string metric = "allocated";
  size_t top = 15;
  size_t callers = 3;
  bool all_frames = false;
  bool json = false;
  TimeWindowOption window;
};

Json HotspotJson(const Hotspot& row, const Hotspots& hotspots, const HeapModel& model, const FrameNames& names) {
  const bool sampled = model.sampled();
  Json json;
  switch (hotspots.grouping) {
    case Grouping::kSite:
      json = {{"function", row.name},
              {"module", row.module},
              {"file", row.file},
              {"line", row.line ? Json(row.line) : Json()}};
      break;
    case Grouping::kFunction:
      json = {{"function", row.name}, {"module", row.module}};
      break;
    case Grouping::kModule:
      json = {{"module", row.module}};
      break;
    case Grouping::kThread:
      json = {{"serial", row.serial}, {"tid", row.tid}, {"name", row.name}};
      break;
    case Grouping::kSize:
      json = {{"low", row.size_low}, {"high", row.size_high}};
      break;
  }
  json["self"] = UsageJson(row.self, sampled);
  if (hotspots.has_totals) json["total"] = UsageJson(row.total, sampled);
  if (hotspots.grouping == Grouping::kSite) {
    json["callers"] = Json::array();
    for (const Caller& caller : row.callers) {
      const NamedFrame& frame = names.frame(caller.frame);
      json["callers"].push_back({{"function", names.function_of(caller.frame).name},
                                 {"module", names.function_of(caller.frame).module},
                                 {"file", frame.file},
                                 {"line", frame.line ? Json(frame.line) : Json()},
                                 {CountsBlocks(hotspots.metric) ? "blocks" : "bytes", caller.amount.Rounded()}});
    }
  }
  return json;
}

Result<ExitStatus> RunReport(const Options& options) {
  const Result<Metric> metric = MetricFromName(options.metric);
  if (!metric) return metric.error();
  const Result<Grouping> grouping = GroupingFromName(options.by);
  if (!grouping) return grouping.error();
  const Result<TimeWindow> window = TimeWindowOf(options.window);
  if (!window) return window.error();
  Result<LoadedTrace> trace = LoadTrace(options.file, {options.all_frames, false, false, *window});
  if (!trace) return trace.error();
  if (std::optional<Error> error = WhyNotAvailable(*metric, *trace->model)) return *error;

  const size_t top = options.top == 0 ? SIZE_MAX : options.top;
  const Hotspots hotspots =
      FindHotspots(*trace->reader, *trace->model, *trace->names, *grouping, *metric, top, options.callers);
  trace->symbolizer->SaveCache();
  if (options.json) {
    Json json = {{"schema", "tidemark.report/1"},
                 {"run", RunJson(*trace->model, trace->facts)},
                 {"totals", TotalsJson(*trace->model, trace->facts)},
                 {"problems", trace->reader->problems()},
                 {"heap_errors", HeapErrorsJson(*trace)},
                 {"metric", NameOf(*metric)},
                 {"by", NameOf(*grouping)},
                 {"whole", UsageJson(hotspots.whole, trace->model->sampled())},
                 {"all_rows", hotspots.all_rows},
                 {"rows", Json::array()}};
    for (const Hotspot& row : hotspots.rows) {
      json["rows"].push_back(HotspotJson(row, hotspots, *trace->model, *trace->names));
    }
    fmt::print("{}", Dump(json));
    return ExitStatus::kOk;
  }
  const TextStyle style = StyleOfStdout();
  fmt::print("{}{}{}", SummaryText(*trace->model, trace->facts, style), HeapErrorText(*trace, top),
             HotspotText(hotspots, *trace->model, *trace->names, style));
  return ExitStatus::kOk;
}

RunFunction DefineReport(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "trace to report on")->required();
  app.add_option("--by", options->by, "what to group by: site, function, module, thread or size")
      ->capture_default_str();
  app.add_option("--metric", options->metric, "what to count: allocated, live, peak, count, temporary or leaked")
      ->capture_default_str();
  app.add_option("--top", options->top, "rows to show; 0: all")->capture_default_str();
  app.add_option("--callers", options->callers, "callers to show below each site")->capture_default_str();
  AddTimeWindowOptions(app, &options->window);
  app.add_flag("--all-frames", options->all_frames, "show the allocator's own frames, too");
  app.add_flag("--json", options->json, "print JSON");
  return [options] { return RunReport(*options); };
}

}  // namespace

const Command kReportCommand = {
    "report", "show totals and hotspots of a trace",
    "Prints what the program allocated, its exact peak and what was never freed, then a table of the places that asked "
    "for the memory.\n\n"
    "A site is the innermost frame outside the allocator. Metrics: allocated (bytes over the whole run), count "
    "(blocks), "
    "peak (bytes live when most memory was in use), live and leaked (bytes never freed; whether something still points "
    "to them is not looked at), temporary (blocks released by the thread's very next call). Figures of sampled traces "
    "are estimates and come with a 95 % interval.",
    DefineReport};

}  // namespace tidemark
