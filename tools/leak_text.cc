// A leak verdict for people: the processes, a sum per class, the leaks, what hid others, and the verdict.
#include <fmt/format.h>

#include <algorithm>

#include "tools/leak_fingerprint.h"
#include "tools/leak_formats.h"

namespace tidemark {
namespace {

std::string Amounts(const Usage& usage) {
  const std::string bytes_interval = HumanInterval(usage.bytes.Interval95(), true);
  const std::string estimate = bytes_interval.empty() ? "" : "~";
  const uint64_t bytes = usage.bytes.Rounded(), blocks = usage.blocks.Rounded();
  std::string text =
      estimate + (bytes < 1024 ? fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s")
                               : fmt::format("{} bytes ({})", HumanCount(bytes), HumanBytes(usage.bytes.value())));
  text += fmt::format(" in {}{} block{}", estimate, HumanCount(blocks), blocks == 1 ? "" : "s");
  return bytes_interval.empty() ? text : fmt::format("{} [95 %: {}]", text, bytes_interval);
}

class LeakPage {
 public:
  LeakPage(const LeakReport& report, const TextStyle& style) : report_(report), style_(style) {}

  std::string Make() {
    for (const LeakProcess& process : report_.verdict.processes) AddProcess(process);
    AddClasses();
    AddLeaks();
    AddGrowth();
    AddSuppressions();
    AddStale();
    AddVerdict();
    return std::move(out_);
  }

 private:
  std::string Bold(const std::string& text) const { return style_.colour ? "\x1b[1m" + text + "\x1b[0m" : text; }
  std::string Dim(const std::string& text) const { return style_.colour ? "\x1b[2m" + text + "\x1b[0m" : text; }
  void Line(const std::string& text) { out_ += text + "\n"; }
  void Row(std::string_view label, const std::string& text) { Line(fmt::format("  {:<18} {}", label, text)); }

  void AddProcess(const LeakProcess& process) {
    Line(Bold(Printable(process.command)));
    std::string run = process.pid != 0 ? fmt::format("pid {}, ", process.pid) : "";
    run += process.sampled ? fmt::format("sampled every {} on average: all amounts are estimates",
                                         HumanBytes(static_cast<double>(process.sample_bytes)))
                           : "complete recording";
    Row("run", run + "; " + process.ending);
    if (process.check) {
      const TraceLeakCheck& check = *process.check;
      Row("checked",
          fmt::format("{}, {}: {} live blocks, {} of roots, {} {}, scan {} ms, pause {} ms", NameOf(check.trigger),
                      NameOf(check.method), HumanCount(check.live_blocks),
                      HumanBytes(static_cast<double>(check.root_bytes)), check.threads,
                      check.threads == 1 ? "thread" : "threads", check.scan_us / 1000, check.pause_us / 1000));
    }
    if (!process.could_not_check.empty()) Row("NOT CHECKED", Printable(process.could_not_check));
    for (const std::string& note : process.notes) Row("note", Printable(note));
    if (process.inherited.blocks.seen != 0) {
      Row("inherited", Amounts(process.inherited) + " lost that the parent process had allocated: not counted here");
    }
  }

  void AddClasses() {
    out_ += "\n";
    for (LeakKind kind : kLeakKinds) {
      Usage suppressed;
      for (const Leak& leak : report_.verdict.leaks) {
        if (leak.kind == kind && !leak.suppressed_by.empty()) suppressed += leak.direct;
      }
      std::string text = Amounts(report_.verdict.totals[IndexOf(kind)]);
      if (suppressed.blocks.seen != 0) text += fmt::format(", of which suppressed: {}", Amounts(suppressed));
      Row(TitleOf(kind), text);
    }
  }

  static std::string BaselineNote(const Leak& leak) {
    switch (leak.baseline) {
      case BaselineState::kNone:
        return "";
      case BaselineState::kNew:
        return "not in the baseline";
      case BaselineState::kKnown:
        return "in the baseline";
      case BaselineState::kGrown:
        return "in the baseline, but grown";
    }
    return "";
  }

