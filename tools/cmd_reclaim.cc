// `tidemark reclaim`: how memory ages, dies and is given back, as text or JSON.
#include <fmt/format.h>

#include "tools/commands.h"
#include "tools/loaded_trace.h"
#include "tools/model_json.h"
#include "tools/reclamation.h"
#include "tools/reclamation_json.h"
#include "tools/reclamation_text.h"
#include "tools/report_text.h"
#include "tools/time_window_option.h"

namespace tidemark {
namespace {

struct Options {
  std::string file;
  TimeWindowOption window;
  size_t top = 10;
  bool json = false;
};

Result<ExitStatus> RunReclaim(const Options& options) {
  const Result<TimeWindow> window = TimeWindowOf(options.window);
  if (!window) return window.error();
  Result<LoadedTrace> trace = LoadTrace(options.file, {false, true, false, *window});
  if (!trace) return trace.error();
  const size_t top = options.top == 0 ? SIZE_MAX : options.top;
  const Reclamation life = Reclaim(*trace->reader, *trace->model, *trace->history, *trace->names);
  trace->symbolizer->SaveCache();
  if (options.json) {
    Json json = {{"schema", "tidemark.reclaim/1"},
                 {"run", RunJson(*trace->model, trace->facts)},
                 {"problems", trace->reader->problems()},
                 {"findings", ReclamationFindings(*trace, life)}};
    json.update(ReclamationJson(*trace, life, top));
    fmt::print("{}", Dump(json));
    return ExitStatus::kOk;
  }
  const TextStyle style = StyleOfStdout();
  fmt::print("{}{}", SummaryText(*trace->model, trace->facts, style), ReclamationText(*trace, life, top, style));
  return ExitStatus::kOk;
}

RunFunction DefineReclaim(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "trace to look at")->required();
  AddTimeWindowOptions(app, &options->window);
  app.add_option("--top", options->top, "sites to show; 0: all")->capture_default_str();
  app.add_flag("--json", options->json, "print JSON");
  return [options] { return RunReclaim(*options); };
}

}  // namespace

const Command kReclaimCommand = {
    "reclaim", "show how memory ages, dies and is given back",
    "Prints what the log of a garbage collector would tell, of memory that is managed by hand: how fast memory is "
    "allocated and released, how long it lives in time and in bytes allocated meanwhile, how much dies young, what "
    "stays for ever, what realloc copies, what threads hand to each other, and how full the pages are. Sentences about "
    "what stands out come first.\n\n"
    "Lifetimes are Kaplan-Meier estimates, so that blocks that are still alive at the end do not pass for short-lived "
    "ones. Figures of sampled traces are estimates and come with 95 % intervals. What was not measured is called so.",
    DefineReclaim};

}  // namespace tidemark
