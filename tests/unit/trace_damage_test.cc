// Traces that are cut, flipped, shuffled or made up: nothing crashes, whole sections are used, and what is missing is
// said. Made-up sections carry right checksums, so that they reach the decoders.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "profiler/columns.h"
#include "profiler/crc32c.h"
#include "profiler/section_file.h"
#include "profiler/trace_format.h"
#include "tests/unit/sample_traces.h"
#include "tools/trace_problems.h"

namespace tidemark {
namespace {

using namespace sample;

constexpr size_t kHeaderBytes = sizeof(SectionHeader);

struct Part {
  SectionHeader header;
  std::string bytes;  // header and stored payload
};

std::string FileStart(uint16_t major = kTraceMajor) {
  FileHeader header = {};
  memcpy(header.magic, kTraceMagic, sizeof header.magic);
  header.major = major;
  header.minor = kTraceMinor;
  header.checksum = Crc32c(&header, offsetof(FileHeader, checksum));
  return std::string(reinterpret_cast<const char*>(&header), sizeof header);
}

std::string MakeSection(uint16_t type, uint32_t sequence, const std::string& stored, uint16_t encoding = 0,
                        uint32_t raw_bytes = 0, uint32_t subject = 0) {
  SectionHeader header = {};
  header.magic = kSectionMagic;
  header.type = type;
  header.encoding = encoding;
  header.stored_bytes = static_cast<uint32_t>(stored.size());
  header.raw_bytes = raw_bytes != 0 ? raw_bytes : header.stored_bytes;
  header.sequence = sequence;
  header.subject = subject;
  header.payload_checksum = Crc32c(stored.data(), stored.size());
  header.header_checksum = Crc32c(&header, offsetof(SectionHeader, header_checksum));
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + stored;
}

std::string MakeSection(SectionType type, uint32_t sequence, const std::string& stored, uint32_t subject = 0) {
  return MakeSection(static_cast<uint16_t>(type), sequence, stored, 0, 0, subject);
}

std::vector<Part> Split(const std::string& trace) {
  std::vector<Part> parts;
  for (size_t at = sizeof(FileHeader); at < trace.size();) {
    Part part;
    memcpy(&part.header, trace.data() + at, kHeaderBytes);
    part.bytes = trace.substr(at, kHeaderBytes + part.header.stored_bytes);
    at += part.bytes.size();
    parts.push_back(part);
  }
  return parts;
}

std::string Join(const std::vector<Part>& parts) {
  std::string trace = FileStart();
  for (const Part& part : parts) trace += part.bytes;
  return trace;
}

std::string Written(void (*write)(TraceWriter*)) {
  TemporaryPath path;
  std::string error;
  auto writer = TraceWriter::Create(path.str(), &error);
  EXPECT_NE(writer, nullptr) << error;
  write(writer.get());
  writer.reset();
  return ReadFile(path.str());
}

std::string ThreadsTrace() {
  return Written([](TraceWriter* writer) { WriteThreads(writer, 0, true); });
}

struct Reading {
  bool opened = false;
  std::string error;
  uint64_t events = 0;
  std::vector<std::string> problems;
  std::string all_problems;
};

Reading Read(const std::string& bytes) {
  Reading reading;
  Result<std::unique_ptr<TraceReader>> reader = TraceReader::FromMemory(bytes);
  reading.opened = reader.ok();
  if (!reader) {
    EXPECT_EQ(reader.error().status, ExitStatus::kUnreadable);
    EXPECT_FALSE(reader.error().message.empty());
    reading.error = reader.error().message;
    return reading;
  }
  (*reader)->ForEachEvent([&](uint32_t, const TraceEvent& event) {
    EXPECT_LT(event.node, (*reader)->nodes().size());
    EXPECT_LT(event.gap_kind, static_cast<uint32_t>(kKindCount));
    EXPECT_LE(event.api, Api::kCfree);
    reading.events++;
  });
  for (const TraceStackNode& node : (*reader)->nodes()) EXPECT_TRUE(node.parent < node.node || node.parent == 0);
  reading.problems = (*reader)->problems();
  for (const std::string& problem : reading.problems) reading.all_problems += problem + "\n";
  return reading;
}

bool Mentions(const Reading& reading, const std::string& text) {
  return reading.all_problems.find(text) != std::string::npos;
}

TEST(Damage, EveryPrefixGivesItsWholeSections) {
  for (void (*write)(TraceWriter*) : {WriteEveryKind, WriteMinimal, +[](TraceWriter* w) { WriteLeaks(w, true); },
                                      +[](TraceWriter* w) { WriteThreads(w, 5, true); }}) {
    const std::string trace = Written(write);
    const std::vector<Part> parts = Split(trace);
    for (size_t length = 0; length < trace.size(); length++) {
      size_t at = sizeof(FileHeader), whole = 0, event_sections = 0;
      bool has_end = false;
      for (const Part& part : parts) {
        at += part.bytes.size();
        if (at > length) break;
        whole++;
        event_sections += part.header.type == static_cast<uint16_t>(SectionType::kEvents);
        has_end |= part.header.type == static_cast<uint16_t>(SectionType::kEnd);
      }
      const Reading reading = Read(trace.substr(0, length));
      ASSERT_EQ(reading.opened, whole > 0) << length;
      if (!reading.opened) continue;
      ASSERT_EQ(reading.events > 0, event_sections > 0) << length;
      if (!has_end) {
        ASSERT_TRUE(Mentions(reading, "no end record")) << length;
      }
    }
  }
}

TEST(Damage, EveryFlippedByteCostsAtMostItsSection) {
  for (void (*write)(TraceWriter*) : {WriteEveryKind, +[](TraceWriter* w) { WriteLeaks(w, false); },
                                      +[](TraceWriter* w) { WriteThreads(w, 0, true); }}) {
    const std::string trace = Written(write);
    const Reading whole = Read(trace);
    ASSERT_TRUE(whole.problems.empty()) << whole.all_problems;
    const uint64_t most_in_one_section = 100;
    for (size_t at = 0; at < trace.size(); at++) {
      for (uint8_t mask : {0x01, 0x80, 0xff}) {
        std::string damaged = trace;
        damaged[at] = static_cast<char>(damaged[at] ^ mask);
        const Reading reading = Read(damaged);
        ASSERT_TRUE(reading.opened) << at << ": " << reading.error;
        ASSERT_FALSE(reading.problems.empty()) << at;
        ASSERT_GE(reading.events + most_in_one_section, whole.events) << at;
      }
    }
  }
}

TEST(Damage, LostAndInsertedBytesCostOneSection) {
  const std::string trace = ThreadsTrace();
  for (size_t at = sizeof(FileHeader); at < trace.size(); at += 7) {
    std::string lost = trace, inserted = trace;
    lost.erase(at, 3);
    inserted.insert(at, "TMKS");
    for (const std::string& damaged : {lost, inserted}) {
      const Reading reading = Read(damaged);
      ASSERT_TRUE(reading.opened) << at;
      ASSERT_FALSE(reading.problems.empty()) << at;
      ASSERT_GE(reading.events + 200, 900u) << at;
    }
  }
}

TEST(Damage, TheSentenceSaysWhatWhereAndHowMuch) {
  const std::string trace = ThreadsTrace();
  std::vector<Part> parts = Split(trace);
  size_t at = sizeof(FileHeader), victim = 0;
  while (parts[victim].header.type != static_cast<uint16_t>(SectionType::kEvents)) at += parts[victim++].bytes.size();
  std::string damaged = trace;
  damaged[at + kHeaderBytes + 20] ^= 4;
  const std::string where = "section " + std::to_string(victim) + " (events of thread 1) at byte " + std::to_string(at);
  EXPECT_EQ(Read(damaged).problems[0],
            where + " is damaged: " + Grouped(parts[victim].bytes.size()) + " bytes skipped");
  // With its header gone the index still knows what it was.
  damaged = trace;
  damaged[at + 2] ^= 4;
  EXPECT_EQ(Read(damaged).problems[0], "the section (events of thread 1) at byte " + std::to_string(at) +
                                           " is damaged: " + Grouped(parts[victim].bytes.size()) + " bytes skipped");
  EXPECT_TRUE(Mentions(Read(damaged), "1 section is missing: number " + std::to_string(victim)));
  const Reading cut = Read(trace.substr(0, at + 50));
  EXPECT_TRUE(
      Mentions(cut, where + " is cut off: 50 of its " + Grouped(parts[victim].bytes.size()) + " bytes are there"));
  EXPECT_TRUE(Mentions(cut, "everything up to byte " + std::to_string(at) + " is here"));
}

TEST(Damage, ShuffledAndRepeatedSectionsAreTheSameTrace) {
  std::vector<Part> parts = Split(ThreadsTrace());
  const std::string expected = [&] {
    auto reader = TraceReader::FromMemory(Join(parts));
    return Dump(reader->get());
  }();
  Random random(3);
  for (int round = 0; round < 100; round++) {
    for (size_t i = parts.size() - 1; i > 0; i--) std::swap(parts[i], parts[random.Below(i + 1)]);
    auto reader = TraceReader::FromMemory(Join(parts));
    ASSERT_TRUE(reader.ok());
    ASSERT_EQ(Dump(reader->get()), expected);
  }
  const size_t copied = random.Below(parts.size());
  std::vector<Part> twice = parts;
  twice.push_back(parts[copied]);
  const Reading reading = Read(Join(twice));
  EXPECT_EQ(reading.events, 900u);
  EXPECT_EQ(reading.problems.size(), 1u) << reading.all_problems;
  EXPECT_TRUE(Mentions(reading, "has the number of another section"));
}

TEST(Damage, AFragmentThatIsThereTwiceCountsOnce) {
  std::vector<Part> parts = Split(Written(WriteMinimal));
  for (const Part& part : parts) {
    if (part.header.type != static_cast<uint16_t>(SectionType::kEvents)) continue;
    const std::string again = MakeSection(SectionType::kEvents, 90, part.bytes.substr(kHeaderBytes), 1);
    const Reading reading = Read(Join(parts) + again);
    EXPECT_EQ(reading.events, 2u);
    EXPECT_TRUE(Mentions(reading, "repeats events that another section holds"));
  }
}

TEST(Damage, RandomGarbageBetweenSections) {
  const std::vector<Part> parts = Split(ThreadsTrace());
  Random random(11);
  for (int round = 0; round < 100; round++) {
    std::string trace = FileStart();
    for (const Part& part : parts) {
      if (random.Below(3) == 0) {
        for (uint64_t n = random.Below(200); n > 0; n--) trace += static_cast<char>(random.Next());
        if (random.Below(2) == 0) trace += "TMKS";
      }
      trace += part.bytes;
    }
    const Reading reading = Read(trace);
    ASSERT_EQ(reading.events, 900u);
  }
}

TEST(Refusal, EachKindOfUnreadableFileHasItsSentence) {
  EXPECT_NE(Read("").error.find("is empty"), std::string::npos);
  EXPECT_NE(Read("TIDEM").error.find("is cut off"), std::string::npos);
  EXPECT_NE(Read("#!/bin/sh").error.find("is not a tidemark trace"), std::string::npos);
  EXPECT_NE(Read(std::string(1000, 'x')).error.find("is not a tidemark trace"), std::string::npos);
  EXPECT_NE(Read(FileStart()).error.find("holds no whole section"), std::string::npos);
  for (uint16_t major : {uint16_t{1}, uint16_t{3}}) {
    const std::string sentence = "format version " + std::to_string(major) + "." + std::to_string(kTraceMinor);
    EXPECT_NE(Read(FileStart(major)).error.find(sentence), std::string::npos);
    EXPECT_NE(Read(FileStart(major) + MakeSection(SectionType::kInfo, 0, "{}")).error.find(sentence),
              std::string::npos);
  }
  std::string torn = FileStart();
  torn[13] ^= 1;
  EXPECT_NE(Read(torn).error.find("damaged at its beginning"), std::string::npos);
  const auto message = [](const std::string& path) { return TraceReader::Open(path).error().message; };
  EXPECT_EQ(message("/nonexistent.tmk"), "cannot open /nonexistent.tmk: No such file or directory");
  EXPECT_NE(message("/tmp").find("/tmp is a directory"), std::string::npos);
  TemporaryPath pipe;
  ASSERT_EQ(mkfifo(pipe.str().c_str(), 0600), 0);
  EXPECT_NE(message(pipe.str()).find("is not a file"), std::string::npos);
}

// A mapped file would raise SIGBUS here.
TEST(Damage, AFileThatShrinksWhileItIsReadOnlyLosesEvents) {
  TemporaryPath path;
  // The last section is beyond the reader's window, so that events have to be read again.
  std::vector<Part> parts = Split(ThreadsTrace());
  const Part last = parts.back();
  parts.pop_back();
  const std::string trace = Join(parts) + std::string(3 << 20, '\0') + last.bytes;
  for (size_t left : {Join(parts).size() / 2, size_t{20}, size_t{0}}) {
    WriteFile(path.str(), trace);
    Result<std::unique_ptr<TraceReader>> reader = TraceReader::Open(path.str());
    ASSERT_TRUE(reader.ok());
    ASSERT_EQ(truncate(path.str().c_str(), static_cast<off_t>(left)), 0);
    uint64_t events = 0;
    (*reader)->ForEachEvent([&events](uint32_t, const TraceEvent&) { events++; });
    EXPECT_LT(events, 900u);
    std::string problems;
    for (const std::string& problem : (*reader)->problems()) problems += problem + "\n";
    EXPECT_NE(problems.find("breaks off after 0 of its 100 events"), std::string::npos) << problems;
  }
}

// ---- Made-up payloads.

std::string Table(uint64_t rows, const std::vector<std::pair<uint64_t, std::string>>& columns) {
  ColumnBuilder out;
  out.Reserve(1);
  out.Put(rows);
  for (const auto& [id, bytes] : columns) {
    out.Reserve(1);
    out.Put(id);
    out.PutText(bytes);
  }
  return std::string(out.view());
}

std::string Varints(const std::vector<uint64_t>& values) {
  ColumnBuilder out;
  out.Reserve(values.size());
  for (uint64_t value : values) out.Put(value);
  return std::string(out.view());
}

// One section of `type` behind an info section.
Reading ReadOne(SectionType type, const std::string& payload, uint32_t subject = 0) {
  return Read(FileStart() + MakeSection(SectionType::kInfo, 0, R"({"mode":"full"})") +
              MakeSection(type, 1, payload, subject));
}

TEST(MadeUp, CountsThatPromiseMoreThanIsThere) {
  for (SectionType type : {SectionType::kModules, SectionType::kStacks, SectionType::kEvents, SectionType::kThreads,
                           SectionType::kClock, SectionType::kMemory, SectionType::kIndex}) {
    for (uint64_t rows : {uint64_t{1}, uint64_t{1} << 20, uint64_t{1} << 40, kMax64}) {
      for (const std::string& payload :
           {Table(rows, {}), Table(rows, {{1, "ab"}}),
            Table(rows, {{1, std::string(100, '\0')}, {2, std::string(100, '\0')}}),
            Table(rows, {{1, std::string(50, '\xff')}}), Varints({rows, 1, kMax64}), Varints({rows, kMax64, kMax64})}) {
        const Reading reading = ReadOne(type, payload);
        EXPECT_TRUE(reading.opened);
        EXPECT_EQ(reading.events, 0u);
        EXPECT_TRUE(Mentions(reading, "does not decode") || Mentions(reading, "breaks off after"))
            << static_cast<int>(type) << " " << rows;
      }
    }
  }
}

const std::string kHeaderColumn = Varints({1, 0, 0, 0, 5000, 0});

TEST(MadeUp, AnEventsSectionEndsWhereItContradictsItself) {
  const uint64_t header = 1, op = 2, time = 3, size = 4, node = 5, api = 6, realloc_shape = 7, address = 8, origin = 9,
                 gap = 12;
  struct Case {
    std::string payload;
    uint64_t events;
    bool complains;
  };
  const std::string none, zero("\0", 1), alloc("\x08", 1), first_address = Varints({0, 16});
  const auto table = [&](uint64_t rows, std::vector<std::pair<uint64_t, std::string>> columns) {
    columns.insert(columns.begin(), {header, kHeaderColumn});
    return Table(rows, columns);
  };
  const Case cases[] = {
      {table(2, {{op, alloc + zero}, {size, "\x08"}, {node, zero}, {address, first_address}, {origin, "\x01"}}), 2,
       false},
      // A free of the second last alloc when there was one.
      {table(2, {{op, alloc + zero}, {size, "\x08"}, {node, zero}, {address, first_address}, {origin, "\x02"}}), 1,
       true},
      // A far free without a far column.
      {table(1, {{op, zero}, {origin, zero}}), 0, true},
      // No shapes at all; fewer than are used; without a node for each; without an api for each.
      {table(1, {{op, alloc}}), 0, true},
      {table(2, {{op, "\x08\x0a"}, {size, "\x08\x08"}, {node, zero + zero}}), 1, true},
      {table(1, {{op, alloc}, {size, "\x08"}}), 0, true},
      {table(1, {{op, alloc}, {size, "\x08"}, {node, zero}, {api, none}}), 0, true},
      // A realloc without a shape; with one that there is not.
      {table(1, {{op, "\x02"}, {size, "\x08"}, {node, zero}, {origin, zero}, {10, "\x10"}}), 0, true},
      {table(1, {{op, "\x01"}, {size, "\x08"}, {node, zero}, {origin, zero}, {10, "\x10"}, {realloc_shape, "\x01"}}), 0,
       true},
      {table(1, {{op, "\x01"}, {size, "\x08"}, {node, zero}, {origin, zero}, {10, "\x10"}, {realloc_shape, zero}}), 1,
       false},
      // A miss, but not of what; a change of time, but not by how much.
      {table(1, {{op, alloc}, {size, "\x08"}, {node, zero}, {address, zero}}), 0, true},
      {table(1, {{op, alloc}, {size, "\x08"}, {node, zero}, {time, zero}}), 0, true},
      // A miss later than the last address, a change later than the last event: the events are fine, the section not.
      {table(1, {{op, alloc}, {size, "\x08"}, {node, zero}, {address, Varints({7, 16})}}), 1, true},
      {table(1, {{op, alloc}, {size, "\x08"}, {node, zero}, {time, Varints({7, 2})}}), 1, true},
      // An unknown kind of gap.
      {table(1, {{op, "\x03"}, {gap, Varints({9, 1, 1})}}), 0, true},
      // More ops than rows: the event is fine, the section is not.
      {table(1, {{op, alloc + alloc}, {size, "\x08"}, {node, zero}}), 1, true},
      // An unknown Api value reads as malloc.
      {table(1, {{op, alloc}, {size, "\x08"}, {node, zero}, {api, "\x0f"}}), 1, false},
      // A kind of a later version is passed over.
      {table(2, {{op, "\x06\x08"}, {size, "\x08"}, {node, zero}, {50, "new"}}), 1, false},
  };
  for (const Case& c : cases) {
    const Reading reading = ReadOne(SectionType::kEvents, c.payload, 1);
    EXPECT_EQ(reading.events, c.events) << &c - cases;
    EXPECT_EQ(Mentions(reading, "breaks off after"), c.complains) << &c - cases << reading.all_problems;
  }
}

TEST(MadeUp, AnEventsHeaderThatLiesIsRefused) {
  const std::string kinds("\x07");
  EXPECT_FALSE(
      Mentions(ReadOne(SectionType::kEvents, Table(1, {{1, kHeaderColumn}, {2, kinds}}), 1), "does not decode"));
  // Another thread than the section header says; a shift that is too large; a serial of more than 32 bits; a column
  // twice; fewer kinds than rows.
  for (const std::string& payload :
       {Table(1, {{1, Varints({2, 0, 0, 0, 0, 0})}, {2, kinds}}),
        Table(1, {{1, Varints({1, 0, 0, 0, 0, 21})}, {2, kinds}}),
        Table(1, {{1, Varints({(uint64_t{1} << 32) + 1, 0, 0, 0, 0, 0})}, {2, kinds}}),
        Table(1, {{1, kHeaderColumn}, {2, kinds}, {2, kinds}}), Table(2, {{1, kHeaderColumn}, {2, kinds}})}) {
    EXPECT_TRUE(Mentions(ReadOne(SectionType::kEvents, payload, 1), "does not decode"));
  }
}

TEST(MadeUp, StackParentsNeverLeadInCircles) {
  // Node 1 with itself as parent, node 2 with parent 3, node 3 with parent 2.
  const std::string payload = Table(3, {{1, Varints({2, 2, 2})}, {2, Varints({0, 1, 2})}, {3, Varints({2, 2, 2})}});
  const Reading reading = ReadOne(SectionType::kStacks, payload);
  EXPECT_TRUE(Mentions(reading, "impossible parents in 2 stack nodes")) << reading.all_problems;
}

TEST(MadeUp, ASmallFileCannotClaimManyNodes) {
  const std::string payload = Table(1, {{1, Varints({ZigZag(kMaxNodes)})}, {2, Varints({2})}, {3, Varints({0})}});
  const Reading reading = ReadOne(SectionType::kStacks, payload);
  EXPECT_TRUE(Mentions(reading, "impossible numbers in 1 stack node")) << reading.all_problems;
}

TEST(MadeUp, StacksThatEventsNameButNobodyDefinesAreNone) {
  const std::string payload = Table(1, {{1, kHeaderColumn}, {2, "\x08"}, {4, "\x08"}, {5, Varints({ZigZag(123456)})}});
  const Reading reading = ReadOne(SectionType::kEvents, payload, 1);
  EXPECT_EQ(reading.events, 1u);
  EXPECT_TRUE(Mentions(reading, "missing stacks in 1 event")) << reading.all_problems;
}

TEST(MadeUp, JsonThatIsNotAnObjectOrTooDeepIsRefused) {
  for (const std::string& text :
       {std::string("[1]"), std::string("{"), std::string(""), std::string("{\"a\":\"\xff\"}"),
        std::string("{\"a\":") + std::string(100, '[') + std::string(100, ']') + "}",
        "{\"a\":" + std::string(100000, '[')}) {
    EXPECT_TRUE(Mentions(ReadOne(SectionType::kEnd, text), "does not decode")) << text.substr(0, 20);
  }
  EXPECT_FALSE(Mentions(ReadOne(SectionType::kEnd, R"({"a":"[[[[\"[[["})"), "does not decode"));
}

TEST(MadeUp, SizesAndEncodingsThatAreNotAllowed) {
  const std::string info = FileStart() + MakeSection(SectionType::kInfo, 0, R"({"mode":"full"})");
  const uint16_t threads = static_cast<uint16_t>(SectionType::kThreads),
                 events = static_cast<uint16_t>(SectionType::kEvents);
  // Raw with another size, zstd that is none, an encoding nobody knows, more raw bytes than events may have.
  for (const std::string& section :
       {MakeSection(threads, 1, "abcd", 0, 400), MakeSection(threads, 1, "abcd", 1, 400),
        MakeSection(threads, 1, "abcd", 9, 400), MakeSection(events, 1, "abcd", 1, kMaxEventSectionBytes + 1)}) {
    EXPECT_TRUE(Mentions(Read(info + section), "does not decode"));
  }
  // A header beyond the largest section is none.
  EXPECT_TRUE(Mentions(Read(info + MakeSection(threads, 1, "abcd", 1, kMaxSectionBytes + 1)), "not a whole section"));
  // A type of a later version is fine.
  EXPECT_EQ(Read(info + MakeSection(777, 1, "whatever") + MakeSection(SectionType::kEnd, 2, "{}")).all_problems, "");
}

TEST(MadeUp, HeadersInsideOfHeadersDoNotTakeQuadraticTime) {
  // Each header claims everything behind it as its payload, with a wrong checksum.
  constexpr size_t kCount = 20000;
  std::string trace = FileStart() + MakeSection(SectionType::kInfo, 0, R"({"mode":"full"})");
  for (size_t i = 0; i < kCount; i++) {
    SectionHeader header = {};
    header.magic = kSectionMagic;
    header.type = 1;
    header.stored_bytes = header.raw_bytes = static_cast<uint32_t>((kCount - i - 1) * kHeaderBytes);
    header.sequence = static_cast<uint32_t>(i + 1);
    header.payload_checksum = 1;
    header.header_checksum = Crc32c(&header, offsetof(SectionHeader, header_checksum));
    trace.append(reinterpret_cast<const char*>(&header), sizeof header);
  }
  const clock_t start = clock();
  const Reading reading = Read(trace);
  EXPECT_LT(clock() - start, CLOCKS_PER_SEC * 5);
  EXPECT_TRUE(reading.opened);
  EXPECT_LE(reading.problems.size(), 210u);
}

TEST(MadeUp, ManyProblemsAreCounted) {
  std::string trace = FileStart() + MakeSection(SectionType::kInfo, 0, R"({"mode":"full"})");
  for (uint32_t i = 1; i <= 500; i++) trace += MakeSection(SectionType::kClock, i, "\x05");
  const Reading reading = Read(trace);
  EXPECT_EQ(reading.problems.size(), 201u);
  EXPECT_EQ(reading.problems.back(), "and 301 further problems");
}

}  // namespace
}  // namespace tidemark
