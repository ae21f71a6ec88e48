// What is written is what is read: every kind of section and event, extreme values, limits, the merge, the checksum,
// and a writer whose disk is full. Damage is trace_damage_test.cc's, fixed bytes are trace_golden_test.cc's.
#include "profiler/trace_format.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <map>

#include "profiler/columns.h"
#include "profiler/crc32c.h"
#include "profiler/event_encoder.h"
#include "tests/unit/sample_traces.h"
#include "tools/clock_map.h"
#include "tools/event_merge.h"

namespace tidemark {
namespace {

using namespace sample;

std::unique_ptr<TraceWriter> MakeWriter(const std::string& path) {
  std::string error;
  std::unique_ptr<TraceWriter> writer = TraceWriter::Create(path, &error);
  EXPECT_NE(writer, nullptr) << error;
  return writer;
}

std::unique_ptr<TraceReader> MustOpen(const std::string& path) {
  Result<std::unique_ptr<TraceReader>> reader = TraceReader::Open(path);
  if (!reader) {
    ADD_FAILURE() << reader.error().message;
    return nullptr;
  }
  return std::move(*reader);
}

std::vector<std::string> DumpEvents(const std::vector<TraceEvent>& events) {
  std::vector<std::string> dump;
  for (const TraceEvent& event : events) dump.push_back(Dump(event));
  return dump;
}

std::map<uint32_t, std::vector<std::string>> EventsByThread(TraceReader* reader) {
  std::map<uint32_t, std::vector<std::string>> events;
  reader->ForEachEvent([&events](uint32_t serial, const TraceEvent& event) { events[serial].push_back(Dump(event)); });
  return events;
}

void ExpectRoundTrip(const std::vector<TraceEvent>& events) {
  TemporaryPath path;
  {
    auto writer = MakeWriter(path.str());
    writer->WriteInfo(R"({"mode":"full"})");
    writer->AddClock({0, 0, 0});
    writer->AddClock({1, 1, 1});
    // Nodes are known as far as the events go, or the reader would take their stacks away.
    for (uint32_t node = 1; node < 64; node++) writer->AddStackNode({node, 0, 0, node});
    WriteEvents(writer.get(), 7, 0, 0, events);
    writer->Finish("{}");
    EXPECT_EQ(writer->error(), "");
    EXPECT_EQ(writer->lost_sections(), 0u);
  }
  auto reader = MustOpen(path.str());
  EXPECT_EQ(EventsByThread(reader.get())[7], DumpEvents(events));
  EXPECT_EQ(EventsByThread(reader.get())[7], DumpEvents(events)) << "a second pass differs";
  EXPECT_EQ(reader->problems(), std::vector<std::string>());
}

TEST(Columns, VarintsOfAllLengthsSurvive) {
  std::vector<uint64_t> values = {0, 1, 127, 128, kMax64, kMax64 - 1};
  for (int bit = 0; bit < 64; bit++) {
    for (uint64_t near : std::vector<uint64_t>{0, 1, kMax64}) values.push_back((uint64_t{1} << bit) + near);
  }
  ColumnBuilder column;
  column.Reserve(2 * values.size());
  for (uint64_t value : values) {
    column.Put(value);
    column.PutSigned(value);
  }
  ColumnCursor cursor(column.view());
  for (uint64_t value : values) {
    EXPECT_EQ(cursor.Get(), value);
    EXPECT_EQ(cursor.GetSigned(), value);
  }
  EXPECT_TRUE(cursor.ok() && cursor.AtEnd());
}

TEST(Columns, ZigZagKeepsSmallDifferencesShort) {
  EXPECT_EQ(ZigZag(0), 0u);
  EXPECT_EQ(ZigZag(kMax64), 1u);  // -1
  EXPECT_EQ(ZigZag(1), 2u);
  EXPECT_EQ(ZigZag(uint64_t{1} << 63), kMax64);
}

TEST(Columns, OverlongAndCutVarintsFail) {
  for (const std::string& bytes : {std::string(10, '\x80'), std::string(11, '\xff'), std::string("\x80"),
                                   std::string(9, '\xff') + '\x02', std::string()}) {
    ColumnCursor cursor{std::string_view(bytes)};
    EXPECT_EQ(cursor.Get(), 0u);
    EXPECT_FALSE(cursor.ok());
    EXPECT_EQ(cursor.Get(), 0u);
    EXPECT_EQ(cursor.GetByte(), 0u);
  }
}

TEST(Columns, TextLongerThanTheColumnFails) {
  ColumnBuilder column;
  column.Reserve(1);
  column.Put(kMax64);
  ColumnCursor cursor(column.view());
  EXPECT_EQ(cursor.GetText(), "");
  EXPECT_FALSE(cursor.ok());
}

TEST(Checksum, MatchesTheStandardAndTheTableMatchesTheInstruction) {
  EXPECT_EQ(Crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(Crc32cByTable("123456789", 9), 0xe3069283u);
  std::string bytes;
  Random random(1);
  for (int i = 0; i < 300; i++) {
    EXPECT_EQ(Crc32c(bytes.data(), bytes.size()), Crc32cByTable(bytes.data(), bytes.size())) << i;
    const size_t half = bytes.size() / 3;
    EXPECT_EQ(Crc32c(bytes.data() + half, bytes.size() - half, Crc32c(bytes.data(), half)),
              Crc32c(bytes.data(), bytes.size()));
    bytes += static_cast<char>(random.Next());
  }
}

TEST(SizeClass, FollowsTheBinsOfTheAllocatorAndStaysInRange) {
  EXPECT_EQ(SizeClassOf(0), 0u);
  EXPECT_EQ(SizeClassOf(1), SizeClassOf(16));
  EXPECT_NE(SizeClassOf(16), SizeClassOf(17));
  EXPECT_EQ(SizeClassOf(65), SizeClassOf(80));
  EXPECT_NE(SizeClassOf(80), SizeClassOf(81));
  EXPECT_EQ(SizeClassOf(129), SizeClassOf(160));
  uint32_t last = 0;
  for (int bit = 0; bit < 64; bit++) {
    const uint32_t size_class = SizeClassOf(uint64_t{1} << bit);
    EXPECT_GE(size_class, last);
    last = size_class;
  }
  EXPECT_LT(SizeClassOf(kMax64), kSizeClasses);
  for (uint64_t size = 1; size < 100'000; size++) {
    const uint64_t bytes = 16 * BlockUnits(SizeClassOf(size));
    EXPECT_GE(bytes, size);
    EXPECT_LT(bytes, size + size / 4 + 16) << size;
  }
}

TEST(RoundTrip, EveryKind) {
  TemporaryPath path;
  {
    auto writer = MakeWriter(path.str());
    WriteEveryKind(writer.get());
  }
  auto reader = MustOpen(path.str());
  EXPECT_EQ(reader->problems(), std::vector<std::string>());
  EXPECT_EQ(reader->mode(), Mode::kSampled);
  EXPECT_EQ(reader->sample_bytes(), 524288u);
  EXPECT_EQ(reader->info()["command"][0], "a program");
  EXPECT_EQ(reader->end()["exit"]["signal"], 9);
  ASSERT_EQ(reader->modules().size(), 2u);
  EXPECT_EQ(reader->modules()[0].build_id, "\x01\x02\xfe\xff");
  EXPECT_EQ(reader->modules()[1].load_bias, 0x7ffff7cd8000u);
  ASSERT_EQ(reader->threads().size(), 1u);
  EXPECT_EQ(reader->threads()[0].name, "renamed");
  ASSERT_EQ(reader->nodes().size(), 7u);
  EXPECT_EQ(reader->nodes()[5].flags, kNodeFramePointer | kNodeSignal);
  EXPECT_EQ(reader->nodes()[5].parent, 2u);
  EXPECT_EQ(reader->nodes()[3].ip, 0u) << "a hole";
  ASSERT_EQ(reader->memory().size(), 2u);
  EXPECT_EQ(reader->memory()[1].virtual_size, uint64_t{1} << 30);
  EXPECT_EQ(reader->TimeNs(1000), 0);
  EXPECT_EQ(reader->TimeNs(2000), 500);
  EXPECT_EQ(reader->TimeNs(5000), 2000) << "beyond the last sample";
  EXPECT_EQ(reader->origin_monotonic_ns(), 5000u);
  EXPECT_EQ(reader->file_bytes(), ReadFile(path.str()).size());
}

TEST(RoundTrip, ExtremeValues) {
  const uint64_t top = kMax64 - 15;
  ExpectRoundTrip({Alloc(0, top, kMax64, 63), Alloc(kMax64, 0, 0, 0), Alloc(1, top, 1, 63, Api::kPvalloc), Free(0, top),
                   Free(kMax64, 0), Free(kMax64 / 2, 16), Realloc(7, top, 0, kMax64, 1, kMax64),
                   Realloc(7, 0, 0, 0, 0, 0), Realloc(kMax64, 32, top, 1, 1, 1),
                   Gap(kMax64, kKindRealloc, kMax64, kMax64), Gap(0, kKindAlloc, 0, 0),
                   BadFree(3, top, 63, HeapError::kInvalidFree), Mark(2, ""), Mark(1, std::string(65535, '\0'))});
}

TEST(RoundTrip, LongMarksAreCut) {
  TemporaryPath path;
  {
    auto writer = MakeWriter(path.str());
    WriteEvents(writer.get(), 1, 0, 0, {Mark(0, std::string(70000, 'x'))});
    writer->Finish("{}");
  }
  auto reader = MustOpen(path.str());
  EXPECT_EQ(EventsByThread(reader.get())[1], DumpEvents({Mark(0, std::string(65535, 'x'))}));
}

TEST(RoundTrip, RandomStreams) {
  for (uint64_t seed = 1; seed <= 60; seed++) {
    SCOPED_TRACE(seed);
    Random random(seed);
    ExpectRoundTrip(RandomEvents(&random, random.Below(2000), seed % 3 != 0));
  }
}

TEST(RoundTrip, ManyEventsAreSplitOverSections) {
  Random random(99);
  ExpectRoundTrip(RandomEvents(&random, 3 * kMaxEventsPerSection + 5, true));
  ExpectRoundTrip(std::vector<TraceEvent>(300, Mark(5, std::string(60000, 'y'))));
}

TEST(RoundTrip, TimesInCoarseUnitsLoseOnlyTheirLowBits) {
  TemporaryPath path;
  Random random(5);
  const std::vector<TraceEvent> events = RandomEvents(&random, 500, true);
  {
    auto writer = MakeWriter(path.str());
    WriteEvents(writer.get(), 1, 0, 0, events, 5);
    writer->Finish("{}");
  }
  auto reader = MustOpen(path.str());
  size_t i = 0;
  reader->ForEachEvent([&](uint32_t, const TraceEvent& event) {
    ASSERT_LT(i, events.size());
    EXPECT_LE(event.tsc, events[i].tsc);
    EXPECT_LT(events[i].tsc - event.tsc, 32u);
    i++;
  });
  EXPECT_EQ(i, events.size());
}

TEST(RoundTrip, TablesWithExtremeValues) {
  TemporaryPath path;
  {
    auto writer = MakeWriter(path.str());
    writer->WriteInfo(R"({"mode":"full"})");
    writer->AddModule({kMax64 - 1, kMax64, 0, kMax64, std::string(64, '\xff'), std::string(65535, 'p')});
    writer->AddModule({0, kMax64, kMax64, 0, "", ""});
    writer->AddThread({0xffffffff, 0xffffffff, kMax64, std::string("\0name", 5)});
    writer->AddThread({1, 0, 0, ""});
    writer->AddMemory({kMax64, kMax64, 0, kMax64, 0, kMax64, 0, kMax64});
    writer->AddMemory({0, 0, kMax64, 0, kMax64, 0, kMax64, 0});
    writer->AddStackNode({70000, 1, 15, kMax64});
    writer->AddStackNode({1, 0, 0, 0});
    writer->Finish("{}");
  }
  auto reader = MustOpen(path.str());
  EXPECT_EQ(reader->problems(), std::vector<std::string>());
  ASSERT_EQ(reader->modules().size(), 2u);
  EXPECT_EQ(reader->modules()[0].end, kMax64);
  EXPECT_EQ(reader->modules()[0].load_bias, 0u);
  EXPECT_EQ(reader->modules()[0].path.size(), 65535u);
  EXPECT_EQ(reader->modules()[1].load_bias, kMax64);
  EXPECT_EQ(reader->threads()[0].name, std::string("\0name", 5));
  EXPECT_EQ(reader->threads()[0].serial, 0xffffffff);
  EXPECT_EQ(reader->memory()[0].pss, kMax64) << "samples are sorted by time";
  EXPECT_EQ(reader->memory()[1].virtual_size, kMax64);
  ASSERT_EQ(reader->nodes().size(), 70001u);
  EXPECT_EQ(reader->nodes()[70000].ip, kMax64);
  EXPECT_EQ(reader->nodes()[70000].flags, 15u);
}

TEST(Merge, ThreadsByTimeAndWithinAThreadAsWritten) {
  TemporaryPath path;
  {
    auto writer = MakeWriter(path.str());
    WriteThreads(writer.get(), 0, true);
  }
  auto reader = MustOpen(path.str());
  uint64_t last_tsc = 0, count = 0;
  reader->ForEachEvent([&](uint32_t, const TraceEvent& event) {
    EXPECT_GE(event.tsc, last_tsc);
    last_tsc = event.tsc;
    count++;
  });
  EXPECT_EQ(count, 900u);
  auto by_thread = EventsByThread(reader.get());
  for (uint32_t serial = 1; serial <= 3; serial++) {
    Random random(serial);
    EXPECT_EQ(by_thread[serial], DumpEvents(RandomEvents(&random, 300, true)));
  }
}

TEST(Merge, AClockThatStepsBackDoesNotReorderAThread) {
  ExpectRoundTrip({Alloc(100, 16, 1, 1), Alloc(50, 32, 1, 1), Alloc(200, 48, 1, 1), Free(20, 16)});
}

// "thread kind address", in the order of the merge.
std::vector<std::string> MergedOrder(const std::map<uint32_t, std::vector<TraceEvent>>& threads, uint32_t tsc_shift) {
  TemporaryPath path;
  {
    auto writer = MakeWriter(path.str());
    for (const auto& [serial, events] : threads) WriteEvents(writer.get(), serial, 0, 0, events, tsc_shift);
    writer->Finish("{}");
  }
  std::vector<std::string> order;
  MustOpen(path.str())->ForEachEvent([&order](uint32_t serial, const TraceEvent& event) {
    order.push_back(std::to_string(serial) + " " + std::to_string(static_cast<uint32_t>(event.kind)) + " " +
                    Hex(event.address));
  });
  return order;
}

TEST(Merge, EqualStampsFollowTheLifeOfTheBlock) {
  using Order = std::vector<std::string>;
  // Thread 2 obtains, thread 1 releases, thread 3 obtains again, and thread 1 that one, too: all in one unit of time.
  EXPECT_EQ(MergedOrder({{1, {Free(1030, 0x100), Free(1040, 0x100)}},
                         {2, {Alloc(1025, 0x100, 1, 0)}},
                         {3, {Alloc(1035, 0x100, 1, 0)}}},
                        10),
            (Order{"2 1 100", "1 2 100", "3 1 100", "1 2 100"}));
  // Thread 2 releases what thread 1 obtains.
  EXPECT_EQ(MergedOrder({{1, {Alloc(5, 0x100, 1, 0), Alloc(1030, 0x100, 1, 0)}}, {2, {Free(1026, 0x100)}}}, 10),
            (Order{"1 1 100", "2 2 100", "1 1 100"}));
  // The same by realloc: the old address becomes free, the new one taken.
  EXPECT_EQ(MergedOrder({{1, {Alloc(5, 0x100, 1, 0), Alloc(1030, 0x100, 1, 0)}},
                         {2, {Realloc(1028, 0x100, 0x200, 1, 0, 1)}},
                         {3, {Free(1031, 0x200)}}},
                        10),
            (Order{"1 1 100", "2 3 200", "1 1 100", "3 2 200"}));
  // Releases of blocks from before the trace wait for nothing that never comes.
  EXPECT_EQ(MergedOrder({{1, {Free(1030, 0x100), Free(1030, 0x110)}}, {2, {Free(1030, 0x200), Free(9999, 0x210)}}}, 10),
            (Order{"1 2 100", "1 2 110", "2 2 200", "2 2 210"}));
  // Stamps that differ are believed.
  EXPECT_EQ(MergedOrder({{1, {Free(1030, 0x100)}}, {2, {Alloc(5000, 0x100, 1, 0)}}}, 10),
            (Order{"1 2 100", "2 1 100"}));
}

// Threads hand blocks around, each hand-over taking 260 ticks (100 ns) at least, a quarter of the unit of time: every
// block's life must come out whole.
TEST(Merge, CoarseStampsNeverBreakALife) {
  Random random(8);
  for (int round = 0; round < 20; round++) {
    std::map<uint32_t, std::vector<TraceEvent>> threads;
    std::vector<uint64_t> alive, free;
    for (uint64_t block = 1; block <= 40; block++) free.push_back(block * 16);
    uint64_t tsc = 0;
    for (int i = 0; i < 5000; i++) {
      tsc += 260 + random.Below(500);
      std::vector<TraceEvent>& events = threads[static_cast<uint32_t>(1 + random.Below(4))];
      std::vector<uint64_t>& from = free.empty() || (!alive.empty() && random.Below(2) == 0) ? alive : free;
      const size_t at = random.Below(from.size());
      const uint64_t block = from[at];
      from.erase(from.begin() + static_cast<ptrdiff_t>(at));
      events.push_back(&from == &free ? Alloc(tsc, block, 16, 0) : Free(tsc, block));
      (&from == &free ? alive : free).push_back(block);
    }
    std::map<std::string, bool> lives;
    int broken = 0;
    for (const std::string& event : MergedOrder(threads, 10)) {
      bool& lives_now = lives[event.substr(4)];
      const bool obtained = event[2] == '1';
      broken += lives_now == obtained;
      lives_now = obtained;
    }
    EXPECT_EQ(broken, 0) << round;
  }
}

TEST(AddressSet, IsASet) {
  AddressSet set;
  for (int i = 0; i < 3; i++) {  // 0 is in no set, whatever is done with it
    set.Insert(0);
    EXPECT_FALSE(set.Contains(0));
    set.Erase(0);
  }
  std::map<uint64_t, bool> truth;
  Random random(4);
  for (int i = 0; i < 200'000; i++) {
    const uint64_t address = 16 + 16 * random.Below(20'000);
    if (random.Below(2) == 0) {
      set.Insert(address);
      truth[address] = true;
    } else {
      set.Erase(address);
      truth[address] = false;
    }
    const uint64_t other = 16 + 16 * random.Below(20'000);
    ASSERT_EQ(set.Contains(other), truth.count(other) != 0 && truth[other]);
  }
}

// With room for no section at all every turn decodes again; the order stays.
TEST(Merge, TheMemoryBoundChangesNothingButTime) {
  std::vector<std::string> payloads;
  std::vector<EventsPlace> places;
  for (size_t serial = 1; serial <= 3; serial++) {
    Random random(serial);
    const std::vector<TraceEvent> events = RandomEvents(&random, 300, true);
    EventsPlace place;
    place.section = payloads.size();
    place.count = events.size();
    place.header.thread_serial = static_cast<uint32_t>(serial);
    place.header.first_tsc = events[0].tsc;
    Payload payload;
    EventEncoder encoder;
    encoder.Start(events.size(), events[0].tsc, 0);
    for (const TraceEvent& event : events) Encode(event, &encoder);
    encoder.Finish(place.header, &payload);
    payloads.push_back(payload.bytes);
    places.push_back(place);
  }
  int loads = 0, complaints = 0;
  const auto run = [&](size_t limit) {
    std::vector<std::string> order;
    loads = 0;
    EventMerge merge(
        places,
        [&](size_t section, std::string* payload) {
          loads++;
          *payload = payloads[section];
          return true;
        },
        [&](const EventsPlace&, uint64_t) { complaints++; }, limit);
    merge.ForEach([&order](uint32_t serial, const TraceEvent& event) {
      order.push_back(std::to_string(serial) + " " + Dump(event));
    });
    return order;
  };
  const std::vector<std::string> expected = run(EventMerge::kResidentBytes);
  EXPECT_EQ(loads, 3);
  EXPECT_EQ(expected.size(), 900u);
  EXPECT_EQ(run(0), expected);
  EXPECT_GT(loads, 10);
  EXPECT_EQ(complaints, 0);
}

TEST(Clock, SaturatesAndIgnoresSamplesThatRunBackwards) {
  EXPECT_EQ(ClockMap({}).TimeNs(kMax64), INT64_MAX);
  EXPECT_FALSE(ClockMap({{5, 5, 5}}).knows_rate());
  EXPECT_EQ(ClockMap({{5, 5, 5}}).TimeNs(4), -1);
  const ClockMap broken({{0, 0, 0}, {1, kMax64, 0}, {kMax64, 5, 0}, {2, 7, 0}});
  EXPECT_EQ(broken.TimeNs(kMax64), INT64_MAX);
  const ClockMap two_rates({{100, 1000, 0}, {300, 3000, 0}, {200, 1500, 0}, {200, 9999, 0}});
  EXPECT_EQ(two_rates.TimeNs(150), 250);
  EXPECT_EQ(two_rates.TimeNs(250), 1250);
  EXPECT_EQ(two_rates.TimeNs(50), -250);
}

TEST(Writer, CreatesPrivatelyAndNeverOverwrites) {
  TemporaryPath path;
  umask(0);
  auto writer = MakeWriter(path.str());
  struct stat status;
  ASSERT_EQ(stat(path.str().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  std::string error;
  EXPECT_EQ(TraceWriter::Create(path.str(), &error), nullptr);
  EXPECT_NE(error.find("File exists"), std::string::npos) << error;
  TemporaryPath link;
  ASSERT_EQ(symlink("/nonexistent-target", link.str().c_str()), 0);
  EXPECT_EQ(TraceWriter::Create(link.str(), &error), nullptr);
  EXPECT_EQ(TraceWriter::Create("/nonexistent/directory/x.tmk", &error), nullptr);
  EXPECT_NE(error.find("/nonexistent/directory/x.tmk: No such file"), std::string::npos) << error;
}

TEST(Writer, AnUnfinishedTraceKeepsWhatWasBuffered) {
  TemporaryPath path;
  {
    auto writer = MakeWriter(path.str());
    writer->WriteInfo(R"({"mode":"full"})");
    writer->AddStackNode({1, 0, 0, 77});
  }
  auto reader = MustOpen(path.str());
  EXPECT_EQ(reader->nodes()[1].ip, 77u);
  ASSERT_EQ(reader->problems().size(), 1u);
  EXPECT_NE(reader->problems()[0].find("no end record"), std::string::npos);
}

TEST(Writer, ReadersCanTellThatItIsStillWriting) {
  TemporaryPath path;
  auto writer = MakeWriter(path.str());
  Result<std::unique_ptr<TraceReader>> nothing = TraceReader::Open(path.str());
  ASSERT_FALSE(nothing);
  EXPECT_NE(nothing.error().message.find("still being recorded"), std::string::npos) << nothing.error().message;
  WriteThreads(writer.get(), 0, false);
  writer->Flush();
  auto reader = MustOpen(path.str());
  ASSERT_EQ(reader->problems().size(), 1u);
  EXPECT_NE(reader->problems()[0].find("still being recorded"), std::string::npos);
  writer->Finish("{}");
  EXPECT_TRUE(MustOpen(path.str())->problems().empty());
}

// Writes until the disk is full, in a child process that `limit` constrains. Returns what the child says.
void FillUp(const std::string& path, const std::function<bool()>& limit, const std::string& expected_error) {
  const pid_t child = fork();
  if (child == 0) {
    if (!limit()) _exit(77);
    std::string error;
    auto writer = TraceWriter::Create(path, &error);
    if (writer == nullptr) _exit(1);
    writer->WriteInfo(R"({"mode":"full"})");
    writer->AddClock({1, 1, 1});
    writer->AddClock({2, 2, 2});
    Random random(1);
    for (uint32_t i = 0; i < 100; i++) WriteEvents(writer.get(), 1, i, 0, RandomEvents(&random, 1000, true));
    if (writer->lost_sections() == 0 || writer->lost_sections() >= 100) _exit(2);
    const uint64_t before = writer->bytes_written();
    writer->Finish("{\"lost_sections\":" + std::to_string(writer->lost_sections()) + "}");
    if (writer->bytes_written() < before) _exit(3);
    if (writer->error().find(expected_error) == std::string::npos) _exit(4);
    struct stat status;
    if (stat(path.c_str(), &status) != 0 || static_cast<uint64_t>(status.st_size) != writer->bytes_written()) _exit(5);
    auto reader = TraceReader::Open(path);
    if (!reader) _exit(6);
    uint64_t events = 0;
    (*reader)->ForEachEvent([&events](uint32_t, const TraceEvent&) { events++; });
    if (events == 0 || events % 1000 != 0) _exit(7);
    if ((*reader)->problems().empty()) _exit(8);
    for (const std::string& problem : (*reader)->problems()) {
      if (problem.find("damaged") != std::string::npos || problem.find("cut off") != std::string::npos) _exit(9);
    }
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs the right to mount a small file system";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Writer, TheFileSizeLimitNeitherKillsNorDamages) {
  TemporaryPath path;
  FillUp(
      path.str(),
      [] {
        signal(SIGXFSZ, SIG_DFL);
        const rlimit limit = {100000, 100000};
        return setrlimit(RLIMIT_FSIZE, &limit) == 0;
      },
      "File too large");
}

TEST(Writer, AFullDiskDoesNotDamage) {
  char directory[] = "/tmp/tidemark-full.XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  FillUp(
      std::string(directory) + "/x.tmk",
      [&directory] {
        return unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               mount("tidemark", directory, "tmpfs", 0, "size=128k") == 0;
      },
      "No space left on device");
  rmdir(directory);
}

TEST(Writer, RefusesJsonThatReadersWouldRefuse) {
  TemporaryPath path;
  auto writer = MakeWriter(path.str());
  writer->WriteInfo("{\"command\":\"" + std::string(kMaxJsonBytes, 'x') + "\"}");
  EXPECT_EQ(writer->lost_sections(), 1u);
  EXPECT_NE(writer->error(), "");
}

}  // namespace
}  // namespace tidemark