  void AddLeaks() {
    size_t shown = 0, hidden = 0;
    for (const Leak& leak : report_.verdict.leaks) {
      if ((leak.kind & report_.show) == 0 || !leak.suppressed_by.empty()) continue;
      if (report_.top != 0 && shown == report_.top) {
        ++hidden;
        continue;
      }
      AddLeak(leak, ++shown);
    }
    if (hidden != 0) Line(fmt::format("\nand {} more, lighter ones; see them with --top 0", HumanCount(hidden)));
  }

  void AddLeak(const Leak& leak, size_t number) {
    std::string title = fmt::format("{} {}", Amounts(leak.direct), TitleOf(leak.kind));
    if (leak.kind == kLeakReachable) title += fmt::format(", from {}", NameOf(leak.root));
    out_ += "\n";
    Line(Bold(fmt::format("#{}  {}", number, title)));
    if (leak.indirect.blocks.seen != 0) {
      Line(fmt::format("    and {} that only they held (indirectly lost)", Amounts(leak.indirect)));
    }
    AddCircumstances(leak);
    AddStack(leak);
    constexpr size_t kParts = 5;
    for (size_t i = 0; i < std::min(leak.structure.size(), kParts); ++i) {
      Line(fmt::format("      held {}  {}", Amounts(leak.structure[i].held), Printable(leak.structure[i].site)));
    }
    if (leak.structure.size() > kParts)
      Line(fmt::format("      held more from {} places", leak.structure.size() - kParts));
    if (leak.kind != kLeakReachable && !leak.rule.empty()) {
      std::string rule = Printable(leak.rule.substr(0, leak.rule.find('\n')));
      if (leak.rule.find('\n') != std::string::npos) rule = "an entry for its libraries, see --format json";
      Line(Dim("      suppress with: " + rule));
    }
  }

