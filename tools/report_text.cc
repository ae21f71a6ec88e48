// See report_text.h.
#include "tools/report_text.h"

#include <fmt/format.h>

namespace tidemark {
namespace {

std::string WithInterval(const std::string& value, const Amount& amount, bool bytes) {
  const std::string interval = HumanInterval(amount.Interval95(), bytes);
  return interval.empty() ? value : fmt::format("{} ({})", value, interval);
}

std::string UsageText(const Usage& usage) {
  return fmt::format("{} in {} blocks", WithInterval(HumanBytes(usage.bytes.value()), usage.bytes, true),
                     WithInterval(HumanCount(usage.blocks.Rounded()), usage.blocks, false));
}

// "name (place)", "name (module)": who and where.
std::string Who(const std::string& name, const std::string& place, const std::string& module) {
  if (!place.empty()) return fmt::format("{}  {}", name, place);
  if (!module.empty() && name.compare(0, module.size() + 1, module + "+") != 0)
    return fmt::format("{}  [{}]", name, module);
  return name;
}

}  // namespace

std::string SummaryText(const HeapModel& model, const RunFacts& facts, const TextStyle& style) {
  std::string out;
  auto line = [&](const char* label, const std::string& text) { out += fmt::format("  {:<12} {}\n", label, text); };
  std::string command = Printable(facts.CommandText());
  if (style.width > 0) command = ShortenMiddle(command, static_cast<size_t>(std::max(style.width, 20)));
  out += style.colour ? fmt::format("\x1b[1m{}\x1b[0m\n", command) : command + "\n";

  std::string run = facts.pid != 0 ? fmt::format("pid {}, ", facts.pid) : "";
  run += model.sampled() ? fmt::format("sampled every {} on average, 95 % intervals in parentheses",
                                       HumanBytes(static_cast<double>(model.sample_bytes())))
                         : "complete recording";
  run += fmt::format("; {}, {}", HumanDuration(facts.duration_ns), facts.EndingText());
  line("run", run);
  if (const TimeWindow& window = model.window(); !window.whole()) {
    line("window", fmt::format("{} to {}: all numbers are of this time only", HumanDuration(window.from_ns.value_or(0)),
                               window.to_ns ? HumanDuration(*window.to_ns) : "the end"));
  }
  line("events", fmt::format("{} ({} allocs, {} frees, {} reallocs), {} {}", HumanCount(model.events().all()),
                             HumanCount(model.events().allocs), HumanCount(model.events().frees),
                             HumanCount(model.events().reallocs), HumanCount(model.threads().size()),
                             model.threads().size() == 1 ? "thread" : "threads"));

  const Usage allocated = model.total().Allocated();
  std::string text = UsageText(allocated);
  if (facts.duration_ns > 0) {
    text += fmt::format(", {}/s", HumanBytes(allocated.bytes.value() * 1e9 / static_cast<double>(facts.duration_ns)));
  }
  line("allocated", text);
  if (model.sampled() && facts.exact_allocated_bytes != 0) {
    line("", fmt::format("counted exactly by the sampler: {}",
                         HumanBytes(static_cast<double>(facts.exact_allocated_bytes))));
  }
  if (model.sampled() && allocated.blocks.seen == 0) {
    line("", fmt::format("no sample was taken: less than {} were allocated (95 %)",
                         HumanBytes(NoSampleBoundBytes(model.sample_bytes()))));
  }
  line("peak", fmt::format("{}, at {}", UsageText(model.total().Peak(model.epoch())), HumanDuration(model.peak_ns())));
  line("live at end", UsageText(model.total().Live()) + (facts.complete ? ", never freed" : ", of a trace cut short"));
  if (model.knows_temporary()) {
    const Usage temporary = model.total().Temporary();
    line("temporary", fmt::format("{} of the blocks ({}) were released by the thread's next call",
                                  HumanPercent(temporary.blocks.value(), allocated.blocks.value()),
                                  HumanCount(temporary.blocks.seen)));
  }
  if (!facts.complete || facts.all_events().lost() != 0) line("losses", facts.LossText());
  if (facts.unwinding && !facts.unwinding->perfect()) line("stacks", facts.UnwindText());
  const Oddities& odd = model.oddities();
  if (odd.unknown_releases != 0) {
    line("", fmt::format("{} releases of blocks from before the recording, or whose allocation was lost",
                         HumanCount(odd.unknown_releases)));
  }
  if (odd.implied_releases != 0) {
    line("", fmt::format("{} blocks whose release was lost: their address was handed out again",
                         HumanCount(odd.implied_releases)));
  }
  if (facts.region_full_count != 0) {
    line("",
         fmt::format("{} samples ({}) found no room and are missing in all numbers",
                     HumanCount(facts.region_full_count), HumanBytes(static_cast<double>(facts.region_full_bytes))));
  }
  if (const uint64_t errors = std::max(model.events().heap_errors, facts.heap_errors); errors != 0) {
    line("heap errors", fmt::format("{}, described below", HumanCount(errors)));
  }
  if (facts.guards_given_up) {
    line("guards", "no slot was guarded any more once the program installed a handler of SIGSEGV of its own");
  }
  return out;
}

std::string HotspotText(const Hotspots& hotspots, const HeapModel& model, const FrameNames& names,
                        const TextStyle& style) {
  const Metric metric = hotspots.metric;
  const bool in_blocks = CountsBlocks(metric);
  const double whole = AmountOf(metric, hotspots.whole).value();
  std::string out = fmt::format("\n{} by {}", TitleOf(metric), NameOf(hotspots.grouping));
  if (hotspots.rows.size() < hotspots.all_rows) {
    out += fmt::format(", the first {} of {} (--top N for more)", HumanCount(hotspots.rows.size()),
                       HumanCount(hotspots.all_rows));
  }
  out += "\n";
  if (hotspots.rows.empty()) return out + "  nothing\n";

  using Align = TextTable::Align;
  std::vector<TextTable::Column> columns;
  const std::string unit = in_blocks ? "blocks" : "bytes";
  const std::string self = hotspots.has_totals ? "self " : "";
  columns.push_back({self.empty() ? "share" : "self %", Align::kRight, false});
  columns.push_back({self + unit, Align::kRight, false});
  if (model.sampled()) columns.push_back({"95 % interval", Align::kRight, false});
  if (hotspots.has_totals) {
    columns.push_back({"total %", Align::kRight, false});
    columns.push_back({"total " + unit, Align::kRight, false});
    if (model.sampled()) columns.push_back({"95 % interval", Align::kRight, false});
  } else {
    columns.push_back({in_blocks ? "bytes" : "blocks", Align::kRight, false});
    if (model.sampled()) columns.push_back({"95 % interval", Align::kRight, false});
    columns.push_back({"mean", Align::kRight, false});
  }
  columns.push_back({NameOf(hotspots.grouping), Align::kLeft, true});
  TextTable table(columns);

  auto number = [&](const Usage& usage, bool blocks) {
    return blocks ? HumanCount(usage.blocks.Rounded()) : HumanBytes(usage.bytes.value());
  };
  auto interval = [&](const Usage& usage, bool blocks) {
    return HumanInterval((blocks ? usage.blocks : usage.bytes).Interval95(), !blocks);
  };
  for (const Hotspot& row : hotspots.rows) {
    std::vector<std::string> cells;
    cells.push_back(HumanPercent(AmountOf(metric, row.self).value(), whole));
    cells.push_back(number(row.self, in_blocks));
    if (model.sampled()) cells.push_back(interval(row.self, in_blocks));
    if (hotspots.has_totals) {
      cells.push_back(HumanPercent(AmountOf(metric, row.total).value(), whole));
      cells.push_back(number(row.total, in_blocks));
      if (model.sampled()) cells.push_back(interval(row.total, in_blocks));
    } else {
      cells.push_back(number(row.self, !in_blocks));
      if (model.sampled()) cells.push_back(interval(row.self, !in_blocks));
      const double blocks = row.self.blocks.value();
      cells.push_back(blocks > 0 ? HumanBytes(row.self.bytes.value() / blocks) : "-");
    }
    switch (hotspots.grouping) {
      case Grouping::kSite:
        cells.push_back(Who(row.name, row.place, row.module));
        break;
      case Grouping::kFunction:
        cells.push_back(Who(row.name, "", row.module));
        break;
      case Grouping::kModule:
        cells.push_back(row.name);
        break;
      case Grouping::kThread:
        cells.push_back(row.serial == 0 ? row.name
                                        : fmt::format("{} (thread {}, tid {})", row.name.empty() ? "?" : row.name,
                                                      row.serial, row.tid));
        break;
      case Grouping::kSize:
        cells.push_back(row.size_low == 1
                            ? fmt::format("up to {}", HumanBytes(static_cast<double>(row.size_high)))
                            : fmt::format("over {} up to {}", HumanBytes(static_cast<double>(row.size_low - 1)),
                                          HumanBytes(static_cast<double>(row.size_high))));
        break;
    }
    table.AddRow(std::move(cells));
    const double own = AmountOf(metric, row.self).value();
    for (const Caller& caller : row.callers) {
      const NamedFunction& function = names.function_of(caller.frame);
      std::string share;
      if (const double part = caller.amount.value(); part < own * 0.9995) share = HumanPercent(part, own) + "  ";
      table.AddNote(fmt::format("   < {}{}", share, Who(function.name, names.PlaceOf(caller.frame), function.module)));
    }
  }
  return out + table.Render(style);
}

}  // namespace tidemark
