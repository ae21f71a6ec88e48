// See top_screen.h.
#include "tools/top_screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "tools/hotspots.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

// Rates of the last second, or of the last slot when slots are longer.
struct Rates {
  double seconds = 0, allocated = 0, released = 0;
};
Rates RatesAtEnd(const LoadedTrace& trace) {
  const Timeline& timeline = trace.history->timeline();
  const auto end_ns = static_cast<double>(trace.reader->TimeNs(timeline.last_tsc()));
  Rates rates;
  double allocated = 0, released = 0;
  for (size_t i = timeline.slots().size(); i-- > 0;) {
    allocated += timeline.slots()[i].allocated_bytes;
    released += timeline.slots()[i].released_bytes;
    rates.seconds = (end_ns - static_cast<double>(trace.reader->TimeNs(timeline.StartOf(i)))) / 1e9;
    if (rates.seconds >= 1) break;
  }
  if (rates.seconds > 0) {
    rates.allocated = allocated / rates.seconds;
    rates.released = released / rates.seconds;
  }
  return rates;
}

}  // namespace

std::string TopScreen(LoadedTrace& trace, const ScreenSize& size) {
  const HeapModel& model = *trace.model;
  const RunFacts& facts = trace.facts;
  std::vector<std::string> lines;
  lines.push_back(fmt::format("pid {}  {}  {}  {}", facts.pid, HumanDuration(facts.duration_ns),
                              trace.reader->end().is_null() ? "running" : facts.EndingText(),
                              Printable(facts.CommandText())));
  lines.push_back(model.sampled() ? fmt::format("sampled every {}, estimates; {}",
                                                HumanBytes(static_cast<double>(model.sample_bytes())), facts.LossText())
                                  : fmt::format("complete recording; {}", facts.LossText()));
  const Usage live = model.total().Live(), peak = model.total().Peak(model.epoch());
  const Rates rates = RatesAtEnd(trace);
  lines.push_back(fmt::format("live {} in {} blocks, peak {} at {}", HumanBytes(live.bytes.value()),
                              HumanCount(live.blocks.Rounded()), HumanBytes(peak.bytes.value()),
                              HumanDuration(model.peak_ns())));
  lines.push_back(fmt::format("last {:.1f} s: {}/s allocated, {}/s released", rates.seconds,
                              HumanBytes(rates.allocated), HumanBytes(rates.released)));
  if (!trace.reader->memory().empty()) {
    const TraceMemory& memory = trace.reader->memory().back();
    const auto rss = static_cast<double>(memory.rss);
    lines.push_back(fmt::format("RSS {}: live {} ({}), files {}, the rest {}", HumanBytes(rss),
                                HumanBytes(live.bytes.value()), HumanPercent(live.bytes.value(), rss),
                                HumanBytes(static_cast<double>(memory.file)),
                                HumanBytes(rss - live.bytes.value() - static_cast<double>(memory.file))));
  }
  lines.emplace_back();
  std::string text;
  constexpr size_t kTableHead = 1;
  if (size.lines > lines.size() + kTableHead) {
    const Hotspots spots = FindHotspots(*trace.reader, model, *trace.names, Grouping::kSite, Metric::kLive,
                                        size.lines - lines.size() - kTableHead, 0);
    lines.push_back(fmt::format("{:>8} {:>11} {:>12}  {}", "share", "live", "blocks", "site"));
    const double whole = live.bytes.value();
    for (const Hotspot& row : spots.rows) {
      lines.push_back(fmt::format("{:>8} {:>11} {:>12}  {}{}", HumanPercent(row.self.bytes.value(), whole),
                                  HumanBytes(row.self.bytes.value()), HumanCount(row.self.blocks.Rounded()),
                                  Printable(row.name), row.place.empty() ? "" : "  " + Printable(row.place)));
    }
  }
  lines.resize(std::min(lines.size(), size.lines));
  for (const std::string& line : lines) text += ShortenMiddle(line, std::max<size_t>(size.columns, 8)) + "\n";
  return text;
}

}  // namespace tidemark
