// What the page is given: cells that add up to the model's own numbers, a tree whose cut loses nothing, and data that
// holds together for any trace. What the browser makes of it is tests/page.
#include "tools/page_data.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/unit/fake_trace_reader.h"
#include "tests/unit/sample_traces.h"
#include "tools/model_json.h"

namespace tidemark {
namespace {

// Stacks of depth 1 to 6 over a few addresses, blocks that live long or short, realloc, two threads, a mark.
void Fill(FakeTraceReader* reader, uint64_t seed, int events) {
  sample::Random random(seed);
  std::vector<uint32_t> nodes{0};
  for (int i = 0; i < 60; ++i) {
    nodes.push_back(reader->Node(nodes[random.Below(nodes.size())], 0x1000 + 16 * random.Below(12)));
  }
  std::vector<uint64_t> live;
  uint64_t next = 0x100000;
  for (int i = 0; i < events; ++i) {
    const auto serial = static_cast<uint32_t>(1 + random.Below(2));
    if (live.empty() || random.Below(5) < 3) {
      reader->Alloc(next += 0x1000, 1 + random.Below(900), nodes[1 + random.Below(60)], serial);
      live.push_back(next);
    } else {
      const size_t at = random.Below(live.size());
      if (random.Below(4) == 0) {
        reader->Realloc(live[at], next += 0x1000, 1 + random.Below(2000), nodes[1 + random.Below(60)], serial);
        live[at] = next;
      } else {
        reader->Free(live[at], serial);
        live.erase(live.begin() + static_cast<ptrdiff_t>(at));
      }
    }
  }
  reader->Add(RecordKind::kMark).text = "<b>half\x1b[31m";
}

struct Sums {
  uint64_t allocated = 0, live = 0, peak = 0, temporary = 0;
};

Sums SumsOf(const ActivityCells& cells, uint32_t row, uint32_t peak_slice) {
  Sums sums;
  for (const ActivityCell& cell : cells.all()) {
    if (cell.row != row) continue;
    sums.allocated += cell.allocated_bytes;
    sums.live += cell.allocated_bytes - cell.released_bytes;
    if (cell.slice < peak_slice) sums.peak += cell.allocated_bytes - cell.released_bytes;
    sums.temporary += cell.temporary_blocks;
  }
  return sums;
}

void ExpectSameAsModel(const Activity& activity, const HeapModel& model) {
  const auto expect = [&](const ActivityCells& cells, uint32_t row, const Tally& tally) {
    const Sums sums = SumsOf(cells, row, activity.peak_slice());
    EXPECT_EQ(sums.allocated, tally.Allocated().bytes.seen);
    EXPECT_EQ(sums.live, tally.Live().bytes.seen);
    EXPECT_EQ(sums.peak, tally.Peak(model.epoch()).bytes.seen);
    EXPECT_EQ(sums.temporary, tally.Temporary().blocks.seen);
  };
  for (uint32_t i = 0; i < model.stacks().size(); ++i) expect(activity.stacks(), i, model.stacks()[i].tally);
  for (uint32_t i = 0; i < model.threads().size(); ++i) expect(activity.threads(), i, model.threads()[i].tally);
  if (model.sampled()) return;
  for (uint32_t i = 0; i < kSizeBucketCount; ++i) expect(activity.sizes(), i, model.size_buckets()[i]);
}

TEST(Activity, CellsAddUpToTheModelHoweverCoarseTheSlices) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const Mode mode : {Mode::kFull, Mode::kSampled}) {
      SCOPED_TRACE(seed);
      FakeTraceReader reader;
      reader.mode_ = mode;
      reader.sample_bytes_ = mode == Mode::kSampled ? 500 : 0;
      Fill(&reader, seed, 3000);
      const HeapModel model = HeapModel::Build(reader);
      Activity activity = Activity::Build(reader, model);
      ASSERT_EQ(activity.bounds_ns().size(), Activity::kMostSlices + 2);
      ExpectSameAsModel(activity, model);
      int halvings = 0;
      while (activity.Coarsen()) {
        ++halvings;
        ExpectSameAsModel(activity, model);
        EXPECT_EQ(activity.bounds_ns().front(), model.first_ns());
        EXPECT_EQ(activity.bounds_ns().back(), model.last_ns());
        EXPECT_EQ(activity.bounds_ns()[activity.peak_slice()], model.peak_ns());
      }
      EXPECT_EQ(halvings, 8);
      EXPECT_EQ(activity.bounds_ns().size(), 3u);  // before the peak and after it
      EXPECT_NEAR(activity.points().back().live, model.total().Live().bytes.value(), 1e-3);
      ASSERT_EQ(activity.marks().size(), 1u);
    }
  }
}

