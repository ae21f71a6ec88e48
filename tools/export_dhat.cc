// See export_dhat.h. Field names are DHAT's: t total, m maximum, g global maximum, e end; b bytes, bk blocks, l
// lifetime.
#include "tools/export_dhat.h"

#include <algorithm>
#include <map>

#include "tools/elapsed_time.h"
#include "tools/json_text.h"

namespace tidemark {
namespace {

constexpr int kShortLivedUs = 1000;  // what the viewer calls short-lived

struct Point {  // DHAT's "program point": everything with one stack as it reads
  Usage allocated, peak, live;
  double live_bytes = 0, live_blocks = 0, most_bytes = 0, most_blocks = 0, lifetime_us = 0;
};

// Lifetimes and each point's own maximum. Block times are rounded to some 30 us by the model.
class Lives : public BlockObserver {
 public:
  Lives(const ExportSource& source, const std::vector<uint32_t>& point_of_stack, std::vector<Point>* points)
      : reader_(*source.trace.reader), model_(source.model()), point_of_stack_(point_of_stack), points_(*points) {}

  void OnAllocate(const LiveBlock& block, bool) override {
    Point& point = Count(block, 1);
    point.lifetime_us -= blocks_ * Us(block.tsc >> 16 << 16);
    if (point.live_bytes < point.most_bytes) return;
    point.most_bytes = point.live_bytes;
    point.most_blocks = point.live_blocks;
  }
  void OnRelease(const LiveBlock& block, uint64_t tsc, bool) override {
    Point& point = Count(block, -1);
    point.lifetime_us += blocks_ * std::max(Us(tsc), Us(block.tsc));
  }
  void OnMark(uint32_t, uint64_t, const std::string&) override {}

 private:
  double Us(uint64_t tsc) const {
    return static_cast<double>(ElapsedNs(model_.first_ns(), reader_.TimeNs(tsc))) / 1000;
  }
  Point& Count(const LiveBlock& block, double sign) {
    double bytes = static_cast<double>(block.size);
    blocks_ = 1;
    if (model_.sampled()) {
      const SampleWeight weight = WeightOfSample(block.size, model_.sample_bytes());
      bytes = weight.bytes, blocks_ = weight.blocks;
    }
    Point& point = points_[point_of_stack_[block.stack]];
    point.live_bytes += sign * bytes;
    point.live_blocks += sign * blocks_;
    return point;
  }

  TraceReader& reader_;
  const HeapModel& model_;
  const std::vector<uint32_t>& point_of_stack_;
  std::vector<Point>& points_;
  double blocks_ = 0;  // that the last block stands for
};

std::string Field(const char* name, uint64_t value) {
  return std::string(",\"") + name + "\":" + std::to_string(value);
}

}  // namespace

void ExportDhat(const ExportSource& source, const WriteText& write) {
  const HeapModel& model = source.model();
  FrameNames& names = source.names();
  source.PrefetchNames();
  // The viewer wants every list of frames once; stacks that differ in addresses only are one.
  std::map<std::vector<uint32_t>, uint32_t> point_of_frames;
  std::vector<uint32_t> point_of_stack;
  std::vector<Point> points;
  for (const StackUse& use : model.stacks()) {
    const auto [found, added] =
        point_of_frames.try_emplace(names.StackOf(use.node), static_cast<uint32_t>(points.size()));
    if (added) points.emplace_back();
    point_of_stack.push_back(found->second);
    Point& point = points[found->second];
    point.allocated += use.tally.Allocated();
    point.peak += use.tally.Peak(model.epoch());
    point.live += use.tally.Live();
  }
  Lives lives(source, point_of_stack, &points);
  HeapModel::Build(*source.trace.reader, &lives);
  const auto us = [&](int64_t ns) { return static_cast<uint64_t>(ElapsedNs(model.first_ns(), ns)) / 1000; };
  write(
      "{\"dhatFileVersion\":2,\"mode\":\"heap\",\"verb\":\"Allocated\",\"bklt\":true,\"bkacc\":false,"
      "\"tu\":\"us\",\"Mtu\":\"s\",\"tuth\":" +
      std::to_string(kShortLivedUs) + ",\n\"cmd\":" + JsonName(source.Command()) +
      Field("pid", source.trace.facts.pid) + Field("te", us(model.last_ns())) + Field("tg", us(model.peak_ns())) +
      ",\n\"pps\":[");
  bool first = true;
  for (const auto& [frames, index] : point_of_frames) {
    const Point& point = points[index];
    // Blocks that are alive at the end have lived until then.
    const double lifetime = point.lifetime_us + point.live_blocks * static_cast<double>(us(model.last_ns()));
    // Its own maximum is at least what it had when all had most: estimates are rounded one by one.
    const uint64_t most = std::max(Saturated(point.most_bytes), point.peak.bytes.Rounded());
    std::string row = std::string(first ? "\n" : ",\n") + "{\"tb\":" + std::to_string(point.allocated.bytes.Rounded()) +
                      Field("tbk", point.allocated.blocks.Rounded()) + Field("tl", Saturated(lifetime)) +
                      Field("mb", most) + Field("mbk", Saturated(point.most_blocks)) +
                      Field("gb", point.peak.bytes.Rounded()) + Field("gbk", point.peak.blocks.Rounded()) +
                      Field("eb", point.live.bytes.Rounded()) + Field("ebk", point.live.blocks.Rounded());
    // Frame 0 is the root of the viewer's tree.
    write(row + ",\"fs\":" + JsonList(frames, [](uint32_t frame) { return std::to_string(frame + 1); }) + '}');
    first = false;
  }
  write("\n],\n\"ftbl\":[\"[root]\"");
  for (uint32_t i = 0; i < names.frame_count(); ++i) {
    const NamedFrame& frame = names.frame(i);
    const NamedFunction& function = names.function(frame.function);
    std::string text = "0x0: " + function.name;
    if (!frame.file.empty()) {
      text += " (" + source.paths.Of(frame.file) + ':' + std::to_string(frame.line) + ')';
    } else if (!function.module.empty()) {
      text += " (in " + function.module + ')';
    }
    write(",\n" + JsonName(text));
  }
  write("\n]}\n");
}

}  // namespace tidemark
