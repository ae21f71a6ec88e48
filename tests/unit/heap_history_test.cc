// How the heap lived: equal to a slow and obvious recount on random histories, whole and in windows of time; the laws
// that have to hold (A - F = L, Little's); and intervals that cover the truth when only samples are seen.
#include "tools/model/heap_history.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "tests/unit/fake_trace_reader.h"
#include "tools/model/rounding.h"

namespace tidemark {
namespace {

// A block as the recount knows it. Ages: clock before the event that released it, minus clock after its own birth.
struct Life {
  uint64_t address = 0, size = 0, born_clock = 0, born_ns = 0, dead_clock = 0, dead_ns = 0;
  uint32_t node = 0, thread = 0, released_by = 0;
  bool dead = false, by_realloc = false;
};

struct Allocation {
  uint64_t clock_before = 0, clock_after = 0, ns = 0;
  std::map<uint32_t, uint64_t> live_before, allocated_before;  // by node
  uint64_t total_before = 0;
};

// A random history, and everything about it.
struct History {
  FakeTraceReader reader;
  std::vector<Life> lives;
  std::vector<Allocation> allocations;
  uint64_t clock = 0, copied = 0;
  std::map<uint64_t, uint64_t> chain_of;  // address -> steps
  std::vector<uint64_t> ended_chains;

