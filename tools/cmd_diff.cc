// `tidemark diff`: what changed between two runs, as a table or JSON, and a verdict for scripts.
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "tools/commands.h"
#include "tools/model_json.h"
#include "tools/profile_diff.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

struct Options {
  std::string old_file, new_file;
  std::string by = "function", metric = "allocated", normalise = "none", min_delta, fail_on_growth;
  size_t top = 25;
  bool all_frames = false, json = false;
};

struct Threshold {
  double amount = 0;
  bool percent = false;
};

// "4096", "1.5MiB", "10%".
std::optional<Threshold> ParseThreshold(const std::string& text) {
  Threshold threshold;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, threshold.amount, std::chars_format::fixed);
  if (error != std::errc() || !(threshold.amount >= 0) || !std::isfinite(threshold.amount)) return std::nullopt;
  const std::string_view unit(rest, static_cast<size_t>(end - rest));
  if (unit.empty() || unit == "B") return threshold;
  if (unit == "%") {
    threshold.percent = true;
    return threshold;
  }
  double factor = 1;
  for (std::string_view letter : {"K", "M", "G", "T"}) {
    factor *= 1024;
    if (unit == letter || unit == std::string(letter) + "iB") {
      threshold.amount *= factor;
      return threshold;
    }
  }
  return std::nullopt;
}

int64_t Whole(double value) {
  return value < 0 ? -static_cast<int64_t>(std::min<uint64_t>(Saturated(-value), INT64_MAX))
                   : static_cast<int64_t>(std::min<uint64_t>(Saturated(value), INT64_MAX));
}

Json ChangeJson(const Change& change) {
  Json json = {{"before", Whole(change.before)}, {"now", Whole(change.now)}, {"delta", Whole(change.delta())}};
  json["delta_95"] = Json::array({Whole(std::floor(change.delta_95.low)), Whole(std::ceil(change.delta_95.high))});
  json["certain"] = change.certain();
  return json;
}

std::string Quantity(double value, bool blocks) { return blocks ? HumanCount(Saturated(value)) : HumanBytes(value); }

std::string Signed(double value, bool blocks) {
  if (value == 0) return "0";
  return (value < 0 ? "-" : "+") + Quantity(std::fabs(value), blocks);
}

std::string Percent(const Change& change) {
  if (change.before == 0) return change.now == 0 ? "" : "new";
  return fmt::format("{:+.1f} %", 100 * change.delta() / change.before);
}

// What may be chance alone is marked.
std::string Marked(const Change& change, bool blocks) {
  return Signed(change.delta(), blocks) + (change.delta() != 0 && !change.certain() ? " ~" : "");
}

void PrintText(const ProfileDiff& diff, const Options& options, Metric metric, bool sampled) {
  const bool blocks = CountsBlocks(metric);
  fmt::print("{}: {} -> {}, {}", TitleOf(metric), Quantity(diff.whole.before, blocks), Quantity(diff.whole.now, blocks),
             Signed(diff.whole.delta(), blocks));
  if (diff.whole.before > 0) fmt::print(" ({})", Percent(diff.whole));
  if (diff.whole.delta_95.low != diff.whole.delta_95.high) {
    fmt::print(", 95 %: {} .. {}", Signed(diff.whole.delta_95.low, blocks), Signed(diff.whole.delta_95.high, blocks));
  }
  fmt::print("\n");
  if (diff.scale != 1)
    fmt::print("the old run's numbers are multiplied by {:.4g} (--normalise {})\n", diff.scale, options.normalise);
  if (diff.rows.empty()) {
    fmt::print("no {} changed{}\n", options.by,
               diff.hidden != 0 && !options.min_delta.empty() ? " by as much as asked for" : "");
    return;
  }
  TextTable table({{"self"},
                   {"before"},
                   {"now"},
                   {"total"},
                   {"", TextTable::Align::kLeft},
                   {options.by, TextTable::Align::kLeft, true}});
  const size_t shown = options.top == 0 ? diff.rows.size() : std::min(options.top, diff.rows.size());
  for (size_t i = 0; i < shown; ++i) {
    const DiffRow& row = diff.rows[i];
    std::string name = row.name.empty() ? row.module : row.name + "  [" + row.module + "]";
    if (row.name.empty() && name.empty()) name = "[no module]";
    if (!row.file.empty()) name += "  " + row.file;
    table.AddRow({Marked(row.self, blocks), Quantity(row.self.before, blocks), Quantity(row.self.now, blocks),
                  Marked(row.total, blocks),
                  !row.in_old   ? "new"
                  : !row.in_new ? "gone"
                                : "",
                  Printable(name)});
  }
  fmt::print("{}", table.Render(StyleOfStdout()));
  if (shown < diff.rows.size()) fmt::print("{} more changed (--top N for more)\n", diff.rows.size() - shown);
  if (sampled) fmt::print("~: may be chance alone, with 95 % confidence\n");
}

