// LEAKS sections: what the writer is given is what the columns of docs/trace-format.md say, in as many parts as it
// takes, and a trace with such sections is no worse a trace. Decodes the columns itself: the document is the contract.
#include <gtest/gtest.h>
#include <zstd.h>

#include "profiler/reachability.h"
#include "tests/unit/sample_traces.h"
#include "tools/section_scanner.h"
#include "tools/table_view.h"
#include "tools/trace_source.h"

namespace tidemark {
namespace {

using namespace sample;

struct Part {
  std::vector<uint64_t> header;
  std::vector<TraceLeakRow> rows;
};

void DecodeRows(const TableView& table, std::vector<TraceLeakRow>* rows) {
  auto classes = table.Column(LeakColumn::kClass), roots = table.Column(LeakColumn::kRoot);
  auto nodes = table.Column(LeakColumn::kNode), blocks = table.Column(LeakColumn::kBlocks);
  auto bytes = table.Column(LeakColumn::kBytes), addresses = table.Column(LeakColumn::kAddress);
  auto leaders = table.Column(LeakColumn::kLeader), flags = table.Column(LeakColumn::kFlags);
  uint64_t node = 0, address = 0;
  for (uint64_t i = 0; i < table.rows(); i++) {
    TraceLeakRow row;
    row.leak_class = classes.GetByte();
    row.root = roots.GetByte();
    row.node = static_cast<uint32_t>(node += nodes.GetSigned());
    row.blocks = blocks.Get();
    row.bytes = bytes.Get();
    row.address = (address += addresses.GetSigned()) * 16;
    row.leader = (address + leaders.GetSigned()) * 16;
    row.flags = table.Has(LeakColumn::kFlags) ? static_cast<uint32_t>(flags.Get()) : 0;
    rows->push_back(row);
  }
  for (const ColumnCursor* column : {&classes, &roots, &nodes, &blocks, &bytes, &addresses, &leaders, &flags}) {
    EXPECT_TRUE(column->ok() && column->AtEnd());
  }
}

std::vector<Part> PartsOf(const std::string& path) {
  auto source = TraceSource::Open(path);
  std::vector<Part> parts;
  if (!source) {
    ADD_FAILURE() << source.error().message;
    return parts;
  }
  for (const SectionPlace& place : ScanSections(source->get()).sections) {
    if (place.header.type != static_cast<uint16_t>(SectionType::kLeaks)) continue;
    EXPECT_EQ(place.header.subject, 0u);
    std::string payload((*source)->View(place.offset + sizeof place.header, place.header.stored_bytes));
    if (place.header.encoding == static_cast<uint16_t>(Encoding::kZstd)) {
      std::string raw(place.header.raw_bytes, 0);
      EXPECT_EQ(ZSTD_decompress(raw.data(), raw.size(), payload.data(), payload.size()), raw.size());
      payload = raw;
    }
    TableView table;
    EXPECT_TRUE(table.Parse(payload));
    Part part;
    ColumnCursor header = table.Column(LeakColumn::kCheck);
    while (!header.AtEnd()) part.header.push_back(header.Get());
    DecodeRows(table, &part.rows);
    parts.push_back(part);
  }
  return parts;
}

TraceLeakCheck SampleCheck(uint32_t number) {
  return {number,
          LeakTrigger::kExitAfter,
          LeakMethod::kInPlace,
          LeakOutcome::kTimedOut,
          kLeaksThreadsRan,
          kMax64,
          1000,
          2000,
          3,
          1,
          1 << 30,
          10'000'000,
          kMax64};
}

std::vector<uint64_t> HeaderWords(uint32_t number, uint32_t part, bool last) {
  return {number, part, last, 2, 1, 2, 1, kMax64, 1000, 2000, 3, 1, 1 << 30, 10'000'000, kMax64};
}

void ExpectEqualRows(const std::vector<TraceLeakRow>& found, std::span<const TraceLeakRow> expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); i++) {
    const TraceLeakRow &a = found[i], &b = expected[i];
    EXPECT_EQ(std::tie(a.leak_class, a.root, a.flags, a.node, a.blocks, a.bytes, a.address, a.leader),
              std::tie(b.leak_class, b.root, b.flags, b.node, b.blocks, b.bytes, b.address, b.leader))
        << "row " << i;
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Leaks, RowsAndNumbersSurvive) {
  const uint8_t definite = static_cast<uint8_t>(LeakClass::kDefinitelyLost);
  const uint8_t indirect = static_cast<uint8_t>(LeakClass::kIndirectlyLost);
  const uint8_t mapping = static_cast<uint8_t>(RootKind::kMapping);
  const std::vector<TraceLeakRow> first = {{definite, 0, 0, 268435455, 1, 0, 0x7f0000000010, 0x7f0000000010},
                                           {indirect, 0, kLeakInherited, 1, 1, kMax64, 0x10, 0x7f0000000010},
                                           {indirect, 0, 0, 1, 1, 17, 0x7ffffffffff0, 0x7f0000000010},
                                           {0, mapping, kLeakHeapSize, 7, 1'000'000, 1 << 30, 0, 0}};
  const std::vector<TraceLeakRow> second = {{definite, 0, 0, 2, 1, 64, 0x40, 0x40}};
  TemporaryPath path;
  {
    std::string error;
    auto writer = TraceWriter::Create(path.str(), &error);
    ASSERT_NE(writer, nullptr) << error;
    writer->WriteInfo(R"({"mode":"full"})");
    writer->AddStackNode({1, 0, 0, 0x401000});
    writer->AddLeaks(SampleCheck(1), first, false);
    writer->AddLeaks(SampleCheck(1), {}, true);
    writer->AddLeaks(SampleCheck(2), second, true);
    writer->Finish("{}");
  }
  const std::vector<Part> parts = PartsOf(path.str());
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].header, HeaderWords(1, 0, false));
  EXPECT_EQ(parts[1].header, HeaderWords(1, 1, true));
  EXPECT_EQ(parts[2].header, HeaderWords(2, 0, true));
  ExpectEqualRows(parts[0].rows, first);
  ExpectEqualRows(parts[1].rows, {});
  ExpectEqualRows(parts[2].rows, second);
  auto reader = TraceReader::Open(path.str());
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  const std::vector<TraceLeaks>& checks = (*reader)->leak_checks();
  ASSERT_EQ(checks.size(), 2u);
  EXPECT_TRUE(checks[0].whole && checks[1].whole);
  EXPECT_EQ(checks[0].check.outcome, LeakOutcome::kTimedOut);
  EXPECT_EQ(checks[0].check.live_bytes, kMax64);
  std::vector<TraceLeakRow> with_known_stacks = first;
  for (TraceLeakRow& row : with_known_stacks) row.node = row.node == 1 ? 1 : 0;
  ExpectEqualRows(checks[0].rows, with_known_stacks);
  EXPECT_EQ((*reader)->nodes().size(), 2u) << "the stacks stand before the rows that name them";
  for (const std::string& problem : (*reader)->problems()) EXPECT_EQ(problem.find("section"), std::string::npos);
}

