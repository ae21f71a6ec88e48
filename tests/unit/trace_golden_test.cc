// Fixed bytes: golden traces and the hex example of docs/trace-format.md. They hold the format still; a change here is
// a change of the format and needs a new version.
//
// tests/golden/NAME.tmk is the trace, NAME.txt its dump, which readers in other languages compare with too. With
// TIDEMARK_UPDATE_GOLDEN=1 the test writes both files anew instead of comparing.
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstddef>
#include <cstring>
#include <functional>

#include "profiler/columns.h"
#include "profiler/crc32c.h"
#include "profiler/section_file.h"
#include "profiler/trace_format.h"
#include "tests/unit/sample_traces.h"

namespace tidemark {
namespace {

using namespace sample;

std::string SourcePath(const std::string& name) {
  const char* root = getenv("TIDEMARK_SOURCE_DIR");
  return (root != nullptr ? std::string(root) + "/" : std::string()) + name;
}

std::string Written(const std::function<void(TraceWriter*)>& write) {
  TemporaryPath path;
  std::string error;
  auto writer = TraceWriter::Create(path.str(), &error);
  EXPECT_NE(writer, nullptr) << error;
  write(writer.get());
  writer.reset();
  return ReadFile(path.str());
}

// A trace of a later minor version: a section type, a column, a header field and a kind of event nobody knows yet.
std::string NewerMinor() {
  TemporaryPath path;
  std::string error;
  auto file = SectionFile::Create(path.str(), &error);
  EXPECT_NE(file, nullptr) << error;
  Payload payload;
  payload.bytes = R"({"mode":"full","a_new_key":{"x":[1,2]}})";
  file->Append(SectionType::kInfo, 0, payload);
  payload.bytes = "a section of type 77";
  file->Append(static_cast<SectionType>(77), 0, payload);
  const auto add = [&payload](uint32_t id, std::string_view bytes) { payload.AddColumnBytes(id, bytes); };
  payload.StartTable(3);
  add(60, "a new column");
  add(1, std::string_view("\x01\x00\x00\x00\x64\x00\x7f\x7f", 8));  // two more header fields
  add(2, std::string_view("\x08\x06\x00", 3));                      // alloc of shape 0, an unknown kind, free
  add(3, std::string_view("\x01\x14\x00\x02", 4));
  add(4, std::string_view("\x20", 1));
  add(5, std::string_view("\x00", 1));
  add(8, std::string_view("\x00\x80\x01", 3));
  add(9, std::string_view("\x01", 1));
  add(1000, "another");
  file->Append(SectionType::kEvents, 1, payload);
  payload.bytes = "{}";
  file->Append(SectionType::kEnd, 0, payload);
  file->FinishWithIndex();
  std::string bytes = ReadFile(path.str());
  FileHeader header;
  memcpy(&header, bytes.data(), sizeof header);
  header.minor = 7;
  header.checksum = Crc32c(&header, offsetof(FileHeader, checksum));
  bytes.replace(0, sizeof header, reinterpret_cast<const char*>(&header), sizeof header);
  return bytes;
}

std::string Damaged() {
  std::string bytes = Written([](TraceWriter* writer) { WriteThreads(writer, 0, true); });
  bytes[bytes.size() / 2] ^= 0x10;
  return bytes;
}

std::string Interrupted() {
  std::string bytes = Written([](TraceWriter* writer) { WriteThreads(writer, 0, false); });
  bytes.resize(bytes.size() - 100);
  return bytes;
}

struct Golden {
  const char* name;
  std::function<std::string()> make;
};

const Golden kGolden[] = {
    {"minimal", [] { return Written(WriteMinimal); }},
    {"every_kind", [] { return Written(WriteEveryKind); }},
    {"threads", [] { return Written([](TraceWriter* w) { WriteThreads(w, 0, true); }); }},
    {"coarse_time", [] { return Written([](TraceWriter* w) { WriteThreads(w, 5, true); }); }},
    {"leaks", [] { return Written([](TraceWriter* w) { WriteLeaks(w, true); }); }},
    {"newer_minor", NewerMinor},
    {"damaged", Damaged},
    {"interrupted", Interrupted},
};

class GoldenTrace : public testing::TestWithParam<Golden> {};

TEST_P(GoldenTrace, IsWhatTheWriterWritesAndTheReaderReads) {
  const std::string base = SourcePath(std::string("tests/golden/") + GetParam().name);
  const std::string bytes = GetParam().make();
  if (getenv("TIDEMARK_UPDATE_GOLDEN") != nullptr) {
    WriteFile(base + ".tmk", bytes);
    auto reader = TraceReader::FromMemory(bytes);
    ASSERT_TRUE(reader.ok());
    WriteFile(base + ".txt", Dump(reader->get()));
  }
  const std::string golden = ReadFile(base + ".tmk");
  auto reader = TraceReader::Open(base + ".tmk");
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  EXPECT_EQ(Dump(reader->get()), ReadFile(base + ".txt"));
  // What compressors of other versions make of the same columns is right as well, but not the same bytes.
  if (ZSTD_versionNumber() == 10504) {
    EXPECT_TRUE(bytes == golden) << base << ".tmk: the writer no longer writes these bytes";
  } else {
    auto fresh = TraceReader::FromMemory(bytes);
    ASSERT_TRUE(fresh.ok());
    EXPECT_FALSE((*fresh)->info().empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Traces, GoldenTrace, testing::ValuesIn(kGolden),
                         [](const testing::TestParamInfo<Golden>& golden) { return std::string(golden.param.name); });

// ---- The document.

// The lines of the fenced block that starts with ```hex: "offset  bytes  explanation".
std::string ParseHexExample(const std::string& document) {
  const size_t start = document.find("```hex\n");
  EXPECT_NE(start, std::string::npos);
  std::istringstream lines(document.substr(start + 7, document.find("\n```", start + 7) - start - 7));
  std::string line, bytes;
  while (std::getline(lines, line)) {
    if (line.empty()) continue;
    EXPECT_EQ(std::stoul(line.substr(0, 4), nullptr, 16), bytes.size()) << "wrong offset: " << line;
    // Bytes are two digits and a space each; two spaces end them.
    for (size_t at = 6; at + 1 < line.size() && isxdigit(line[at]) && isxdigit(line[at + 1]); at += 3) {
      bytes += static_cast<char>(std::stoul(line.substr(at, 2), nullptr, 16));
    }
  }
  return bytes;
}

std::string HexLines(const std::string& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i++) {
    char two[4];
    snprintf(two, sizeof two, "%02x%c", static_cast<unsigned char>(bytes[i]), i % 16 == 15 ? '\n' : ' ');
    text += two;
  }
  return text;
}

TEST(Document, TheHexExampleIsAWholeTrace) {
  const std::string bytes = ParseHexExample(ReadFile(SourcePath("docs/trace-format.md")));
  EXPECT_EQ(HexLines(bytes), HexLines(Written([](TraceWriter* writer) {
              writer->WriteInfo(R"({"mode":"full"})");
              writer->AddStackNode({1, 0, 0, 0x401136});
              writer->AddStackNode({2, 1, 0, 0x401150});
              WriteEvents(writer, 1, 0, 0,
                          {Alloc(1000, 0x7f0000000040, 24, 2), Alloc(1010, 0x7f0000000060, 24, 2),
                           Free(1030, 0x7f0000000040), Free(1030, 0x7e0000000000)});
              writer->Finish("{}");
            })));
  auto reader = TraceReader::FromMemory(bytes);
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  uint64_t events = 0;
  (*reader)->ForEachEvent([&events](uint32_t, const TraceEvent&) { events++; });
  EXPECT_EQ(events, 4u);
}

// The tables of the document name every number of the header file.
TEST(Document, NamesTheConstants) {
  const std::string document = ReadFile(SourcePath("docs/trace-format.md"));
  for (uint64_t number : {uint64_t{kMaxSectionBytes}, uint64_t{kMaxJsonBytes}, uint64_t{kMaxEventSectionBytes},
                          uint64_t{kMaxEventsPerSection}, uint64_t{kMaxTextBytes}}) {
    std::string grouped = std::to_string(number);
    for (size_t i = grouped.size(); i > 3; i -= 3) grouped.insert(i - 3, 1, ',');
    EXPECT_NE(document.find(grouped), std::string::npos) << grouped;
  }
}

}  // namespace
}  // namespace tidemark
