// See flamegraph_svg.h.
#include "tools/flamegraph_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "tools/flamegraph_assets.h"
#include "tools/text_table.h"
#include "tools/utf8.h"

namespace tidemark {
namespace {

constexpr int kHeadHeight = 92, kRowHeight = 19, kFrameHeight = 18, kFootHeight = 12;
constexpr int kStaticWidth = 1200;  // what labels are cut for when no script runs
constexpr double kStaticCell = 7.25;
constexpr uint32_t kMaxRows = 400;  // deeper frames are merged: nobody scrolls further, and recursion can be endless
// Hue: one of kModuleHues per module, spread a little by function; shade by function as well.
constexpr uint32_t kModuleHues = 12, kSpread = 5, kShades = 3, kDegreesPerSpread = 6;
constexpr uint32_t kProgramHue = 28;  // the program itself is orange, libraries are what their names hash to

uint32_t HashOf(std::string_view text) {  // FNV-1a: small, fixed for ever
  uint32_t hash = 2166136261u;
  for (unsigned char c : text) hash = (hash ^ c) * 16777619u;
  return hash ^ hash >> 15;
}

struct ColourClass {
  uint32_t degrees, shade;
  bool operator<(const ColourClass& other) const {
    return std::tie(degrees, shade) < std::tie(other.degrees, other.shade);
  }
};

std::string RuleOf(const ColourClass& colour, bool dark) {
  // Blue looks darker than it is: black text on it needs more light.
  const uint32_t light = colour.degrees > 200 && colour.degrees < 320 ? 78 : 70;
  const uint32_t lightness = dark ? 30 + 4 * colour.shade : light + 4 * colour.shade;
  return fmt::format(".h{}s{}{{fill:hsl({},{}%,{}%)}}", colour.degrees, colour.shade, colour.degrees, dark ? 38 : 76,
                     lightness);
}

class Painter {
 public:
  Painter(const StackTree& tree, const FrameNames& names, const FlamegraphOptions& options)
      : tree_(tree), names_(names), options_(options), whole_(tree.nodes()[0].total.value()) {}

  std::string Render() {
    DrawFrame("all", "", "root", tree_.nodes()[0].total, tree_.nodes()[0].total, 0, 0);
    DrawChildren();
    return Head() + body_ + Tail();
  }

 private:
  struct Pending {
    uint32_t node;
    uint32_t row;
    double start;
  };

  double Percent(double value) const { return whole_ > 0 ? 100 * value / whole_ : 0; }

  std::string Quantity(const Amount& amount) const {
    std::string text = options_.bytes
                           ? fmt::format("{} ({} bytes)", HumanBytes(amount.value()), HumanCount(amount.Rounded()))
                           : fmt::format("{} blocks", HumanCount(amount.Rounded()));
    const std::string interval = HumanInterval(amount.Interval95(), options_.bytes);
    if (!interval.empty()) text += fmt::format(", 95 %: {}", interval);
    return text;
  }

  void DrawFrame(const std::string& name, const std::string& module, const std::string& colour, const Amount& total,
                 const Amount& self, double start, uint32_t row) {
    const double x = Percent(start), width = row == 0 ? 100 : Percent(total.value());
    const int y = kHeadHeight + static_cast<int>(row) * kRowHeight;
    rows_ = std::max(rows_, row + 1);
    std::string title = row == 0 ? fmt::format("all: {}", Quantity(total))
                                 : fmt::format("{}\n{}\n{}", Printable(name), Quantity(total),
                                               HumanPercent(total.value(), whole_) + " of all");
    if (row > 0 && self.seen != 0) title += self.seen == total.seen ? "\nall of it here" : "\nhere: " + Quantity(self);
    if (!module.empty()) title += "\nin " + Printable(module);
    std::string label;
    if (row == 0) {
      label = title;
    } else {
      const double room = (width / 100 * kStaticWidth - 8) / kStaticCell;
      if (room >= 3)
        label = room < static_cast<double>(DisplayWidth(name)) ? Cut(name, static_cast<size_t>(room)) : name;
    }
    fmt::format_to(
        std::back_inserter(body_),
        "<g class=\"f\" data-row=\"{}\" data-value=\"{}\"><title>{}</title><rect class=\"{}\" x=\"{:.7g}%\" "
        "y=\"{}\" width=\"{:.7g}%\" height=\"{}\" rx=\"2\"/><text x=\"{:.7g}%\" dx=\"4\" y=\"{}\">{}</text></g>\n",
        row, total.Rounded(), XmlText(title), colour, x, y, width, kFrameHeight, x, y + 13, XmlText(label));
  }

  static std::string Cut(const std::string& name, size_t cells) {
    size_t end = 0, seen = 0;
    for (; end < name.size(); ++end) {
      if ((static_cast<unsigned char>(name[end]) & 0xc0) != 0x80 && seen++ + 1 == cells) break;
    }
    return name.substr(0, end) + "\u2026";
  }

  std::string ColourOf(const NamedFunction& function) {
    if (!function.known && function.module.empty()) return "gone";
    const uint32_t hash = HashOf(function.name);
    uint32_t degrees = HashOf(function.module) % kModuleHues * 360 / kModuleHues;
    if (function.module == options_.program) degrees = kProgramHue;
    degrees = (degrees + 360 + hash % kSpread * kDegreesPerSpread - kSpread / 2 * kDegreesPerSpread) % 360;
    const ColourClass colour{degrees, hash / kSpread % kShades};
    colours_.insert(colour);
    return fmt::format("h{}s{}", colour.degrees, colour.shade);
  }

