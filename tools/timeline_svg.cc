// See timeline_svg.h.
#include "tools/timeline_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "tools/flamegraph_svg.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

constexpr double kWidth = 1200, kLeft = 90, kRight = 1180;
constexpr double kLiveTop = 92, kLiveBottom = 400, kRateTop = 452, kRateBottom = 600, kHeight = 640;

constexpr const char* kStyle =
    "svg{background:#fff;color:#222;font:13px/1.4 system-ui,sans-serif}text{fill:currentColor}"
    ".t{font-size:18px;font-weight:600}.s{fill:#666}.g{stroke:#ddd}.live{fill:#4c8bd6;fill-opacity:.55}"
    ".rss{fill:none;stroke:#c0562c;stroke-width:1.5}.freed{fill:none;stroke:#2d7d46;stroke-width:1.5}"
    ".rate{fill:#8a63c9;fill-opacity:.5}.peak{stroke:#b00020;stroke-dasharray:4 3}.peaktext{fill:#b00020}"
    ".slot{fill:transparent}.slot:hover{fill:#8884}"
    "@media(prefers-color-scheme:dark){svg{background:#1b1d21;color:#ddd}.s{fill:#aaa}.g{stroke:#383c44}"
    ".peak{stroke:#ff6b81}.peaktext{fill:#ff6b81}}";

// 1, 2 or 5 times a power of ten, so that there are at most `most` steps to `whole`.
double NiceStep(double whole, int most) {
  if (!(whole > 0)) return 1;
  const double rough = whole / most, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double times : {1.0, 2.0, 5.0}) {
    if (times * power >= rough) return times * power;
  }
  return 10 * power;
}
// The same for bytes: powers of two read better as "512 KiB" than 500,000 bytes do.
double NiceByteStep(double whole, int most) {
  double step = 1;
  while (step * most < whole) step *= 2;
  return step;
}

std::string AtSeconds(double seconds) {
  return HumanDuration(static_cast<int64_t>(std::clamp(std::round(seconds * 1e9), -9e18, 9e18)));
}

class Picture {
 public:
  Picture(const LoadedTrace& trace, const std::string& title)
      : trace_(trace), timeline_(trace.history->timeline()), title_(title) {
    for (size_t i = 0; i <= timeline_.slots().size(); ++i) {
      const uint64_t tsc = std::min(timeline_.StartOf(i), timeline_.last_tsc());
      times_.push_back(static_cast<double>(trace.reader->TimeNs(tsc)) / 1e9);
    }
    begin_ = times_.front();
    end_ = std::max(times_.back(), begin_ + 1e-6);
    for (const TimelineSlot& slot : timeline_.slots()) highest_ = std::max(highest_, slot.live_max);
    for (const TraceMemory& sample : trace.reader->memory()) {
      if (const double at = SecondsOf(sample); sample.rss != 0 && at >= begin_ && at <= end_) {
        highest_ = std::max(highest_, static_cast<double>(sample.rss));
      }
    }
    for (size_t i = 0; i < timeline_.slots().size(); ++i) {
      if (const double seconds = Length(i); seconds > 0) {
        const TimelineSlot& slot = timeline_.slots()[i];
        fastest_ = std::max({fastest_, slot.allocated_bytes / seconds, slot.released_bytes / seconds});
      }
    }
    highest_ = std::max(highest_ * 1.05, 1.0);
    fastest_ = std::max(fastest_ * 1.05, 1.0);
  }

  std::string Render() {
    Head();
    Axes();
    Live();
    Rss();
    Rates();
    Peak();
    Slots();
    return out_ + "</svg>\n";
  }

