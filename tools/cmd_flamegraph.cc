// `tidemark flamegraph`: a trace as an interactive page, or the call tree of one metric as an SVG; self-contained both.
#include <fmt/format.h>

#include "tools/call_tree.h"
#include "tools/commands.h"
#include "tools/flamegraph_page.h"
#include "tools/flamegraph_svg.h"
#include "tools/loaded_trace.h"
#include "tools/output_stream.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

struct Options {
  std::string file, output;
  std::string metric = "allocated";
  std::string title;
  double min_percent = 0.1;
  bool all_frames = false;
};

constexpr size_t kMostCommandCells = 110;

bool EndsWith(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Result<ExitStatus> RunFlamegraph(const Options& options) {
  const bool is_page = EndsWith(options.output, ".html");
  if (options.output != "-" && !is_page && !EndsWith(options.output, ".svg")) {
    return Error{ExitStatus::kUsage, "flame graphs are written as a page (.html) or a picture (.svg), and '" +
                                         options.output + "' ends in neither; name a file like heap.html with -o"};
  }
  if (!(options.min_percent >= 0 && options.min_percent <= 100)) {
    return Error{ExitStatus::kUsage, "--min-percent needs a number from 0 to 100"};
  }
  const Result<Metric> metric = MetricFromName(options.metric);
  if (!metric) return metric.error();
  Result<LoadedTrace> trace = LoadTrace(options.file, options.all_frames);
  if (!trace) return trace.error();
  const HeapModel& model = *trace->model;
  if (std::optional<Error> error = WhyNotAvailable(*metric, model)) return *error;

  if (is_page) {
    Result<OutputStream> output = OutputStream::Open(options.output);
    if (!output) return output.error();
    output->Write(RenderFlamegraphPage(*trace->reader, model, *trace->names, trace->facts, {options.title, *metric}));
    trace->symbolizer->SaveCache();
    if (std::optional<Error> error = output->Commit()) return *error;
    return ExitStatus::kOk;
  }

  FlamegraphOptions picture;
  picture.bytes = !CountsBlocks(*metric);
  picture.min_percent = options.min_percent;
  picture.title = options.title.empty() ? TitleOf(*metric) : options.title;
  if (options.title.empty() && *metric == Metric::kPeak) picture.title += ", at " + HumanDuration(model.peak_ns());
  // The command comes last: it may be long, and what was lost must be seen.
  if (!options.title.empty()) picture.subtitle += fmt::format("{}  \u00b7  ", TitleOf(*metric));
  picture.subtitle += model.sampled() ? fmt::format("sampled every {}, estimates",
                                                    HumanBytes(static_cast<double>(model.sample_bytes())))
                                      : "complete recording";
  picture.subtitle += fmt::format("  \u00b7  {}  \u00b7  {}", trace->facts.LossText(),
                                  ShortenMiddle(trace->facts.CommandText(), kMostCommandCells));
  picture.program = trace->facts.executable.substr(trace->facts.executable.rfind('/') + 1);

  Result<OutputStream> output = OutputStream::Open(options.output);
  if (!output) return output.error();
  const StackTree tree = BuildCallTree(model, *trace->names, *metric);
  output->Write(RenderFlamegraph(tree, *trace->names, picture));
  trace->symbolizer->SaveCache();
  if (std::optional<Error> error = output->Commit()) return *error;
  return ExitStatus::kOk;
}

RunFunction DefineFlamegraph(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "trace to draw")->required();
  app.add_option("-o,--output", options->output,
                 "page or picture to write, NAME.html or NAME.svg; - for standard output (SVG)")
      ->required();
  app.add_option("--metric", options->metric,
                 "what widths mean (a page: at first): allocated, live, peak, count, temporary, leaked")
      ->capture_default_str();
  app.add_option("--title", options->title, "title; default: the metric (a page: the command)");
  app.add_option("--min-percent", options->min_percent, "SVG: merge frames narrower than this; 0: none")
      ->capture_default_str();
  app.add_flag("--all-frames", options->all_frames, "show the allocator's own frames, too");
  return [options] { return RunFlamegraph(*options); };
}

}  // namespace

const Command kFlamegraphCommand = {"flamegraph", "draw a trace as a flame graph",
                                    "Writes one self-contained file that any browser shows without a network.\n\n"
                                    "NAME.html is an interactive page: flame graph either way up, inverted, callers "
                                    "and callees of a function, tables of functions, sites, threads and sizes, all "
                                    "for any metric and any window of time that is selected on the timeline. It stays "
                                    "below 10 MB: of large traces the smallest frames are joined, and the page says "
                                    "how many.\n\n"
                                    "NAME.svg is a picture of one metric: callers above, callees below, widths in "
                                    "bytes or blocks. Point at a frame for exact numbers, click to zoom, press Ctrl-F "
                                    "or / to search with regular expressions, Esc to reset. Frames too narrow to see "
                                    "are merged into one that says how many they are, so that every level adds up to "
                                    "the total.",
                                    DefineFlamegraph};

}  // namespace tidemark