TEST(Leaks, ManyRowsTakeSeveralParts) {
  std::vector<TraceLeakRow> rows(150'000);
  for (size_t i = 0; i < rows.size(); i++) {
    rows[i].address = rows[i].leader = 0x7f0000000000 + i * 48;
    rows[i].bytes = i;
  }
  TemporaryPath path;
  {
    std::string error;
    auto writer = TraceWriter::Create(path.str(), &error);
    ASSERT_NE(writer, nullptr) << error;
    writer->AddLeaks(SampleCheck(1), rows, true);
  }
  const std::vector<Part> parts = PartsOf(path.str());
  ASSERT_EQ(parts.size(), 3u);
  size_t done = 0;
  for (uint32_t part = 0; part < parts.size(); part++) {
    EXPECT_EQ(parts[part].header, HeaderWords(1, part, part + 1 == parts.size()));
    ASSERT_LE(done + parts[part].rows.size(), rows.size());
    ExpectEqualRows(parts[part].rows, std::span(rows).subspan(done, parts[part].rows.size()));
    done += parts[part].rows.size();
  }
  EXPECT_EQ(done, rows.size());
}

// The numbers in every column's bytes stay inside of what a row can say, and a check without one of its parts is none.
TEST(Leaks, PartsThatAreMissingAreMissed) {
  TemporaryPath path;
  {
    std::string error;
    auto writer = TraceWriter::Create(path.str(), &error);
    ASSERT_NE(writer, nullptr) << error;
    WriteLeaks(writer.get(), true);
  }
  const std::string whole = ReadFile(path.str());
  auto reader = TraceReader::FromMemory(whole);
  ASSERT_TRUE(reader.ok());
  ASSERT_EQ((*reader)->leak_checks().size(), 3u);
  EXPECT_TRUE((*reader)->leak_checks()[0].whole && (*reader)->leak_checks()[1].whole);
  EXPECT_EQ((*reader)->leak_checks()[0].rows.size(), 4u);
  EXPECT_FALSE((*reader)->leak_checks()[2].whole) << "it has no last part";
  auto source = TraceSource::Open(path.str());
  ASSERT_TRUE(source.ok());
  size_t part = 0;
  for (const SectionPlace& place : ScanSections(source->get()).sections) {
    if (place.header.type != static_cast<uint16_t>(SectionType::kLeaks)) continue;
    std::string damaged = whole;
    damaged[place.offset + sizeof place.header + 3] ^= 0x40;
    auto rest = TraceReader::FromMemory(damaged);
    ASSERT_TRUE(rest.ok());
    const std::vector<TraceLeaks>& checks = (*rest)->leak_checks();
    if (part < 2) {
      ASSERT_EQ(checks.size(), 3u);
      EXPECT_FALSE(checks[0].whole) << "part " << part;
      EXPECT_EQ(checks[0].rows.size(), 2u);
    } else {
      EXPECT_EQ(checks.size(), 2u) << "part " << part;
    }
    part++;
  }
  EXPECT_EQ(part, 4u);
}

}  // namespace
}  // namespace tidemark
