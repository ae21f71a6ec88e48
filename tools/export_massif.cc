// See export_massif.h. A tree of massif's begins with who asked for the memory and goes outwards to main.
#include "tools/export_massif.h"

#include <algorithm>
#include <cmath>

#include "tools/json_text.h"
#include "tools/live_history.h"
#include "tools/model/stack_tree.h"

namespace tidemark {
namespace {

constexpr size_t kSnapshots = 100;
constexpr double kThreshold = 0.01;  // massif's own; what is below is summed up, so that every level adds up

class Trees {
 public:
  Trees(const ExportSource& source, const WriteText& write) : source_(source), write_(write) {}

  // Frames are this tree's "functions".
  void Write(bool at_peak, uint64_t whole) {
    const HeapModel& model = source_.model();
    StackTree tree;
    for (const StackUse& use : model.stacks()) {
      const Usage usage = at_peak ? use.tally.Peak(model.epoch()) : use.tally.Live();
      if (usage.blocks.seen != 0) tree.Add(source_.names().StackOf(use.node), usage.bytes);
    }
    tree_ = &tree;
    whole_ = static_cast<double>(whole);
    WriteNode(0, 0, whole);
  }

 private:
  std::string Label(uint32_t node, uint32_t depth) const {
    if (depth == 0) return "(heap allocation functions) malloc/new/new[], --alloc-fns, etc.";
    const uint32_t id = tree_->nodes()[node].function;
    const NamedFrame& frame = source_.names().frame(id);
    const NamedFunction& function = source_.names().function(frame.function);
    const std::string place = frame.file.empty() ? "in " + (function.module.empty() ? "???" : function.module)
                                                 : source_.paths.Of(frame.file) + ':' + std::to_string(frame.line);
    return "0x0: " + Printable(function.name) + " (" + Printable(place) + ')';
  }

  void WriteNode(uint32_t node, uint32_t depth, uint64_t bytes) {
    std::vector<uint32_t> shown;
    uint64_t below = 0, places = 0;
    for (uint32_t child : tree_->nodes()[node].children) {
      const uint64_t value = tree_->nodes()[child].total.Rounded();
      if (depth >= kMostDepth) {
        break;
      } else if (static_cast<double>(value) < kThreshold * whole_) {
        below += value, ++places;
      } else {
        shown.push_back(child);
      }
    }
    std::stable_sort(shown.begin(), shown.end(), [&](uint32_t a, uint32_t b) {
      return tree_->nodes()[a].total.value() > tree_->nodes()[b].total.value();
    });
    write_(std::string(depth, ' ') + 'n' + std::to_string(shown.size() + (places != 0 ? 1 : 0)) + ": " +
           std::to_string(bytes) + ' ' + Label(node, depth) + '\n');
    for (uint32_t child : shown) WriteNode(child, depth + 1, tree_->nodes()[child].total.Rounded());
    if (places != 0) {
      write_(std::string(depth + 1, ' ') + "n0: " + std::to_string(below) + " in " +
             (places == 1 ? "1 place" : std::to_string(places) + " places, all") +
             " below massif's threshold (1.00%)\n");
    }
  }

  static constexpr uint32_t kMostDepth = 64;  // callers further out are cut off, as massif itself does (at 30)
  const ExportSource& source_;
  const WriteText& write_;
  const StackTree* tree_ = nullptr;
  double whole_ = 0;
};

}  // namespace

void ExportMassif(const ExportSource& source, const WriteText& write) {
  const HeapModel& model = source.model();
  source.PrefetchNames();
  const std::string interval =
      model.sampled() ? "sampled every " + std::to_string(model.sample_bytes()) + " bytes, estimates" : "complete";
  write("desc: tidemark, " + interval + "\ncmd: " + source.Command() + "\ntime_unit: ms\n");
  Trees trees(source, write);
  const std::vector<LivePoint> points = LiveHistory(*source.trace.reader, model, kSnapshots);
  for (size_t i = 0; i < points.size(); ++i) {
    const LivePoint& point = points[i];
    const bool last = i + 1 == points.size();
    // The peak and the end are the model's, not a second sum.
    uint64_t bytes = Saturated(point.bytes);
    if (point.peak) bytes = model.total().Peak(model.epoch()).bytes.Rounded();
    if (last) bytes = model.total().Live().bytes.Rounded();
    write("#-----------\nsnapshot=" + std::to_string(i) +
          "\n#-----------\ntime=" + std::to_string(point.time_ns / 1000000) + "\nmem_heap_B=" + std::to_string(bytes) +
          "\nmem_heap_extra_B=0\nmem_stacks_B=0\nheap_tree=" +
          (point.peak ? "peak"
           : last     ? "detailed"
                      : "empty") +
          '\n');
    if (point.peak || last) trees.Write(point.peak, bytes);
  }
}

}  // namespace tidemark