Result<ExitStatus> RunDiff(const Options& options) {
  DiffOptions how;
  const Result<Metric> metric = MetricFromName(options.metric);
  if (!metric) return metric.error();
  how.metric = *metric;
  const Result<Grouping> grouping = GroupingFromName(options.by);
  if (!grouping || *grouping == Grouping::kThread || *grouping == Grouping::kSize) {
    return Error{ExitStatus::kUsage, "runs are compared by function, site or module, not by '" + options.by + "'"};
  }
  how.grouping = *grouping;
  if (options.normalise == "allocated") {
    how.normalisation = Normalisation::kAllocated;
  } else if (options.normalise == "time") {
    how.normalisation = Normalisation::kTime;
  } else if (options.normalise == "count") {
    how.normalisation = Normalisation::kCount;
  } else if (options.normalise != "none") {
    return Error{ExitStatus::kUsage,
                 "--normalise takes none, allocated, time or count, not '" + options.normalise + "'"};
  }
  if (!options.min_delta.empty()) {
    const std::optional<Threshold> threshold = ParseThreshold(options.min_delta);
    if (!threshold || threshold->percent) {
      return Error{ExitStatus::kUsage,
                   "--min-delta takes an amount like 4096 or 1.5MiB, not '" + options.min_delta + "'"};
    }
    how.min_delta = threshold->amount;
  }
  std::optional<Threshold> limit;
  if (!options.fail_on_growth.empty() && !(limit = ParseThreshold(options.fail_on_growth))) {
    return Error{ExitStatus::kUsage,
                 "--fail-on-growth takes an amount like 1.5MiB or 10%, not '" + options.fail_on_growth + "'"};
  }
  Result<LoadedTrace> old_trace = LoadTrace(options.old_file, options.all_frames);
  if (!old_trace) return old_trace.error();
  Result<LoadedTrace> new_trace = LoadTrace(options.new_file, options.all_frames);
  if (!new_trace) return new_trace.error();
  for (const LoadedTrace* trace : {&*old_trace, &*new_trace}) {
    if (std::optional<Error> error = WhyNotAvailable(*metric, *trace->model)) return *error;
  }
  const Result<ProfileDiff> diff = DiffProfiles(*old_trace, *new_trace, how);
  if (!diff) return diff.error();
  old_trace->symbolizer->SaveCache();
  new_trace->symbolizer->SaveCache();

  // Only growth that is certain counts: a gate that fails by chance is soon ignored.
  const Change& whole = (*diff).whole;
  const double allowed = !limit ? 0 : limit->percent ? whole.before * limit->amount / 100 : limit->amount;
  const bool grown = limit && whole.delta_95.low > allowed;
  const bool sampled = old_trace->model->sampled() || new_trace->model->sampled();
  if (options.json) {
    Json json = {{"schema", "tidemark.diff/1"},
                 {"old", RunJson(*old_trace->model, old_trace->facts)},
                 {"new", RunJson(*new_trace->model, new_trace->facts)},
                 {"metric", NameOf(*metric)},
                 {"unit", CountsBlocks(*metric) ? "blocks" : "bytes"},
                 {"by", NameOf(*grouping)},
                 {"normalise", options.normalise},
                 {"scale", (*diff).scale},
                 {"whole", ChangeJson(whole)},
                 {"growth_allowed", limit ? Json(Whole(allowed)) : Json()},
                 {"failed", grown},
                 {"all_rows", (*diff).rows.size()},
                 {"hidden_rows", (*diff).hidden},
                 {"rows", Json::array()}};
    for (const DiffRow& row : (*diff).rows) {
      if (options.top != 0 && json["rows"].size() == options.top) break;
      Json line = {{"function", row.name},
                   {"module", row.module},
                   {"file", row.file},
                   {"state", !row.in_old   ? "new"
                             : !row.in_new ? "gone"
                                           : "changed"}};
      line["self"] = ChangeJson(row.self);
      line["total"] = ChangeJson(row.total);
      json["rows"].push_back(std::move(line));
    }
    fmt::print("{}", Dump(json));
  } else {
    PrintText(*diff, options, *metric, sampled);
  }
  if (!grown) return ExitStatus::kOk;
  fmt::print(stderr, "tidemark: {} grew by {}, more than {} (--fail-on-growth)\n", TitleOf(*metric),
             Signed(whole.delta(), CountsBlocks(*metric)), options.fail_on_growth);
  return ExitStatus::kFinding;
}

RunFunction DefineDiff(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("OLD", options->old_file, "trace of the run before")->required();
  app.add_option("NEW", options->new_file, "trace of the run to compare with it")->required();
  app.add_option("--by", options->by, "what to compare: function, site or module")->capture_default_str();
  app.add_option("--metric", options->metric, "what to count: allocated, live, peak, count, temporary or leaked")
      ->capture_default_str();
  app.add_option("--normalise", options->normalise,
                 "scale the old run to the new one's work: none, allocated (bytes), count (blocks) or time")
      ->capture_default_str();
  app.add_option("--min-delta", options->min_delta, "leave out what changed by less, like 4096 or 1.5MiB");
  app.add_option("--fail-on-growth", options->fail_on_growth,
                 "exit with 1 when the whole grew by more than this, like 1.5MiB or 10%");
  app.add_option("--top", options->top, "rows to show; 0: all")->capture_default_str();
  app.add_flag("--all-frames", options->all_frames, "show the allocator's own frames, too");
  app.add_flag("--json", options->json, "print JSON");
  return [options] { return RunDiff(*options); };
}

}  // namespace

const Command kDiffCommand = {
    "diff", "compare two traces",
    "Prints by how much the whole and each function, site or module changed from OLD to NEW: self is what it allocated "
    "itself, total also what was allocated further down its calls. What only one of the runs has is marked new or "
    "gone.\n\n"
    "Rows are matched by function and module names, never by addresses; sites by function and file, since lines "
    "move.\n\n"
    "Sampled traces give estimates: a change that may be chance alone is marked with ~, and --fail-on-growth only "
    "counts "
    "growth that is certain with 95 % confidence.",
    DefineDiff};

}  // namespace tidemark