  History(uint32_t seed, int events) {
    std::mt19937 random(seed);
    std::vector<uint32_t> nodes = {0};
    for (uint32_t i = 1; i < 8; ++i) nodes.push_back(reader.Node(0, 0x1000u * i));
    std::map<uint64_t, size_t> live;  // address -> index in lives
    std::map<uint32_t, uint64_t> live_of, allocated_of;
    uint64_t total = 0;
    auto die = [&](uint64_t address, uint32_t serial, bool by_realloc, uint64_t ns) {
      Life& life = lives[live[address]];
      life.dead = true;
      life.dead_clock = clock;
      life.dead_ns = ns;
      life.released_by = serial;
      life.by_realloc = by_realloc;
      total -= life.size;
      live_of[life.node] -= life.size;
      live.erase(address);
      if (!by_realloc && chain_of.count(address) != 0) {
        ended_chains.push_back(chain_of[address]);
        chain_of.erase(address);
      }
    };
    auto be_born = [&](uint64_t address, uint64_t size, uint32_t node, uint32_t serial, uint64_t ns) {
      allocations.push_back({clock, clock + size, ns, live_of, allocated_of, total});
      clock += size;
      live[address] = lives.size();
      Life life;
      life.address = address, life.size = size, life.born_clock = clock, life.born_ns = ns;
      life.node = node, life.thread = serial;
      lives.push_back(life);
      total += size;
      live_of[node] += size;
      allocated_of[node] += size;
    };
    // Small blocks share pages, large ones lie apart: blocks do not overlap.
    auto free_address = [&](uint64_t size) {
      uint64_t address = 0;
      do address = size <= 512 ? 0x100000 + 512 * (random() % 3000) : 0x1000000 + 32768 * (random() % 3000) + 256;
      while (live.count(address) != 0);
      return address;
    };
    for (int i = 0; i < events; ++i) {
      const uint32_t serial = 1 + random() % 3, node = nodes[random() % nodes.size()];
      const uint64_t size = random() % 20 == 0 ? 1 + random() % 30000 : 1 + random() % 500;
      const uint32_t what = random() % 100;
      if (what < 45 && live.size() < 800) {
        const uint64_t address = free_address(size);
        be_born(address, size, node, serial, reader.Alloc(address, size, node, serial).tsc);
      } else if (what < 60 && !live.empty()) {
        const uint64_t old = std::next(live.begin(), static_cast<long>(random() % live.size()))->first;
        const bool fits = (old < 0x1000000) == (size <= 512);
        const uint64_t address = fits && random() % 2 ? old : free_address(size);
        const uint64_t ns = reader.Realloc(old, address, size, node, serial).tsc;
        const uint64_t steps = chain_of.count(old) != 0 ? chain_of[old] + 1 : 1;
        if (old != address) copied += std::min(lives[live[old]].size, size);
        chain_of.erase(old);
        die(old, serial, true, ns);
        be_born(address, size, node, serial, ns);
        chain_of[address] = steps;
      } else if (!live.empty()) {
        const uint64_t address = std::next(live.begin(), static_cast<long>(random() % live.size()))->first;
        die(address, serial, false, reader.Free(address, serial).tsc);
      }
    }
    reader.end_ = {{"end_tsc", end_ns()}};
  }
  uint64_t end_ns() const { return reader.events_.back().second.tsc; }
  uint64_t ClockAt(uint64_t ns) const {
    uint64_t at = 0;
    for (const Allocation& it : allocations) {
      if (it.ns < ns) at = it.clock_after;
    }
    return at;
  }
};

// Kaplan and Meier by the book: every death a step, everybody counted anew. Ages on the allocation clock, in bytes.
double SlowDiedBefore(const History& history, uint64_t from_ns, uint64_t to_ns, uint64_t age_limit) {
  struct Seen {
    uint64_t entered, left;
    bool died;
    double weight;
  };
  std::vector<Seen> all;
  const uint64_t begin = history.ClockAt(from_ns), end = history.ClockAt(to_ns);
  std::set<uint64_t> death_ages;
  for (const Life& life : history.lives) {
    if (life.born_ns >= to_ns || (life.dead && life.dead_ns < from_ns)) continue;
    const bool died = life.dead && life.dead_ns < to_ns;
    Seen seen;
    seen.entered = life.born_ns < from_ns ? begin - life.born_clock : 0;
    seen.left = (died ? life.dead_clock : end) - life.born_clock;
    seen.died = died;
    seen.weight = static_cast<double>(life.size);
    all.push_back(seen);
    if (died && seen.left < age_limit) death_ages.insert(seen.left);
  }
  double survival = 1;
  for (const uint64_t age : death_ages) {
    double dead = 0, at_risk = 0;
    for (const Seen& seen : all) {
      if (seen.entered <= age && seen.left >= age) at_risk += seen.weight;
      if (seen.died && seen.left == age) dead += seen.weight;
    }
    survival *= 1 - dead / at_risk;
  }
  return 1 - survival;
}

void ExpectSameAsRecount(History& history, uint64_t from_ns, uint64_t to_ns, const TimeWindow& window) {
  HeapHistory heap(history.reader);
  const HeapModel model = HeapModel::Build(history.reader, &heap, window);
  double allocated = 0, released = 0, by_realloc = 0, cross = 0, cross_blocks = 0, live_end = 0, live_begin = 0;
  double live_ticks = 0, live_clock = 0;
  const uint64_t begin_clock = history.ClockAt(from_ns), end_clock = history.ClockAt(to_ns);
  const uint64_t first_ns = std::max(from_ns, history.reader.events_.front().second.tsc);
  const uint64_t last_ns = std::min(to_ns, history.end_ns());
  std::map<uint32_t, uint64_t> old_live, oldest;
  std::set<uint64_t> pages;
  for (const Life& life : history.lives) {
    const auto size = static_cast<double>(life.size);
    const bool born_inside = life.born_ns >= from_ns && life.born_ns < to_ns;
    const bool died_inside = life.dead && life.dead_ns >= from_ns && life.dead_ns < to_ns;
    if (life.born_ns >= to_ns || (life.dead && life.dead_ns < from_ns)) continue;
    if (born_inside) allocated += size;
    if (!born_inside) live_begin += size;
    if (died_inside) {
      released += size;
      if (life.by_realloc) by_realloc += size;
      if (life.thread != life.released_by) cross += size, ++cross_blocks;
    } else {
      live_end += size;
      for (uint64_t at = life.address / 4096; at <= (life.address + life.size - 1) / 4096; ++at) pages.insert(at);
      oldest[life.node] = std::max(oldest[life.node], end_clock - life.born_clock);
      if (end_clock - life.born_clock >= (end_clock - begin_clock) / 2) old_live[life.node] += life.size;
    }
    live_ticks += size * static_cast<double>((died_inside ? life.dead_ns : last_ns) - std::max(life.born_ns, first_ns));
    live_clock += size * static_cast<double>((died_inside ? life.dead_clock : end_clock) -
                                             std::max(life.born_clock, begin_clock));
  }
  EXPECT_EQ(heap.allocated().bytes, allocated);
  EXPECT_EQ(heap.released().bytes, released);
  EXPECT_EQ(heap.released_by_realloc().bytes, by_realloc);
  EXPECT_EQ(heap.cross_thread().bytes, cross);
  EXPECT_EQ(heap.cross_thread().blocks, cross_blocks);
  EXPECT_EQ(heap.live_at_begin(), live_begin);
  EXPECT_EQ(heap.window_clock(), end_clock - begin_clock);
  EXPECT_EQ(heap.used_pages_at_end(), pages.size() * PageOccupancy::kPageBytes);
  // A - F = L, and the model says the same.
  EXPECT_EQ(heap.allocated().bytes - heap.released().bytes, live_end - live_begin);
  EXPECT_EQ(static_cast<double>(model.total().Live().bytes.seen), live_end);
  EXPECT_EQ(static_cast<double>(model.total().Allocated().bytes.seen), allocated);
  // Little's law on both clocks. Births are stored in steps of 2^16 ticks.
  EXPECT_DOUBLE_EQ(heap.live_byte_bytes(), live_clock);
  EXPECT_DOUBLE_EQ(heap.residence_byte_bytes(), live_clock);
  EXPECT_NEAR(heap.live_byte_ticks(), live_ticks, 1e-9 * live_ticks);
  EXPECT_NEAR(heap.residence_byte_ticks(), live_ticks, (allocated + live_begin) * 65536 * 2);
  double hand_overs = 0, fates = 0, crossed_fates = 0;
  for (const HandOver& it : heap.hand_overs()) hand_overs += it.amount.bytes;
  EXPECT_EQ(hand_overs, cross);
  for (size_t i = 0; i < heap.fates().size(); ++i) {
    const StackFate& fate = heap.fates()[i];
    const uint32_t node = model.stacks()[i].node;
    double by_age = 0;
    for (const double bytes : fate.died_by_age) by_age += bytes;
    EXPECT_EQ(by_age, fate.died.bytes);
    EXPECT_EQ(fate.old_live.bytes, static_cast<double>(old_live[node]));
    EXPECT_EQ(fate.oldest_clock, oldest[node]);
    fates += fate.died.bytes;
    crossed_fates += fate.cross_thread.bytes;
  }
  EXPECT_EQ(fates, released);
  EXPECT_EQ(crossed_fates, cross);
  double slots_allocated = 0, slots_released = 0, highest = 0;
  for (const TimelineSlot& slot : heap.timeline().slots()) {
    slots_allocated += slot.allocated_bytes;
    slots_released += slot.released_bytes;
    highest = std::max(highest, slot.live_max);
  }
  EXPECT_LE(heap.timeline().slots().size(), Timeline::kMostSlots);
  EXPECT_EQ(slots_allocated, allocated);
  EXPECT_EQ(slots_released, released);
  EXPECT_EQ(highest, static_cast<double>(model.total().Peak(model.epoch()).bytes.seen));
  EXPECT_EQ(heap.timeline().slots().back().live_end, live_end);
  for (const uint64_t age : {1u << 10, 1u << 14, 1u << 16, 1u << 18, 1u << 20, 100000u}) {
    // A single large block is a step of a percent: within a bucket it may be on either side.
    const double tolerance = (age & (age - 1)) == 0 ? 0.004 : 0.02;
    EXPECT_NEAR(heap.survival_by_clock(Unit::kBytes).DiedBefore(age), SlowDiedBefore(history, from_ns, to_ns, age),
                tolerance)
        << age;
  }
  // Every stack at every point.
  const std::vector<SeriesPoint>& points = heap.series().points();
  ASSERT_GE(points.size(), LiveSeries::kMostPoints / 2);
  for (uint32_t i = 0; i < model.stacks().size(); ++i) {
    const std::vector<SeriesValue> values = heap.SeriesOf(i);
    ASSERT_EQ(values.size(), points.size());
    for (size_t at = 0; at < points.size(); ++at) {
      EXPECT_EQ(points[at].clock % points[0].clock, 0u);
      // The first allocation that takes the clock to the point or beyond: what was before it.
      for (const Allocation& it : history.allocations) {
        if (it.clock_after < points[at].clock + begin_clock || it.ns < from_ns) continue;
        const uint32_t node = model.stacks()[i].node;
        auto value = [node](const std::map<uint32_t, uint64_t>& of) {
          return of.count(node) != 0 ? static_cast<double>(of.at(node)) : 0.0;
        };
        EXPECT_EQ(values[at].live_bytes, value(it.live_before));
        if (from_ns == 0) {
          EXPECT_EQ(values[at].allocated_bytes, value(it.allocated_before));
        }
        EXPECT_EQ(points[at].live_bytes, static_cast<double>(it.total_before));
        break;
      }
    }
  }
}

TEST(HeapHistory, AgreesWithASlowRecount) {
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    History history(seed, 4000);
    ExpectSameAsRecount(history, 0, UINT64_MAX, {});
  }
}

TEST(HeapHistory, AgreesInWindowsOfTime) {
  for (uint32_t seed = 11; seed <= 14; ++seed) {
    SCOPED_TRACE(seed);
    History history(seed, 6000);
    const int64_t third = static_cast<int64_t>(history.end_ns()) / 3;
    const auto u = [](int64_t ns) { return static_cast<uint64_t>(ns); };
    ExpectSameAsRecount(history, u(third), UINT64_MAX, {third, std::nullopt});
    ExpectSameAsRecount(history, 0, u(2 * third), {std::nullopt, 2 * third});
    ExpectSameAsRecount(history, u(third), u(2 * third), {third, 2 * third});
  }
}

TEST(HeapHistory, WindowsInWhichNothingHappens) {
  History history(5, 2000);
  const auto end = static_cast<int64_t>(history.end_ns());
  for (const TimeWindow& window : {TimeWindow{end + 1000, std::nullopt}, TimeWindow{std::nullopt, 0}}) {
    HeapHistory heap(history.reader);
    const HeapModel model = HeapModel::Build(history.reader, &heap, window);
    EXPECT_EQ(heap.allocated().bytes, 0);
    EXPECT_EQ(model.total().Allocated().bytes.seen, 0u);
    EXPECT_EQ(model.events().all(), 0u);
    EXPECT_EQ(model.total().Peak(model.epoch()).bytes.seen, model.total().Live().bytes.seen);
  }
}

TEST(HeapHistory, ReallocChains) {
  History history(3, 5000);
  HeapHistory heap(history.reader);
  HeapModel::Build(history.reader, &heap);
  for (const auto& [address, steps] : history.chain_of) history.ended_chains.push_back(steps);
  uint64_t steps = 0, longest = 0, counted = 0;
  for (const uint64_t chain : history.ended_chains) steps += chain, longest = std::max(longest, chain);
  for (const uint64_t chains : heap.chains().by_log2_length) counted += chains;
  EXPECT_GT(longest, 2u);
  EXPECT_EQ(heap.chains().chains, history.ended_chains.size());
  EXPECT_EQ(heap.chains().steps, steps);
  EXPECT_EQ(heap.chains().longest, longest);
  EXPECT_EQ(heap.chains().copied_bytes, history.copied);
  EXPECT_EQ(counted, heap.chains().chains);
  EXPECT_TRUE(heap.knows_chains());
}

TEST(HeapHistory, MemorySamplesSeeTheHeapOfTheirMoment) {
  FakeTraceReader reader;
  for (const uint64_t ns : {500000u, 1500000u, 3500000u, 99000000u}) {
    TraceMemory sample;
    sample.monotonic_ns = ns;
    reader.memory_.push_back(sample);
  }
  reader.Alloc(0x10000, 100);    // at 1 ms
  reader.Alloc(0x20000, 10000);  // 2 ms
  reader.Free(0x10000);          // 3 ms
  reader.Alloc(0x30000, 1);      // 4 ms
  reader.end_ = {{"end_tsc", uint64_t{99500000}}};
  HeapHistory heap(reader);
  HeapModel::Build(reader, &heap);
  const std::vector<HeapInstant>& at = heap.instants();
  ASSERT_EQ(at.size(), 4u);
  EXPECT_TRUE(at[0].known);  // before the first event: nothing yet
  EXPECT_EQ(at[0].live_bytes, 0);
  EXPECT_EQ(at[1].live_bytes, 100);
  EXPECT_EQ(at[1].usable_bytes, 112);
  EXPECT_EQ(at[1].used_page_bytes, 4096u);
  EXPECT_EQ(at[2].live_bytes, 10000);
  EXPECT_EQ(at[2].used_page_bytes, 3 * 4096u);
  EXPECT_EQ(at[3].live_bytes, 10001);
}

TEST(HeapHistory, SparsePagesAndWhoIsOnThem) {
  FakeTraceReader reader;
  const uint32_t full = reader.Node(0, 0x1000), lonely = reader.Node(0, 0x2000);
  reader.Alloc(0x10000, 4096, full);
  reader.Alloc(0x20000, 3 * 4096, full);
  reader.Alloc(0x30000, 96, lonely);
  reader.Alloc(0x30100, 4, full);
  HeapHistory heap(reader);
  const HeapModel model = HeapModel::Build(reader, &heap);
  const SparsePages& sparse = heap.sparse_pages();
  EXPECT_EQ(sparse.pages, 5u);
  EXPECT_EQ(sparse.sparse_pages, 1u);
  EXPECT_EQ(sparse.by_quarter[0], 1u);
  EXPECT_EQ(sparse.by_quarter[3], 4u);
  for (size_t i = 0; i < model.stacks().size(); ++i) {
    EXPECT_DOUBLE_EQ(sparse.pinned_bytes[i], 3996.0 * (model.stacks()[i].node == lonely ? 0.96 : 0.04));
  }
}

TEST(HeapHistory, AddressesFarApartCostNoMemory) {
  FakeTraceReader reader;
  for (uint64_t i = 1; i < 400000; ++i) reader.Alloc(i << 21, uint64_t{1} << 40);
  HeapHistory heap(reader);
  HeapModel::Build(reader, &heap);
  EXPECT_FALSE(heap.knows_pages());
}

TEST(AgeHistogram, BucketsHoldPowersOfTwo) {
  for (uint32_t bucket = 0; bucket < kAgeBuckets; ++bucket) EXPECT_EQ(AgeBucketOf(AgeBucketLow(bucket)), bucket);
  for (uint32_t bit = 0; bit < 64; ++bit) EXPECT_EQ(AgeBucketLow(AgeBucketOf(uint64_t{1} << bit)), uint64_t{1} << bit);
  EXPECT_EQ(AgeBucketOf(UINT64_MAX), kAgeBuckets - 1);
}

TEST(AgeHistogram, QuantilesOfFixedLives) {
  AgeHistogram ages;
  for (int i = 0; i < 100; ++i) ages.Enter(0, 10, nullptr);
  for (int i = 0; i < 50; ++i) ages.Die(1000, 10, nullptr);
  for (int i = 0; i < 50; ++i) ages.Censor(1 << 20, 10, nullptr);
  const SurvivalCurve curve = ages.Survival(Unit::kBlocks);
  EXPECT_DOUBLE_EQ(curve.DiedBefore(512), 0);
  EXPECT_DOUBLE_EQ(curve.DiedBefore(2048), 0.5);
  EXPECT_NEAR(static_cast<double>(curve.Quantile(0.5)), 1000, 64);
  EXPECT_EQ(curve.Quantile(0.9), UINT64_MAX);
  EXPECT_EQ(curve.DiedBefore95(2048).low, curve.DiedBefore95(2048).high);  // complete: nothing left to chance
}

// Half of the blocks die young, sizes are mixed: how often is the true share within the interval?
TEST(AgeHistogram, IntervalsOfSamplesCoverTheTruth) {
  std::mt19937_64 random(17);
  constexpr uint64_t kSampleBytes = 65536;
  constexpr int kTrials = 400, kBlocks = 20000;
  int covered_bytes = 0, covered_blocks = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    AgeHistogram ages;
    double dead_bytes = 0, all_bytes = 0, dead_blocks = 0;
    for (int i = 0; i < kBlocks; ++i) {
      const uint64_t size = uint64_t{16} << (random() % 11);
      const bool young = random() % 10 < (size > 1000 ? 7u : 4u);
      all_bytes += static_cast<double>(size);
      if (young) dead_bytes += static_cast<double>(size), ++dead_blocks;
      const SampleWeight weight = WeightOfSample(size, kSampleBytes);
      if (std::generate_canonical<double, 53>(random) * weight.blocks > 1) continue;
      ages.Enter(0, size, &weight);
      if (young) {
        ages.Die(1000, size, &weight);
      } else {
        ages.Censor(1 << 20, size, &weight);
      }
    }
    const Interval bytes = ages.Survival(Unit::kBytes).DiedBefore95(4096);
    const Interval blocks = ages.Survival(Unit::kBlocks).DiedBefore95(4096);
    covered_bytes += bytes.low <= dead_bytes / all_bytes && dead_bytes / all_bytes <= bytes.high;
    covered_blocks += blocks.low <= dead_blocks / kBlocks && dead_blocks / kBlocks <= blocks.high;
  }
  RecordProperty("bytes_covered_of_400", covered_bytes);
  RecordProperty("blocks_covered_of_400", covered_blocks);
  EXPECT_GE(covered_bytes, kTrials * 92 / 100);
  EXPECT_GE(covered_blocks, kTrials * 80 / 100);
}

}  // namespace
}  // namespace tidemark
