// Fuzzes everything that shows a trace: model, history, tables, exports, flame graph, time line. The input is a trace.
//
// Numbers of a hostile trace may be anything, so the sums, estimates and formatted quantities of the views are the
// subject; and names may hold anything, so what comes out is checked to be harmless: no control characters in text,
// JSON that parses, SVG whose only markup is ours. Must not: symbolize; what a path in a trace leads to is no part of
// the input, and names come from modules and threads.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>

#include "tests/fuzz/trace_bytes.h"
#include "tools/call_tree.h"
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
#include "tools/flamegraph_svg.h"
#include "tools/heap_errors.h"
#include "tools/hotspots.h"
#include "tools/leak_formats.h"
#include "tools/loaded_trace.h"
#include "tools/reclamation_json.h"
#include "tools/reclamation_text.h"
#include "tools/report_text.h"
#include "tools/timeline_svg.h"
#include "tools/top_screen.h"
#include "tools/unwind_levels.h"
#include "tools/utf8.h"

namespace {

using namespace tidemark;

// A view of more is as good as a view of these, and takes its time.
constexpr uint64_t kMaxEvents = 5'000;
constexpr size_t kMaxNodes = 5'000;

void Require(bool condition) {
  if (!condition) abort();
}

void RequireUtf8(const std::string& text) {
  uint32_t code = 0;
  for (size_t at = 0, length = 0; at < text.size(); at += length) {
    length = Utf8Length(text, at, &code);
    Require(length != 0 && (code >= 0x20 || code == '\n' || code == '\t'));
  }
}

void RequirePlainText(const std::string& text) {
  RequireUtf8(text);
  Require(text.find_first_of("\t\x7f") == std::string::npos && text.find("\xc2\x9b") == std::string::npos);
}

void RequireJson(const std::string& text) {
  Require(!nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false).is_discarded());
}

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

void RequireHarmlessSvg(const std::string& svg) {
  RequireUtf8(svg);
  Require(Count(svg, "<script") == 1 && Count(svg, "<style") == 1 && Count(svg, "<foreignObject") <= 1);
}

// What the leak checks say, in every format.
void ShowLeaks(LoadedTrace& trace, bool inherited, const TextStyle& style) {
  LeakReport report;
  report.show = kAllLeakKinds;
  LeakVerdictBuilder builder(inherited);
  builder.Add(trace, "trace.tmk");
  report.verdict = builder.Take();
  std::vector<SuppressionSource> rules;
  rules.push_back({ParseSuppressions(DefaultSuppressions(), "default.supp"), true});
  report.suppressions = ApplySuppressions(&rules, false, &report.verdict);
  report.growth = FindGrowth(trace, 0, 10);
  report.decision = Judge({}, &report.verdict);
  RequirePlainText(LeakText(report, style));
  RequireJson(LeakJson(report));
  RequireJson(LeakSarif(report));
  RequireUtf8(LeakJunit(report));
  RequireUtf8(LeakMemcheckXml(report));
  const std::string github = LeakGithub(report);
  Require(Count(github, "\n") <= 20 && Count(github, "\n::") + !github.empty() == Count(github, "\n"));
}

// One table and one document of an input, since all of them take long: which ones, its checksum says.
void Show(std::string bytes) {
  const uint32_t choice = Crc32c(bytes.data(), bytes.size());
  auto opened = TraceReader::FromMemory(std::move(bytes));
  if (!opened || (*opened)->nodes().size() > kMaxNodes) return;
  LoadedTrace trace;
  trace.reader = std::move(*opened);
  uint64_t events = 0;
  trace.reader->ForEachEvent([&events](uint32_t, const TraceEvent&) { ++events; });
  if (events > kMaxEvents) return;
  const uint32_t view = choice / 4096 % 12;
  constexpr uint32_t kReclaimView = 10;
  // A window of the run, or all of it.
  TimeWindow window;
  if (view == kReclaimView && choice % 3 == 1) window.from_ns = choice % 4096 * 1000;
  if (view == kReclaimView && choice % 3 == 2) window.to_ns = choice % 4096 * 1000;
  trace.history = std::make_unique<HeapHistory>(*trace.reader);
  trace.model = std::make_unique<HeapModel>(HeapModel::Build(*trace.reader, trace.history.get(), window));
  trace.facts = FactsOf(*trace.reader, *trace.model);
  trace.names = std::make_unique<FrameNames>(*trace.reader, nullptr, choice % 2 != 0);
  const TraceReader& reader = *trace.reader;
  const HeapModel& model = *trace.model;
  const RunFacts& facts = trace.facts;
  FrameNames& names = *trace.names;
  TextStyle style;
  style.width = choice / 2 % 2 != 0 ? 80 : 0;
  RequirePlainText(SummaryText(model, facts, style));
  RequirePlainText(facts.EndingText() + facts.LossText() + facts.UnwindText());
  RequirePlainText(HeapErrorText(trace, 100));
  if (!reader.leak_checks().empty()) ShowLeaks(trace, choice / 8192 % 2 != 0, style);
  Metric metric = kAllMetrics[choice / 4 % std::size(kAllMetrics)];
  if (WhyNotAvailable(metric, model)) metric = Metric::kAllocated;
  const auto grouping = static_cast<Grouping>(choice / 32 % 5);
  const Hotspots hotspots = FindHotspots(reader, model, names, grouping, metric, choice / 256 % 8, 3);
  RequirePlainText(HotspotText(hotspots, model, names, style));
  std::string document;
  const ExportSource source{trace, {}};
  const WriteText write = [&document](std::string_view text) { document += text; };
  switch (view) {
    case 0:
      ExportFolded(model, names, metric, write);
      return RequirePlainText(document);
    case 1: {
      FlamegraphOptions picture;
      picture.title = picture.subtitle = facts.CommandText();
      picture.bytes = !CountsBlocks(metric);
      return RequireHarmlessSvg(RenderFlamegraph(BuildCallTree(model, names, metric), names, picture));
    }
    case 2:
      ExportPprof(source, write);
      return Require(document.size() > 20);
    case 3:
      ExportSpeedscope(source, write);
      return RequireJson(document);
    case 4:
      ExportFirefox(source, write);
      return RequireJson(document);
    case 5:
      ExportDhat(source, write);
      return RequireJson(document);
    case 6:
      if (!model.sampled()) ExportHeaptrack(source, write);
      return RequirePlainText(document);
    case 7:
      ExportCallgrind(source, write);
      return RequirePlainText(document);
    case 8:
      ExportMassif(source, write);
      return RequirePlainText(document);
    case 9:
      ExportCsv(source, write);
      std::erase(document, '\r');
      return RequirePlainText(document);
    case kReclaimView: {
      const Reclamation life = Reclaim(reader, model, *trace.history, names);
      RequirePlainText(ReclamationText(trace, life, choice / 256 % 8, style));
      RequireJson(Dump(ReclamationJson(trace, life, 8)));
      RequirePlainText(TopScreen(trace, {80, choice / 256 % 30}));
      const std::string svg = RenderTimeline(trace, facts.CommandText());
      RequireUtf8(svg);
      return Require(Count(svg, "<script") == 0 && Count(svg, "<style") == 1);
    }
    default:
      ExportJson(reader, model, facts, names, {}, write);
      RequireJson(document);
      RequireJson(Dump(HeapErrorsJson(trace)));
      (void)UnwindLevelsOf(reader, names);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  MakeChecksumsRight(&bytes);
  Show(std::move(bytes));
  return 0;
}
