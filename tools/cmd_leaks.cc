// `tidemark leaks`: the verdict of the leak checks in traces, for people and for continuous integration.
//
//   files -> verdict -> suppressions -> baseline -> judgement -> formats       (all in tools/leak_*.h)
//
// Must not: compute anything that a format prints.
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "tools/commands.h"
#include "tools/leak_files.h"
#include "tools/leak_formats.h"
#include "tools/leak_request.h"
#include "tools/leak_run.h"
#include "tools/lsan_defaults.h"
#include "tools/output_stream.h"

namespace tidemark {
namespace {

struct Options {
  std::vector<std::string> files, formats, suppressions, max_leaked;
  std::string output, show = "definite,possible", fail_on = "definite", baseline, source_root, children = "yes";
  std::string max_per_site, unchecked = "fail";
  std::optional<uint64_t> max_blocks;
  double growth_percent = 0;
  size_t top = 20;
  bool no_default_suppressions = false, print_default_suppressions = false, allow_wide = false;
  bool update_baseline = false, inherited = false, trends = false;
  pid_t pid = 0;  // of a running process; 0: none is asked
  LeakRequestOptions request;
};

using Format = std::string (*)(const LeakReport&);
const std::map<std::string, Format> kFormats = {
    {"text", nullptr},    {"json", LeakJson},     {"sarif", LeakSarif},
    {"junit", LeakJunit}, {"github", LeakGithub}, {"memcheck-xml", LeakMemcheckXml},
};

struct Destination {
  std::string format, path;  // path "": where reports go
};

Error Usage(const std::string& what) { return Error{ExitStatus::kUsage, "leaks: " + what}; }

Result<std::vector<Destination>> DestinationsOf(const Options& options) {
  std::vector<Destination> destinations;
  size_t without_path = 0;
  for (const std::string& text : options.formats) {
    const size_t equals = text.find('=');
    Destination destination{text.substr(0, equals), equals == std::string::npos ? "" : text.substr(equals + 1)};
    if (kFormats.count(destination.format) == 0) {
      return Usage(
          "--format is text, json, sarif, junit, github or memcheck-xml, each with =PATH if it shall go to a "
          "file, not '" +
          text + "'");
    }
    without_path += destination.path.empty();
    destinations.push_back(std::move(destination));
  }
  if (without_path > 1) return Usage("several formats need a file each but for one: --format sarif=leaks.sarif");
  if (destinations.empty()) destinations.push_back({"text", ""});
  return destinations;
}

Result<LeakPolicy> PolicyOf(const Options& options) {
  LeakPolicy policy;
  const std::optional<uint32_t> fail_on = LeakKindSet(options.fail_on);
  if (!fail_on) {
    return Usage(
        "--fail-on takes all, none, or some of definite, indirect, possible and reachable, with commas, not '" +
        options.fail_on + "'");
  }
  policy.fail_on = *fail_on;
  for (const std::string& text : options.max_leaked) {
    const std::optional<LeakBudget> budget = ParseBudget(text);
    if (!budget)
      return Usage("--max-leaked takes bytes and perhaps a class, such as 64K or 1M:possible, not '" + text + "'");
    policy.budgets.push_back(*budget);
  }
  if (!options.max_per_site.empty()) {
    const std::optional<LeakBudget> budget = ParseBudget(options.max_per_site);
    if (!budget || budget->kinds != 0) {
      return Usage("--max-per-site takes bytes, such as 4096 or 64K, not '" + options.max_per_site + "'");
    }
    policy.max_per_site = budget->bytes;
  }
  policy.max_blocks = options.max_blocks;
  if (options.unchecked != "fail" && options.unchecked != "warn") {
    return Usage("--unchecked is 'fail' or 'warn', not '" + options.unchecked + "'");
  }
  policy.fail_unchecked = options.unchecked == "fail";
  return policy;
}

Result<std::string> ReadText(const std::string& path, const char* what) {
  constexpr uintmax_t kMost = 64u << 20;
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (!file || error) {
    return Error{ExitStatus::kUnreadable, fmt::format("the {} {} cannot be read: {}", what, path,
                                                      error ? error.message() : std::string("permission denied"))};
  }
  if (size > kMost) return Error{ExitStatus::kUnreadable, fmt::format("the {} {} is larger than 64 MiB", what, path)};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  gmtime_r(&now, &date);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &date);
  return text;
}

class LeaksCommand {
 public:
  explicit LeaksCommand(const Options& options) : options_(options) {}

