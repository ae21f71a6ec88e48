// `tidemark flamegraph`: a call tree of one metric as a self-contained SVG.
#include <fmt/format.h>

#include "tools/call_tree.h"
#include "tools/commands.h"
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
  if (options.output != "-" && !EndsWith(options.output, ".svg")) {
    return Error{ExitStatus::kUsage, "flame graphs are written as SVG, and '" + options.output +
                                         "' does not end in .svg; name a file like flames.svg with -o"};
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
  app.add_option("-o,--output", options->output, "picture to write, NAME.svg; - for standard output")->required();
  app.add_option("--metric", options->metric, "what widths mean: allocated, live, peak, count, temporary or leaked")
      ->capture_default_str();
  app.add_option("--title", options->title, "title of the picture; default: the metric");
  app.add_option("--min-percent", options->min_percent, "merge frames narrower than this; 0: none")
      ->capture_default_str();
  app.add_flag("--all-frames", options->all_frames, "show the allocator's own frames, too");
  return [options] { return RunFlamegraph(*options); };
}

}  // namespace

const Command kFlamegraphCommand = {"flamegraph", "draw a trace as a flame graph",
                                    "Writes one self-contained SVG that any browser shows: callers above, callees "
                                    "below, widths in bytes or blocks. Point "
                                    "at a frame for exact numbers, click to zoom, press Ctrl-F or / to search with "
                                    "regular expressions, Esc to reset.\n\n"
                                    "Frames too narrow to see are merged into one that says how many they are, so that "
                                    "every level adds up to the total.",
                                    DefineFlamegraph};

}  // namespace tidemark