TEST(Activity, AnEmptyTraceHasSlicesAndNothingInThem) {
  FakeTraceReader reader;
  const HeapModel model = HeapModel::Build(reader);
  const Activity activity = Activity::Build(reader, model);
  EXPECT_TRUE(activity.stacks().all().empty());
  EXPECT_LE(activity.peak_slice(), activity.bounds_ns().size() - 1);
}

TEST(PageTree, ACutJoinsWhatIsSmallAndLosesNoStack) {
  FakeTraceReader reader;
  Fill(&reader, 7, 3000);
  const HeapModel model = HeapModel::Build(reader);
  FrameNames names(reader, nullptr, false);
  const PageTree whole = PageTree::Build(model, names, 1 << 20);
  EXPECT_EQ(whole.joined_nodes, 0u);
  EXPECT_EQ(whole.all_nodes, whole.nodes.size() - 1);
  for (const uint32_t most : {90u, 30u, 3u, 1u}) {
    SCOPED_TRACE(most);
    const PageTree tree = PageTree::Build(model, names, most);
    EXPECT_EQ(tree.all_nodes, whole.all_nodes);
    ASSERT_EQ(tree.node_of_stack.size(), model.stacks().size());
    uint64_t joined = 0, own = 0;
    for (size_t i = 1; i < tree.nodes.size(); ++i) {
      ASSERT_LT(tree.nodes[i].parent, i);
      const bool below_joined = tree.nodes[tree.nodes[i].parent].function == PageTree::kJoined;
      joined += tree.nodes[i].joined;
      own += tree.nodes[i].function != PageTree::kJoined && !below_joined ? 1 : 0;
    }
    EXPECT_EQ(joined, tree.joined_nodes);
    EXPECT_EQ(own + joined, whole.all_nodes);
    if (most < whole.nodes.size()) {
      EXPECT_LE(own, std::max(most / 3, 1u));
    }
    for (size_t stack = 0; stack < model.stacks().size(); ++stack) {
      // Whatever is joined, the function that asked is told.
      const uint32_t frame = names.StackOf(model.stacks()[stack].node).front();
      EXPECT_EQ(tree.nodes[tree.node_of_stack[stack]].function, names.frame(frame).function);
    }
  }
}

TEST(PageData, ColumnsAreAsLongAsTheHeadSaysAndNamesArePrintable) {
  FakeTraceReader reader;
  Fill(&reader, 9, 500);
  const HeapModel model = HeapModel::Build(reader);
  FrameNames names(reader, nullptr, false);
  const PageTree tree = PageTree::Build(model, names, 1000);
  const std::string data =
      PageData(reader, model, names, FactsOf(reader, model), {}, tree, Activity::Build(reader, model));
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(data[i])); };
  const uint32_t head_bytes = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
  const Json head = Json::parse(data.substr(4, head_bytes));
  size_t sum = 4 + head_bytes;
  std::set<std::string> seen;
  for (const Json& column : head["columns"]) {
    sum += column[1].get<size_t>();
    EXPECT_TRUE(seen.insert(column[0]).second) << column[0];
  }
  EXPECT_EQ(sum, data.size());
  EXPECT_EQ(head["totals"]["allocated"]["bytes"], model.total().Allocated().bytes.seen);
  EXPECT_EQ(head["marks"][0][1], "<b>half?[31m");
  EXPECT_EQ(head["metrics"], Json::array({"allocated", "live", "peak", "count", "temporary"}));
}

}  // namespace
}  // namespace tidemark
