// The parts below the symbolizer: flattened ranges against a naive search, and damaged files, which may give wrong
// names but never a crash or a hang. Damage is drawn with fixed seeds: a failure repeats.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tools/elf_image.h"
#include "tools/interval_table.h"
#include "tools/symbolizer.h"
#include "tools/zstd_sections.h"

namespace tidemark {
namespace {

struct Range {
  uint64_t low, high;
  uint32_t depth;
};

TEST(IntervalTable, AgreesWithSearchingAllRanges) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    IntervalTable table;
    std::vector<Range> ranges;
    const int count = static_cast<int>(random() % 20);
    for (int i = 0; i < count; ++i) {
      const uint64_t low = random() % 50;
      ranges.push_back({low, low + random() % 20, static_cast<uint32_t>(random() % 4)});
      table.Add(low, ranges.back().high, ranges.back().depth, static_cast<uint32_t>(i));
    }
    table.Build();
    for (uint64_t address = 0; address < 80; ++address) {
      uint32_t expected = IntervalTable::kNone;
      for (uint32_t i = 0; i < ranges.size(); ++i) {
        if (address < ranges[i].low || address >= ranges[i].high) continue;
        if (expected == IntervalTable::kNone || ranges[i].depth >= ranges[expected].depth) expected = i;
      }
      ASSERT_EQ(table.Find(address), expected) << "round " << round << " address " << address;
    }
  }
}

TEST(IntervalTable, ExtremeRanges) {
  IntervalTable table;
  table.Add(0, UINT64_MAX, 0, 1);
  table.Add(5, 5, 9, 2);
  table.Add(9, 3, 9, 3);
  table.Add(UINT64_MAX - 1, UINT64_MAX, 1, 4);
  table.Build();
  EXPECT_EQ(table.Find(5), 1u);
  EXPECT_EQ(table.Find(UINT64_MAX - 1), 4u);
  EXPECT_EQ(table.Find(UINT64_MAX), IntervalTable::kNone);
}

std::string ReadProgram(const std::string& name) {
  const char* folder = std::getenv("TIDEMARK_SYMBOLIZER_PROGRAMS");  // set by meson
  std::ifstream file(std::string(folder == nullptr ? "." : folder) + "/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Symbolizes all of the (damaged) file's plausible text.
size_t SymbolizeAll(const std::string& bytes, const std::string& path) {
  std::ofstream(path, std::ios::binary) << bytes;
  TraceModule module;
  module.path = path;
  SymbolizerOptions options;
  options.use_cache = false;
  options.allow_llvm = false;
  options.debug_directories.clear();
  auto symbolizer = Symbolizer::Create(options);
  const uint32_t id = symbolizer->AddModule(module);
  std::vector<uint64_t> addresses;
  for (uint64_t address = 0x1000; address < 0x1300; address += 3) addresses.push_back(address);
  symbolizer->Prefetch(id, addresses);
  size_t frames = 0;
  for (uint64_t address : addresses) frames += symbolizer->Resolve(id, address).frames.size();
  symbolizer->Status(id);
  return frames;
}

class DamagedFile : public testing::TestWithParam<const char*> {};

TEST_P(DamagedFile, NeitherCrashesNorHangs) {
  const std::string whole = ReadProgram(GetParam());
  if (whole.empty()) GTEST_SKIP() << GetParam() << " was not built";
  const std::string path = testing::TempDir() + "/damaged-" + GetParam();
  ASSERT_GT(SymbolizeAll(whole, path), 0u);
  std::string error;
  std::vector<std::pair<uint64_t, uint64_t>> sections;
  const auto image = ElfImage::FromBytes(whole, &error);
  for (const ElfSection& section : image->sections()) {
    const bool wanted = section.name.starts_with(".debug_") || section.name.ends_with("sym");
    if (wanted && !image->BytesOf(section).empty()) sections.emplace_back(section.offset, section.size_bytes);
  }
  const auto start = std::chrono::steady_clock::now();
  std::mt19937 random(7);
  int still_readable = 0;
  for (int round = 0; round < 400; ++round) {
    std::string damaged = whole;
    const int count = 1 << (random() % 8);
    // A third of the rounds hit one neighbourhood hard, a third the whole file, a third the debug sections only, so
    // that the headers before them stay sound.
    const size_t center = random() % damaged.size();
    for (int i = 0; i < count; ++i) {
      size_t at = random() % damaged.size();
      if (round % 3 == 1) at = (center + random() % 64) % damaged.size();
      if (round % 3 == 2 && !sections.empty()) {
        const auto& [offset, length] = sections[random() % sections.size()];
        at = offset + random() % length;
      }
      damaged[at] = static_cast<char>(round % 4 == 0 ? 0xff : random());
    }
    if (round % 16 == 0) damaged.resize(random() % damaged.size());
    if (SymbolizeAll(damaged, path) > 0) ++still_readable;
  }
  EXPECT_GT(still_readable, 20) << "the damage never got past the ELF header";
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(120));
  std::remove(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(Programs, DamagedFile,
                         testing::Values("gcc", "gcc-dwarf4", "clang", "gcc-zlib", "gcc-zstd", "nested", "libsymtab.so",
                                         "libminidebug.so", "libdynsym.so"));

TEST(ElfImage, RefusesWhatIsNoElf) {
  std::string error;
  EXPECT_EQ(ElfImage::FromBytes("", &error), nullptr);
  EXPECT_EQ(error, "not an ELF file");
  EXPECT_EQ(ElfImage::FromBytes(std::string(100, 'x'), &error), nullptr);
  std::string other_class = ReadProgram("gcc");
  other_class[4] = 1;  // 32 bit
  EXPECT_EQ(ElfImage::FromBytes(other_class, &error), nullptr);
  EXPECT_EQ(error, "not a 64-bit little endian ELF file");
  EXPECT_EQ(ElfImage::Open("/nonexistent", &error), nullptr);
  EXPECT_EQ(error, "No such file or directory");
  EXPECT_EQ(ElfImage::Open("/", &error), nullptr);
}

TEST(ZstdSections, RefusesDecompressionBombs) {
  std::string bytes = ReadProgram("gcc-zstd");
  if (bytes.empty()) GTEST_SKIP() << "gcc-zstd was not built";
  std::string error;
  auto image = ElfImage::FromBytes(bytes, &error);
  ASSERT_TRUE(image->HasZstdDebugSections());
  EXPECT_NE(UnpackZstdSections(*image, &error), nullptr);
  const ElfSection* section = image->FindSection(".debug_info");
  const uint64_t claimed = uint64_t{1} << 40;
  bytes.replace(section->offset + 8, 8, reinterpret_cast<const char*>(&claimed), 8);
  image = ElfImage::FromBytes(bytes, &error);
  EXPECT_EQ(UnpackZstdSections(*image, &error), nullptr);
  EXPECT_NE(error.find("implausible"), std::string::npos) << error;
}

}  // namespace
}  // namespace tidemark
