// `tidemark timeline`: the heap over time as a self-contained SVG.
#include <string_view>

#include "tools/commands.h"
#include "tools/loaded_trace.h"
#include "tools/output_stream.h"
#include "tools/time_window_option.h"
#include "tools/timeline_svg.h"

namespace tidemark {
namespace {

struct Options {
  std::string file, output, title = "heap over time";
  TimeWindowOption window;
};

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

Result<ExitStatus> RunTimeline(const Options& options) {
  if (options.output != "-" && !EndsWith(options.output, ".svg")) {
    return Error{ExitStatus::kUsage, "time lines are written as SVG, and '" + options.output +
                                         "' does not end in .svg; name a file like timeline.svg with -o"};
  }
  const Result<TimeWindow> window = TimeWindowOf(options.window);
  if (!window) return window.error();
  Result<LoadedTrace> trace = LoadTrace(options.file, {false, true, false, *window});
  if (!trace) return trace.error();
  Result<OutputStream> output = OutputStream::Open(options.output);
  if (!output) return output.error();
  output->Write(RenderTimeline(*trace, options.title));
  if (std::optional<Error> error = output->Commit()) return *error;
  return ExitStatus::kOk;
}

RunFunction DefineTimeline(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "trace to draw")->required();
  app.add_option("-o,--output", options->output, "picture to write, NAME.svg; - for standard output")->required();
  AddTimeWindowOptions(app, &options->window);
  app.add_option("--title", options->title, "title of the picture")->capture_default_str();
  return [options] { return RunTimeline(*options); };
}

}  // namespace

const Command kTimelineCommand = {
    "timeline", "draw the heap over time",
    "Writes one self-contained SVG that any browser shows: live bytes and the process's resident memory above, what "
    "was "
    "allocated and released per second below, with the peak marked. Point at a moment for exact numbers.\n\n"
    "A run is drawn in at most 512 slots of equal length; a slot shows the highest live heap within it.",
    DefineTimeline};

}  // namespace tidemark