  // All frames below a node, itself included.
  uint64_t CountFrames(uint32_t node) const {
    uint64_t count = 0;
    std::vector<uint32_t> todo = {node};
    while (!todo.empty()) {
      const StackTree::Node& it = tree_.nodes()[todo.back()];
      todo.pop_back();
      ++count;
      todo.insert(todo.end(), it.children.begin(), it.children.end());
    }
    return count;
  }

  void DrawChildren() {
    const double least = whole_ * options_.min_percent / 100;
    std::vector<Pending> todo = {{0, 0, 0}};
    while (!todo.empty()) {
      const Pending at = todo.back();
      todo.pop_back();
      double start = at.start;
      Amount merged;
      uint64_t merged_frames = 0;
      std::vector<Pending> drawn;
      const bool too_deep = at.row + 1 >= kMaxRows;
      for (uint32_t child : tree_.nodes()[at.node].children) {
        const StackTree::Node& node = tree_.nodes()[child];
        if (too_deep || node.total.value() < least) {
          merged += node.total;
          merged_frames += CountFrames(child);
          continue;
        }
        const NamedFunction& function = names_.function(node.function);
        DrawFrame(function.name, function.module, ColourOf(function), node.total, node.self, start, at.row + 1);
        drawn.push_back({child, at.row + 1, start});
        start += node.total.value();
      }
      if (merged_frames != 0) {
        const std::string frames = merged_frames == 1 ? "frame" : "frames";
        const std::string name =
            too_deep ? fmt::format("({} deeper {})", HumanCount(merged_frames), frames)
                     : fmt::format("({} {} below {:g} %)", HumanCount(merged_frames), frames, options_.min_percent);
        DrawFrame(name, "", "gone", merged, {}, start, at.row + 1);
      }
      todo.insert(todo.end(), drawn.rbegin(), drawn.rend());
    }
  }

  std::string Head() const {
    const int height = kHeadHeight + static_cast<int>(rows_) * kRowHeight + kFootHeight;
    std::string light, dark;
    for (const ColourClass& colour : colours_) {
      light += RuleOf(colour, false) + '\n';
      dark += RuleOf(colour, true) + '\n';
    }
    return fmt::format(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"{0}\" height=\"{1}\" data-total=\"{2}\" "
        "data-unit=\"{3}\">\n<title>{4}</title>\n<style><![CDATA[{5}{6}{7}@media (prefers-color-scheme: dark) "
        "{{\n{8}}}\n]]></style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n",
        kStaticWidth, height, tree_.nodes()[0].total.Rounded(), options_.bytes ? "bytes" : "blocks",
        XmlText(Printable(options_.title)), kFlamegraphStyle, light, "", dark);
  }

  std::string Tail() const {
    return fmt::format(
        "<g id=\"head\">\n<rect class=\"bar\" width=\"100%\" height=\"{0}\"/><rect class=\"rule\" y=\"{1}\" "
        "width=\"100%\" height=\"1\"/>\n<text class=\"title\" x=\"14\" y=\"28\">{2}</text>\n"
        "<text class=\"sub\" x=\"14\" y=\"49\">{3}</text>\n"
        "<text id=\"detail\" x=\"14\" y=\"73\">point at a frame for its numbers; click to zoom; Ctrl-F or / to search; "
        "Esc to reset</text>\n"
        "<text id=\"reset\" class=\"button\" x=\"100%\" dx=\"-330\" y=\"28\" style=\"display:none\">reset zoom</text>\n"
        "<text id=\"find\" class=\"button\" x=\"100%\" dx=\"-270\" y=\"28\">search</text>\n"
        "<svg x=\"100%\" y=\"0\" width=\"270\" height=\"40\" overflow=\"visible\"><foreignObject x=\"-262\" y=\"12\" "
        "width=\"250\" height=\"26\"><input xmlns=\"http://www.w3.org/1999/xhtml\" id=\"query\" type=\"search\" "
        "placeholder=\"function, or regular expression\" spellcheck=\"false\"/></foreignObject></svg>\n"
        "<text id=\"matched\" class=\"matched\" x=\"100%\" dx=\"-14\" y=\"53\"></text>\n</g>\n"
        "<script><![CDATA[{4}]]></script>\n</svg>\n",
        kHeadHeight - 6, kHeadHeight - 7, XmlText(Printable(options_.title)), XmlText(Printable(options_.subtitle)),
        kFlamegraphScript);
  }

  const StackTree& tree_;
  const FrameNames& names_;
  const FlamegraphOptions& options_;
  const double whole_;
  std::string body_;
  std::set<ColourClass> colours_;
  uint32_t rows_ = 1;
};

}  // namespace

std::string XmlText(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t i = 0; i < text.size();) {
    uint32_t code = 0;
    const size_t length = Utf8Length(text, i, &code);
    switch (code) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // What XML 1.0 lets through.
        if (length != 0 && (code >= 0x20 || code == '\n' || code == '\t') && code != 0xfffe && code != 0xffff) {
          out += text.substr(i, length);
        } else {
          out += kReplacementCharacter;
        }
    }
    i += length == 0 ? 1 : length;
  }
  return out;
}

std::string RenderFlamegraph(const StackTree& tree, const FrameNames& names, const FlamegraphOptions& options) {
  return Painter(tree, names, options).Render();
}

}  // namespace tidemark
