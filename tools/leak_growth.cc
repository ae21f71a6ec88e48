// See leak_growth.h.
#include "tools/leak_growth.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "tools/model/heap_history.h"

namespace tidemark {
namespace {

// Bytes that the last leak check found lost, by stack.
std::unordered_map<uint32_t, double> LostByNode(TraceReader& reader) {
  std::unordered_map<uint32_t, double> lost;
  const TraceLeaks* last = nullptr;
  for (const TraceLeaks& leaks : reader.leak_checks()) {
    if (leaks.whole && leaks.check.outcome == LeakOutcome::kDone) last = &leaks;
  }
  if (last == nullptr) return lost;
  // Samples' stacks are in the events of their allocations only.
  std::unordered_map<uint64_t, uint32_t> node_of;
  for (const TraceLeakRow& row : last->rows) {
    if (row.node == 0 && row.address != 0) node_of[row.address] = 0;
  }
  if (!node_of.empty()) {
    reader.ForEachEvent([&](uint32_t, const TraceEvent& event) {
      if ((event.kind != RecordKind::kAlloc && event.kind != RecordKind::kRealloc) || event.tsc > last->check.tsc)
        return;
      if (const auto found = node_of.find(event.address); found != node_of.end()) found->second = event.node;
    });
  }
  for (const TraceLeakRow& row : last->rows) {
    const auto leak_class = static_cast<LeakClass>(row.leak_class);
    const bool is_lost = leak_class == LeakClass::kDefinitelyLost || leak_class == LeakClass::kIndirectlyLost;
    if (!is_lost || (row.flags & kLeakInherited) != 0) continue;
    const auto found = node_of.find(row.address);
    const uint32_t node = row.node == 0 && found != node_of.end() ? found->second : row.node;
    if (node != 0) lost[node] += static_cast<double>(row.bytes);
  }
  return lost;
}

GrowthSeries SeriesOf(const std::vector<SeriesPoint>& points, const std::vector<SeriesValue>& values) {
  GrowthSeries series;
  const size_t count = std::min(points.size(), values.size());
  for (size_t i = 0; i < count; ++i) {
    series.clock.push_back(static_cast<double>(points[i].clock));
    series.live.push_back(values[i].live_bytes);
  }
  if (count < 3) return series;
  const SeriesValue &then = values[count - 1 - count / 3], &now = values[count - 1];
  series.allocated_late = now.allocated_bytes - then.allocated_bytes;
  series.released_late = series.allocated_late - (now.live_bytes - then.live_bytes);
  return series;
}

}  // namespace

std::vector<LeakGrowth> FindGrowth(LoadedTrace& trace, uint32_t process, size_t most) {
  HeapHistory history(*trace.reader);
  const HeapModel model = HeapModel::Build(*trace.reader, &history);
  const std::unordered_map<uint32_t, double> lost = LostByNode(*trace.reader);
  struct Row {
    uint32_t node;
    LeakGrowth growth;
  };
  std::vector<Row> rows;
  for (uint32_t i = 0; i < model.stacks().size(); ++i) {
    const StackUse& stack = model.stacks()[i];
    GrowthSeries series = SeriesOf(history.series().points(), history.SeriesOf(i));
    series.sampled = model.sampled();
    series.samples = stack.tally.Allocated().blocks.seen;
    if (const auto found = lost.find(stack.node); found != lost.end()) series.lost_bytes = found->second;
    Row row{stack.node, {process, {}, JudgeGrowth(series), stack.tally.Live().bytes.value()}};
    const Growth growth = row.growth.verdict.growth;
    if (growth == Growth::kSteady || growth == Growth::kUndecided) continue;
    rows.push_back(std::move(row));
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::tuple(a.growth.verdict.growth, -a.growth.live_bytes, a.node) <
           std::tuple(b.growth.verdict.growth, -b.growth.live_bytes, b.node);
  });
  if (rows.size() > most) rows.resize(most);
  std::vector<LeakGrowth> found;
  for (Row& row : rows) {
    if (row.node != 0) row.growth.stack = LeakStackOf(trace, row.node);
    found.push_back(std::move(row.growth));
  }
  return found;
}

}  // namespace tidemark