 private:
  template <typename... Args>
  void Add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }
  double SecondsOf(const TraceMemory& sample) const {
    return static_cast<double>(static_cast<int64_t>(sample.monotonic_ns - trace_.reader->origin_monotonic_ns())) / 1e9;
  }
  double Length(size_t slot) const { return times_[slot + 1] - times_[slot]; }
  double X(double seconds) const {
    return kLeft + (kRight - kLeft) * std::clamp((seconds - begin_) / (end_ - begin_), 0.0, 1.0);
  }
  double LiveY(double bytes) const { return kLiveBottom - (kLiveBottom - kLiveTop) * bytes / highest_; }
  double RateY(double rate) const { return kRateBottom - (kRateBottom - kRateTop) * rate / fastest_; }

  void Head() {
    Add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" "
        "aria-label=\"{}\"><style>{}</style>\n",
        kWidth, kHeight, XmlText(Printable(title_)), kStyle);
    Add("<text class=\"t\" x=\"{}\" y=\"28\">{}</text>\n", kLeft, XmlText(Printable(title_)));
    constexpr size_t kMostCells = 110;
    const std::string what =
        trace_.model->sampled()
            ? fmt::format("sampled every {}, estimates", HumanBytes(static_cast<double>(trace_.model->sample_bytes())))
            : "complete recording";
    Add("<text class=\"s\" x=\"{}\" y=\"48\">{}</text>\n", kLeft,
        XmlText(fmt::format("{}  \u00b7  {}  \u00b7  {}", what, trace_.facts.LossText(),
                            ShortenMiddle(Printable(trace_.facts.CommandText()), kMostCells))));
    const char* const names[] = {"live", "RSS", "allocated per second", "released per second"};
    const char* const classes[] = {"live", "rss", "rate", "freed"};
    double x = kLeft;
    for (int i = 0; i < 4; ++i) {
      Add("<rect class=\"{}\" x=\"{}\" y=\"62\" width=\"14\" height=\"10\"/><text x=\"{}\" y=\"72\">{}</text>\n",
          classes[i], x, x + 20, names[i]);
      x += 190;
    }
  }

  void Axes() {
    const double step = NiceStep(end_ - begin_, 10);
    // Counted, not added up: what a damaged clock says may be beyond what a double can step through.
    const double first = std::ceil(begin_ / step);
    for (int i = 0; i < 12; ++i) {
      const double at = (first + i) * step;
      if (at > end_) break;
      Add("<line class=\"g\" x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\"/>", X(at), kLiveTop, kRateBottom);
      Add("<text class=\"s\" text-anchor=\"middle\" x=\"{:.1f}\" y=\"{}\">{}</text>\n", X(at), kRateBottom + 20,
          AtSeconds(at));
    }
    const auto row = [&](double y, const std::string& label) {
      Add("<line class=\"g\" x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\"/>", kLeft, y, kRight, y);
      Add("<text class=\"s\" text-anchor=\"end\" x=\"{}\" y=\"{:.1f}\">{}</text>\n", kLeft - 8, y + 4, label);
    };
    const double bytes = NiceByteStep(highest_, 6), rate = NiceByteStep(fastest_, 4);
    for (double at = 0; at <= highest_; at += bytes) row(LiveY(at), HumanBytes(at));
    for (double at = 0; at <= fastest_; at += rate) row(RateY(at), HumanBytes(at) + "/s");
  }

  // A slot holds its highest point: a peak that lasts for a moment is seen.
  void Live() {
    Add("<path class=\"live\" d=\"M{:.1f},{:.1f}", X(times_[0]), kLiveBottom);
    for (size_t i = 0; i < timeline_.slots().size(); ++i) {
      const double y = LiveY(timeline_.slots()[i].live_max);
      Add("L{:.1f},{:.1f}L{:.1f},{:.1f}", X(times_[i]), y, X(times_[i + 1]), y);
    }
    Add("L{:.1f},{:.1f}Z\"/>\n", X(times_.back()), kLiveBottom);
  }

  void Rss() {
    std::string line;
    for (const TraceMemory& sample : trace_.reader->memory()) {
      const double at = SecondsOf(sample);
      if (sample.rss == 0 || at < begin_ || at > end_) continue;
      line += fmt::format("{}{:.1f},{:.1f}", line.empty() ? "M" : "L", X(at), LiveY(static_cast<double>(sample.rss)));
    }
    if (!line.empty()) Add("<path class=\"rss\" d=\"{}\"/>\n", line);
  }

  void Rates() {
    Add("<path class=\"rate\" d=\"M{:.1f},{:.1f}", X(times_[0]), kRateBottom);
    std::string released;
    for (size_t i = 0; i < timeline_.slots().size(); ++i) {
      const TimelineSlot& slot = timeline_.slots()[i];
      const double seconds = Length(i);
      const double up = seconds > 0 ? slot.allocated_bytes / seconds : 0;
      const double down = seconds > 0 ? slot.released_bytes / seconds : 0;
      Add("L{:.1f},{:.1f}L{:.1f},{:.1f}", X(times_[i]), RateY(up), X(times_[i + 1]), RateY(up));
      released += fmt::format("{}{:.1f},{:.1f}L{:.1f},{:.1f}", released.empty() ? "M" : "L", X(times_[i]), RateY(down),
                              X(times_[i + 1]), RateY(down));
    }
    Add("L{:.1f},{:.1f}Z\"/>\n<path class=\"freed\" d=\"{}\"/>\n", X(times_.back()), kRateBottom, released);
  }

  void Peak() {
    const double peak = trace_.model->total().Peak(trace_.model->epoch()).bytes.value();
    if (peak <= 0) return;
    const double x = X(static_cast<double>(trace_.model->peak_ns()) / 1e9);
    Add("<line class=\"peak\" x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\"/>", x, kLiveTop, kLiveBottom);
    const bool left = x > (kLeft + kRight) / 2;
    Add("<text class=\"peaktext\" text-anchor=\"{}\" x=\"{:.1f}\" y=\"{}\">peak {} at {}</text>\n",
        left ? "end" : "start", left ? x - 6 : x + 6, kLiveTop + 12, HumanBytes(peak),
        HumanDuration(trace_.model->peak_ns()));
  }

  void Slots() {
    for (size_t i = 0; i < timeline_.slots().size(); ++i) {
      const TimelineSlot& slot = timeline_.slots()[i];
      const double x = X(times_[i]), width = X(times_[i + 1]) - x;
      Add("<rect class=\"slot\" x=\"{:.2f}\" y=\"{}\" width=\"{:.2f}\" height=\"{}\"><title>{} to {}\nlive: up to {}, "
          "{} "
          "at its end\nallocated: {} in {} blocks\nreleased: {} in {} blocks</title></rect>\n",
          x, kLiveTop, width, kRateBottom - kLiveTop, AtSeconds(times_[i]), AtSeconds(times_[i + 1]),
          HumanBytes(slot.live_max), HumanBytes(slot.live_end), HumanBytes(slot.allocated_bytes),
          HumanCount(Saturated(slot.allocated_blocks)), HumanBytes(slot.released_bytes),
          HumanCount(Saturated(slot.released_blocks)));
    }
  }

  const LoadedTrace& trace_;
  const Timeline& timeline_;
  std::string title_, out_;
  std::vector<double> times_;  // where the slots begin, and where the last one ends; seconds
  double begin_ = 0, end_ = 0, highest_ = 0, fastest_ = 0;
};

}  // namespace

std::string RenderTimeline(const LoadedTrace& trace, const std::string& title) {
  return Picture(trace, title).Render();
}

}  // namespace tidemark