  void AddCircumstances(const Leak& leak) {
    std::string text;
    const auto add = [&text](const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
    if (leak.lost_at_end != 0 && leak.lost_running == 0) add("lost by destructors at exit, not while it ran");
    if (leak.lost_running != 0 && leak.lost_at_end == 0) add("lost while it ran");
    if (leak.lost_running != 0 && leak.lost_at_end != 0) {
      add(fmt::format("{} lost while it ran, {} by destructors", HumanCount(leak.lost_running),
                      HumanCount(leak.lost_at_end)));
    }
    if (leak.first_ns) {
      add(*leak.first_ns == *leak.last_ns
              ? fmt::format("allocated at {}", HumanDuration(*leak.first_ns))
              : fmt::format("allocated from {} to {}", HumanDuration(*leak.first_ns), HumanDuration(*leak.last_ns)));
    }
    if (!leak.threads.empty() && leak.threads.size() <= 3) {
      std::string names;
      for (const std::string& thread : leak.threads) names += (names.empty() ? "" : ", ") + thread;
      add("by " + Printable(names));
    } else if (!leak.threads.empty()) {
      add(fmt::format("by {} threads", HumanCount(leak.threads.size())));
    }
    if (leak.heap_sized != 0) add(fmt::format("{} sizes as the heap rounds them", HumanCount(leak.heap_sized)));
    if (const std::string note = BaselineNote(leak); !note.empty()) add(note);
    if (!text.empty()) Line("    " + text);
    if (report_.verdict.processes.size() < 2) return;
    for (const LeakShare& share : leak.processes) {
      const LeakProcess& process = report_.verdict.processes[share.process];
      Line(fmt::format("    in pid {} ({}): {}", process.pid, Printable(process.command), Amounts(share.direct)));
    }
  }

  void AddStack(const Leak& leak) {
    if (leak.stack.empty()) return Line("      [no stack: the thread had no place in the recording]");
    for (const LeakFrame& frame : leak.stack) {
      const std::string place = PlaceOf(frame);
      std::string text = Printable(frame.function);
      if (frame.inlined) text += " (inlined)";
      if (!place.empty()) {
        text += "  " + Printable(place);
      } else if (frame.known && !frame.module.empty()) {
        text += "  [" + Printable(BaseName(frame.module)) + "]";
      }
      text = "      " + text;
      Line(style_.width > 0 ? ShortenMiddle(text, static_cast<size_t>(std::max(style_.width, 40))) : text);
    }
  }

  void AddGrowth() {
    if (report_.growth.empty()) return;
    Line("\n" + Bold("live bytes that rise, by where they were allocated"));
    for (const LeakGrowth& growth : report_.growth) {
      const LeakFrame* at = growth.stack.empty() ? nullptr : &growth.stack.front();
      const GrowthVerdict& verdict = growth.verdict;
      Line(fmt::format(
          "  {:<16}  {:>10} live at the end, {:.3f} [95 %: {:.3f} .. {:.3f}] per byte allocated, p = {:.2g}; "
          "{:.0f} % of the last third released  {}  {}",
          NameOf(verdict.growth), HumanBytes(growth.live_bytes), verdict.line.slope, verdict.line.low,
          verdict.line.high, verdict.trend.p_value, verdict.released_share * 100,
          at != nullptr ? Printable(at->function) : "[no stack]", at != nullptr ? Printable(PlaceOf(*at)) : ""));
    }
  }

  void AddSuppressions() {
    if (report_.suppressions.used.empty()) return;
    out_ += "\n";
    for (const SuppressionOutcome::Used& used : report_.suppressions.used) {
      Line(
          fmt::format("suppressed {}: {}  {}", Amounts(used.amount), Printable(used.rule), Dim(Printable(used.where))));
    }
  }

  void AddStale() {
    for (const LeakBaseline::Entry& entry : report_.stale) {
      Line(fmt::format("no longer there: {} {} bytes in {} blocks at {} ({}); take it out with --update-baseline",
                       Printable(entry.kind), entry.bytes, entry.blocks,
                       entry.site.empty() ? "an unknown place" : Printable(entry.site), Printable(entry.fingerprint)));
    }
  }

  void AddVerdict() {
    const char* word = report_.decision.status == ExitStatus::kOk        ? "fine"
                       : report_.decision.status == ExitStatus::kFinding ? "leaks"
                                                                         : "could not check";
    out_ += "\n";
    for (size_t i = 0; i < report_.decision.reasons.size(); ++i) {
      Line(i == 0 ? Bold(fmt::format("verdict: {}: {}", word, report_.decision.reasons[i]))
                  : "         " + report_.decision.reasons[i]);
    }
  }

  const LeakReport& report_;
  const TextStyle& style_;
  std::string out_;
};

}  // namespace

std::string LeakText(const LeakReport& report, const TextStyle& style) { return LeakPage(report, style).Make(); }

const LeakFrame* OwnFrameOf(const Leak& leak) {
  for (const LeakFrame& frame : leak.stack) {
    if (!IsRuntimeFrame(frame)) return &frame;
  }
  return leak.stack.empty() ? nullptr : &leak.stack.front();
}

const LeakFrame* SourceFrameOf(const Leak& leak) {
  for (const bool own : {true, false}) {
    for (const LeakFrame& frame : leak.stack) {
      if (!frame.file.empty() && (!own || !IsRuntimeFrame(frame))) return &frame;
    }
  }
  return nullptr;
}

std::string RelativePath(const std::string& path, const std::string& root) {
  std::string relative = path;
  if (!root.empty() && path.size() > root.size() + 1 && path.starts_with(root) && path[root.size()] == '/') {
    relative = path.substr(root.size() + 1);
  }
  while (relative.starts_with("./")) relative.erase(0, 2);
  return relative;
}

std::string LeakSentence(const Leak& leak) {
  const LeakFrame* at = OwnFrameOf(leak);
  const bool one = leak.direct.blocks.Rounded() == 1;
  std::string text = fmt::format("{} {} {}", Amounts(leak.direct), one ? "is" : "are", TitleOf(leak.kind));
  if (at != nullptr) text += ", allocated in " + at->function;
  if (leak.indirect.blocks.seen != 0)
    text += fmt::format("; only {} held {}", one ? "it" : "they", Amounts(leak.indirect));
  return text;
}

}  // namespace tidemark