  Result<ExitStatus> Run() {
    if (options_.print_default_suppressions) {
      fmt::print("{}", DefaultSuppressions());
      return ExitStatus::kOk;
    }
    Result<std::vector<Destination>> destinations = DestinationsOf(options_);
    if (!destinations) return destinations.error();
    destinations_ = *destinations;
    const Result<LeakPolicy> policy = PolicyOf(options_);
    if (!policy) return policy.error();
    if (std::optional<Error> error = CheckUsage()) return *error;
    if (std::optional<Error> error = ReadSuppressions()) return *error;
    if (std::optional<Error> error = ReadBaseline()) return *error;

    std::optional<LeakRun> run;
    std::vector<std::string> files = options_.files;
    if (!TrailingCommand().empty()) {
      Result<LeakRun> recorded = LeakRun::Record(TrailingCommand(), options_.output);
      if (!recorded) return recorded.error();
      run.emplace(std::move(*recorded));
      if (run->has_trace()) files.push_back(run->trace());
      if (!run->has_trace() && run->status() != 0) return static_cast<ExitStatus>(run->status());
    }
    if (options_.pid != 0) {
      const Result<RequestedCheck> check = RequestLeakCheck(options_.pid, options_.request);
      if (!check) return check.error();
      files.push_back(check->trace);
    }
    LeakVerdictBuilder builder(options_.inherited);
    std::set<std::string> done;
    for (const std::string& file : files) {
      if (std::optional<Error> error = AddRun(file, &done, &builder)) return *error;
    }
    report_.verdict = builder.Take();
    const Result<ExitStatus> status = Judged(*policy);
    if (!status || !run || run->status() == 0) return status;
    // CMD's own failure is what its caller asked for.
    return static_cast<ExitStatus>(run->status());
  }

 private:
  std::optional<Error> CheckUsage() {
    const bool runs = !TrailingCommand().empty();
    if (options_.pid != 0 && (runs || !options_.files.empty()))
      return Usage("--pid takes neither traces nor a command");
    if (options_.pid == 0 && (options_.request.exact || options_.request.in_place)) {
      return Usage("--exact and --in-place are for --pid");
    }
    if (options_.files.empty() && !runs && options_.pid == 0) {
      return Usage("which trace? tidemark leaks FILE, or tidemark leaks -- CMD to record and check a command");
    }
    if (!options_.files.empty() && runs) return Usage("name traces, or a command behind --, but not both");
    if (!options_.output.empty() && !runs) return Usage("-o is for the trace of a command behind --");
    if (options_.update_baseline && options_.baseline.empty()) return Usage("--update-baseline needs --baseline FILE");
    if (options_.children != "yes" && options_.children != "no") {
      return Usage("--children is 'yes' or 'no', not '" + options_.children + "'");
    }
    const std::optional<uint32_t> show = LeakKindSet(options_.show);
    if (!show) {
      return Usage("--show takes all, none, or some of definite, indirect, possible and reachable, with commas, not '" +
                   options_.show + "'");
    }
    report_.show = *show;
    report_.top = options_.top;
    std::error_code error;
    report_.source_root = options_.source_root.empty()
                              ? std::filesystem::current_path(error).string()
                              : std::filesystem::weakly_canonical(options_.source_root, error).string();
    return std::nullopt;
  }

  std::optional<Error> ReadSuppressions() {
    for (const std::string& path : options_.suppressions) {
      const Result<std::string> text = ReadText(path, "suppression file");
      if (!text) return text.error();
      sources_.push_back({ParseSuppressions(*text, path), false});
    }
    return std::nullopt;
  }

  std::optional<Error> ReadBaseline() {
    if (options_.baseline.empty()) return std::nullopt;
    std::error_code error;
    if (options_.update_baseline && !std::filesystem::exists(options_.baseline, error)) {
      baseline_.emplace();  // to be written for the first time
      return std::nullopt;
    }
    const Result<std::string> text = ReadText(options_.baseline, "baseline");
    if (!text) return text.error();
    Result<LeakBaseline> baseline = LeakBaseline::Parse(*text, options_.baseline, Today());
    if (!baseline) return baseline.error();
    baseline_ = std::move(*baseline);
    return std::nullopt;
  }

  std::optional<Error> AddRun(const std::string& file, std::set<std::string>* done, LeakVerdictBuilder* builder) {
    std::error_code error;
    if (!done->insert(std::filesystem::weakly_canonical(file, error).string()).second) return std::nullopt;
    Result<LoadedTrace> trace = LoadTrace(file, /*all_frames=*/false);
    if (!trace) return trace.error();
    RunMembership run(trace->reader->info());
    Add(*trace, file, builder);
    if (options_.children == "no" || options_.pid != 0) return std::nullopt;
    std::vector<std::pair<std::string, nlohmann::json>> siblings;  // with their INFO
    for (const std::string& sibling : SiblingTraces(file)) {
      if (done->count(std::filesystem::weakly_canonical(sibling, error).string()) != 0) continue;
      const Result<std::unique_ptr<TraceReader>> reader = TraceReader::Open(sibling);
      if (!reader) return reader.error();
      run.Learn((*reader)->info());
      siblings.emplace_back(sibling, (*reader)->info());
    }
    for (const auto& [sibling, info] : siblings) {
      if (!run.Has(info)) {
        report_.warnings.push_back(sibling + " is of another, earlier run: left out");
        continue;
      }
      done->insert(std::filesystem::weakly_canonical(sibling, error).string());
      Result<LoadedTrace> child = LoadTrace(sibling, /*all_frames=*/false);
      if (!child) return child.error();
      Add(*child, sibling, builder);
    }
    return std::nullopt;
  }

