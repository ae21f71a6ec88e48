// See export_callgrind.h.
#include "tools/export_callgrind.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "tools/text_table.h"

namespace tidemark {
namespace {

using Costs = std::array<uint64_t, 6>;
constexpr const char* kEvents =
    "event: AllocB : bytes allocated\nevent: AllocN : blocks allocated\nevent: PeakB : bytes live at the peak\n"
    "event: PeakN : blocks live at the peak\nevent: EndB : bytes live at the end\nevent: EndN : blocks live at the "
    "end\n"
    "events: AllocB AllocN PeakB PeakN EndB EndN\n";

Costs CostsOf(const Tally& tally, uint64_t epoch) {
  const Usage allocated = tally.Allocated(), peak = tally.Peak(epoch), live = tally.Live();
  return {allocated.bytes.Rounded(), allocated.blocks.Rounded(), peak.bytes.Rounded(),
          peak.blocks.Rounded(),     live.bytes.Rounded(),       live.blocks.Rounded()};
}

void Add(Costs* sum, const Costs& more) {
  for (size_t i = 0; i < sum->size(); ++i) (*sum)[i] += more[i];
}

std::string Text(const Costs& costs) {
  std::string text;
  for (uint64_t cost : costs) text += ' ' + std::to_string(cost);
  return text + '\n';
}

// A place is a line of a file; what a function costs there itself, and by which calls.
struct Place {
  std::string file;
  uint32_t line = 0;
  bool operator<(const Place& other) const { return std::tie(file, line) < std::tie(other.file, other.line); }
};
struct Function {
  std::string file;  // of its first frame: what the function is listed under
  uint32_t line = 0;
  std::map<Place, Costs> self;
  std::map<std::pair<Place, uint32_t>, Costs> calls;  // to functions
};

// Names are written once, with a number that stands for them from then on.
class Names {
 public:
  std::string Of(const std::string& name) {
    const auto [found, added] = ids_.try_emplace(name, ids_.size() + 1);
    std::string text = '(' + std::to_string(found->second) + ')';
    // "(3) name" is how a number is explained, so that a name may begin with anything; none may be empty.
    if (added) text += ' ' + (name.empty() ? "???" : name);
    return text;
  }

 private:
  std::unordered_map<std::string, size_t> ids_;
};

}  // namespace

void ExportCallgrind(const ExportSource& source, const WriteText& write) {
  const HeapModel& model = source.model();
  FrameNames& names = source.names();
  source.PrefetchNames();
  std::map<uint32_t, Function> functions;
  std::unordered_set<uint32_t> entered;
  Costs totals{};
  for (const StackUse& use : model.stacks()) {
    const Costs costs = CostsOf(use.tally, model.epoch());
    Add(&totals, costs);
    std::vector<uint32_t> stack = names.StackOf(use.node);
    std::reverse(stack.begin(), stack.end());
    for (size_t i = 0; i < stack.size(); ++i) {
      const NamedFrame& frame = names.frame(stack[i]);
      const auto [found, added] = functions.try_emplace(frame.function);
      if (added) found->second.file = source.paths.Of(frame.file), found->second.line = frame.line;
    }
    const auto place_of = [&](uint32_t frame) {
      return Place{source.paths.Of(names.frame(frame).file), names.frame(frame).line};
    };
    entered.clear();
    for (size_t i = 0; i < stack.size(); ++i) {
      const uint32_t function = names.frame(stack[i]).function;
      if (!entered.insert(function).second || i == 0) continue;
      Add(&functions[names.frame(stack[i - 1]).function].calls[{place_of(stack[i - 1]), function}], costs);
    }
    Add(&functions[names.frame(stack.back()).function].self[place_of(stack.back())], costs);
  }
  write("# callgrind format\nversion: 1\ncreator: tidemark\npid: " + std::to_string(source.trace.facts.pid) +
        "\ncmd: " + source.Command() + "\npart: 1\n\npositions: line\n" + kEvents + "summary:" + Text(totals));
  Names files, function_names, objects;
  const auto full_name = [&](uint32_t function) { return Printable(names.function(function).name); };
  for (const auto& [id, function] : functions) {
    write("\nob=" + objects.Of(Printable(names.function(id).module)) + "\nfl=" + files.Of(function.file) +
          "\nfn=" + function_names.Of(full_name(id)) + '\n');
    const std::string* file = &function.file;
    const auto enter = [&](const Place& place) {
      if (place.file == *file) return;
      file = &place.file;
      write((place.file == function.file ? "fe=" : "fi=") + files.Of(place.file) + '\n');
    };
    for (const auto& [place, costs] : function.self) {
      enter(place);
      write(std::to_string(place.line) + Text(costs));
    }
    for (const auto& [call, costs] : function.calls) {
      enter(call.first);
      const Function& callee = functions.at(call.second);
      // How often is not known: as often as blocks were allocated through it.
      write("cob=" + objects.Of(Printable(names.function(call.second).module)) + "\ncfi=" + files.Of(callee.file) +
            "\ncfn=" + function_names.Of(full_name(call.second)) + "\ncalls=" + std::to_string(costs[1]) + ' ' +
            std::to_string(callee.line) + '\n' + std::to_string(call.first.line) + Text(costs));
    }
  }
  write("\ntotals:" + Text(totals));
}

}  // namespace tidemark