  void Add(LoadedTrace& trace, const std::string& path, LeakVerdictBuilder* builder) {
    builder->Add(trace, path);
    if (options_.trends) {
      constexpr size_t kMost = 10;
      for (LeakGrowth& growth : FindGrowth(trace, processes_, kMost)) report_.growth.push_back(std::move(growth));
    }
    ++processes_;
    trace.symbolizer->SaveCache();
    for (const TraceModule& module : trace.reader->modules()) {
      if (module.build_id.empty() || !modules_.insert(module.path + '\0' + module.build_id).second) continue;
      std::string why;
      const std::unique_ptr<ElfImage> image = ElfImage::Open(module.path, &why);
      if (image == nullptr || image->build_id() != module.build_id) continue;
      const EmbeddedSuppressions found = FindEmbeddedSuppressions(*image);
      if (!found.present) continue;
      if (!found.why_not.empty()) {
        report_.warnings.push_back(module.path + ": " + found.why_not + "; put them into a file for --suppressions");
      } else {
        sources_.push_back({ParseSuppressions(found.text, module.path + "(__lsan_default_suppressions)"), true});
      }
    }
  }

  Result<ExitStatus> Judged(const LeakPolicy& policy) {
    if (!options_.no_default_suppressions) {
      sources_.push_back({ParseSuppressions(DefaultSuppressions(), "default.supp"), true});
    }
    report_.suppressions = ApplySuppressions(&sources_, options_.allow_wide, &report_.verdict);
    if (baseline_) {
      baseline_->Compare(policy.fail_on, options_.growth_percent, &report_.verdict);
      for (const LeakBaseline::Entry& entry : baseline_->entries()) {
        if (!entry.seen) report_.stale.push_back(entry);
        if (entry.seen && entry.expired) {
          report_.warnings.push_back(fmt::format("{}: the entry {} ({}) has expired and excuses nothing any more",
                                                 options_.baseline, entry.fingerprint, entry.site));
        }
      }
    }
    report_.decision = Judge(policy, &report_.verdict);
    if (options_.update_baseline) {
      if (std::optional<Error> error = UpdateBaseline(policy)) return *error;
    }
    for (const std::vector<std::string>* warnings : {&report_.suppressions.warnings, &report_.warnings}) {
      for (const std::string& warning : *warnings) fmt::print(stderr, "tidemark: {}\n", Printable(warning));
    }
    if (std::optional<Error> error = Write()) return *error;
    return report_.decision.status;
  }

  // What was not checked must not look as if it had no leaks.
  std::optional<Error> UpdateBaseline(const LeakPolicy& policy) {
    if (!report_.verdict.could_check() || report_.verdict.processes.empty()) {
      report_.warnings.push_back(options_.baseline + " is not updated, because not everything could be checked");
      return std::nullopt;
    }
    Result<OutputStream> stream = OutputStream::Open(options_.baseline);
    if (!stream) return stream.error();
    stream->Write(baseline_->Updated(policy.fail_on, report_.verdict));
    if (std::optional<Error> error = stream->Commit()) return error;
    report_.decision.status = ExitStatus::kOk;
    report_.decision.reasons = {options_.baseline + " now has what is there"};
    return std::nullopt;
  }

  std::optional<Error> Write() {
    const bool runs = !TrailingCommand().empty();  // then stdout is the command's
    for (const Destination& destination : destinations_) {
      const bool to_stdout = destination.path == "-" || (destination.path.empty() && !runs);
      const Format format = kFormats.at(destination.format);
      const std::string text =
          format != nullptr ? format(report_) : LeakText(report_, to_stdout ? StyleOfStdout() : TextStyle());
      if (destination.path.empty() && runs) {
        std::fflush(stdout);
        fmt::print(stderr, "{}", text);
        continue;
      }
      Result<OutputStream> stream = OutputStream::Open(destination.path.empty() ? "-" : destination.path);
      if (!stream) return stream.error();
      stream->Write(text);
      if (std::optional<Error> error = stream->Commit()) return error;
    }
    return std::nullopt;
  }

  const Options& options_;
  std::vector<Destination> destinations_;
  std::vector<SuppressionSource> sources_;
  std::optional<LeakBaseline> baseline_;
  uint32_t processes_ = 0;
  std::set<std::string> modules_;  // that were looked at for suppressions
  LeakReport report_;
};

RunFunction DefineLeaks(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->files, "traces; children and earlier images beside them (FILE.PID) are found");
  app.add_option("--pid", options->pid, "look for leaks now in a running process that is recorded with --leak-check")
      ->type_name("PID")
      ->check(CLI::PositiveNumber);
  app.add_flag("--exact", options->request.exact,
               "with --pid: see all registers of threads in system calls, which may then fail with EINTR");
  app.add_flag("--in-place", options->request.in_place,
               "with --pid: where the process cannot be copied, let it wait for the verdict");
  app.add_option("-o,--output", options->output, "keep the trace of a command behind -- (default: not kept)")
      ->type_name("FILE");
  app.add_option("--format", options->formats,
                 "text, json, sarif, junit, github or memcheck-xml; with =PATH into that file; may be repeated")
      ->type_name("FORMAT[=PATH]")
      ->allow_extra_args(false);
  app.add_option("--show", options->show,
                 "classes that the text lists: all, or some of definite, indirect, possible and "
                 "reachable, with commas")
      ->type_name("CLASSES")
      ->capture_default_str();
  app.add_option("--top", options->top, "leaks that the text lists; 0: all")->capture_default_str();
  app.add_option("--fail-on", options->fail_on, "classes whose leaks fail: all, none, or some")
      ->type_name("CLASSES")
      ->capture_default_str();
  app.add_option("--max-leaked", options->max_leaked,
                 "budget in bytes (64K, 1M) of all that fails, or of one class; may be repeated")
      ->type_name("BYTES[:CLASS]")
      ->allow_extra_args(false);
  app.add_option("--max-per-site", options->max_per_site, "budget in bytes of each leak")->type_name("BYTES");
  app.add_option("--max-blocks", options->max_blocks, "budget in blocks")->type_name("N");
  app.add_option("--suppressions", options->suppressions,
                 "file of LeakSanitizer or Valgrind suppressions; may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
  app.add_flag("--no-default-suppressions", options->no_default_suppressions,
               "report what the C and C++ runtimes keep by design, too");
  app.add_flag("--print-default-suppressions", options->print_default_suppressions, "print that file and end");
  app.add_flag("--allow-wide-suppressions", options->allow_wide, "use rules that match main, too");
  app.add_option("--baseline", options->baseline, "file of known leaks: only new and grown ones fail")
      ->type_name("FILE");
  app.add_flag("--update-baseline", options->update_baseline, "write the leaks that are there into the baseline");
  app.add_option("--allow-growth", options->growth_percent,
                 "how much larger than in the baseline a leak may be, in percent")
      ->type_name("PERCENT")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--children", options->children, "take the other processes of the run, too (default yes)")
      ->type_name("yes|no");
  app.add_flag("--inherited", options->inherited, "count blocks that a forked process lost and its parent allocated");
  app.add_option("--unchecked", options->unchecked,
                 "a process without a usable leak check: fail (exit status 4) or warn (default fail)")
      ->type_name("fail|warn");
  app.add_flag("--trends", options->trends,
               "tell also which stacks' live bytes rise, and whether that is a leak, unbounded or cache-like");
  app.add_option("--source-root", options->source_root,
                 "folder that paths in sarif and github are relative to (default: the current one)")
      ->type_name("FOLDER");
  return [options] { return LeaksCommand(*options).Run(); };
}

}  // namespace

const Command kLeaksCommand = {
    "leaks",
    "say which blocks a program lost, and judge it",
    "Reads the leak checks of traces that were recorded with --leak-check, or records CMD with one: a block is lost "
    "when "
    "nothing in the process points to it any more. Classes are memcheck's: definitely lost, indirectly lost (only lost "
    "blocks point to it; told with the one at their head), possibly lost (only pointers into its middle), still "
    "reachable.\n\n"
    "Leaks that are suppressed or in the baseline are allowed; of the others those of the classes in --fail-on fail, "
    "or, "
    "when there are budgets, those beyond them.\n\n"
    "Exit status: 0 nothing fails, 1 leaks fail, 2 wrong usage, 3 a file cannot be read, 4 something could not be "
    "checked "
    "and nothing else fails. With CMD: its own status when that is not 0, else one of these; the report goes to "
    "standard "
    "error unless --format says where.",
    DefineLeaks,
    ExitStatus::kUsage,
    /*hidden=*/false,
    /*takes_command=*/true,
    "[OPTIONS] FILE... | [OPTIONS] --pid PID | [OPTIONS] -- CMD [ARGUMENT]...",
};

}  // namespace tidemark
