// The symbol cache: what it keeps, what it refuses, what it removes, and that the symbolizer asks it rightly.
#include "tools/symbol_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tools/elf_image.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;

class SymbolCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::path(testing::TempDir()) / ("symbol-cache-" + std::to_string(getpid()) +
                                                 testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  static CachedModule Sample(int addresses) {
    CachedModule module;
    module.key = "some key";
    module.status = {SymbolSource::kSymtab, "a reason"};
    for (int i = 0; i < addresses; ++i) {
      SymbolFrame inner{"inner" + std::to_string(i), "/src/inner.h", static_cast<uint32_t>(i), true};
      module.addresses[static_cast<uint64_t>(i) * 16].frames = {inner, {"outer", "/src/outer.cc", 7, false}};
    }
    return module;
  }
  static std::string Read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static mode_t ModeOf(const fs::path& path) {
    struct stat status {};
    stat(path.c_str(), &status);
    return status.st_mode & 0777;
  }

  fs::path directory_;
};

TEST_F(SymbolCacheTest, KeepsWhatItWasGiven) {
  SymbolCache cache(directory_, 1 << 20);
  EXPECT_EQ(cache.Load("\x01\x02"), nullptr);
  ASSERT_TRUE(cache.Store("\x01\x02", Sample(100)));
  const auto cached = cache.Load("\x01\x02");
  ASSERT_NE(cached, nullptr);
  EXPECT_EQ(cached->key(), "some key");
  EXPECT_EQ(cached->status().source, SymbolSource::kSymtab);
  EXPECT_EQ(cached->status().reason, "a reason");
  EXPECT_EQ(cached->size(), 100u);
  SymbolizedAddress result;
  ASSERT_TRUE(cached->Find(99 * 16, &result));
  ASSERT_EQ(result.frames.size(), 2u);
  EXPECT_EQ(result.frames[0].function, "inner99");
  EXPECT_EQ(result.frames[0].line, 99u);
  EXPECT_TRUE(result.frames[0].inlined);
  EXPECT_EQ(result.frames[1].file, "/src/outer.cc");
  EXPECT_FALSE(result.frames[1].inlined);
  EXPECT_FALSE(cached->Find(17, &result));
  EXPECT_EQ(ModeOf(directory_), 0700u);
  EXPECT_EQ(ModeOf(directory_ / "0102.tmsym"), 0600u);
}

TEST_F(SymbolCacheTest, WithoutBuildIdNothingIsKept) {
  SymbolCache cache(directory_, 1 << 20);
  EXPECT_FALSE(cache.Store("", Sample(1)));
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(SymbolCacheTest, EveryDamagedByteIsNoticed) {
  SymbolCache cache(directory_, 1 << 20);
  ASSERT_TRUE(cache.Store("\x05", Sample(5)));
  const std::string whole = Read(directory_ / "05.tmsym");
  ASSERT_NE(CachedSymbols::Parse(whole), nullptr);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    EXPECT_EQ(CachedSymbols::Parse(damaged), nullptr) << "byte " << at;
  }
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_EQ(CachedSymbols::Parse(whole.substr(0, length)), nullptr) << "length " << length;
  }
  EXPECT_EQ(CachedSymbols::Parse(whole + "x"), nullptr);
}

TEST_F(SymbolCacheTest, LeastRecentlyUsedGoesFirst) {
  const uint64_t one_file = [&] {
    SymbolCache cache(directory_, 1 << 20);
    cache.Store("\x01", Sample(50));
    return fs::file_size(directory_ / "01.tmsym");
  }();
  SymbolCache cache(directory_, one_file * 2 + one_file / 2);
  cache.Store("\x02", Sample(50));
  const timespec old_times[2] = {{1000, 0}, {1000, 0}}, newer_times[2] = {{2000, 0}, {2000, 0}};
  utimensat(AT_FDCWD, (directory_ / "01.tmsym").c_str(), old_times, 0);
  utimensat(AT_FDCWD, (directory_ / "02.tmsym").c_str(), newer_times, 0);
  EXPECT_NE(cache.Load("\x01"), nullptr);  // used: younger than 02 now
  cache.Store("\x03", Sample(50));
  EXPECT_NE(cache.Load("\x01"), nullptr);
  EXPECT_EQ(cache.Load("\x02"), nullptr);
  EXPECT_NE(cache.Load("\x03"), nullptr);
}

TEST_F(SymbolCacheTest, RefusesDirectoriesOthersCanWrite) {
  fs::create_directories(directory_);
  chmod(directory_.c_str(), 0777);
  SymbolCache cache(directory_, 1 << 20);
  EXPECT_NE(cache.reason().find("chmod"), std::string::npos);
  EXPECT_FALSE(cache.Store("\x01", Sample(1)));
}

TEST_F(SymbolCacheTest, ForeignFilesAreLeftAlone) {
  SymbolCache cache(directory_, 10);
  std::ofstream(directory_ / "precious.txt") << std::string(1000, 'x');
  fs::create_symlink(directory_ / "precious.txt", directory_ / "07.tmsym");
  EXPECT_EQ(cache.Load("\x07"), nullptr);
  EXPECT_FALSE(cache.Store("\x08", Sample(100)));  // larger than the bound
  EXPECT_EQ(fs::file_size(directory_ / "precious.txt"), 1000u);
}

TEST_F(SymbolCacheTest, ConcurrentWritersLeaveWholeFiles) {
  SymbolCache cache(directory_, 1 << 20);
  for (int child = 0; child < 4; ++child) {
    if (fork() == 0) {
      bool fine = true;
      for (int i = 0; i < 50; ++i) {
        fine &= cache.Store("\x09", Sample(10 + child));
        fine &= cache.Load("\x09") != nullptr;
      }
      _exit(fine ? 0 : 1);
    }
  }
  for (int child = 0; child < 4; ++child) {
    int status = 0;
    wait(&status);
    EXPECT_EQ(status, 0);
  }
  EXPECT_NE(cache.Load("\x09"), nullptr);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), fs::directory_iterator()), 1);
}

// Through the symbolizer: results survive the program, and better debug information replaces them.
TEST_F(SymbolCacheTest, SymbolizerUsesItAndNoticesNewDebugSymbols) {
  const fs::path programs = std::getenv("TIDEMARK_SYMBOLIZER_PROGRAMS");
  const fs::path program = directory_ / "work" / "program", debug_directory = directory_ / "debug";
  fs::create_directories(program.parent_path());
  fs::copy_file(programs / "by-build-id", program);
  TraceModule module;
  module.path = program;
  std::string error;
  module.build_id = ElfImage::Open(program, &error)->build_id();
  // main is no dynamic symbol of the stripped program; some PLT stub is.
  uint64_t known = 0;
  SymbolizerOptions options;
  options.cache_directory = directory_ / "cache";
  options.debug_directories = {debug_directory};
  {
    auto symbolizer = Symbolizer::Create(options);
    const uint32_t id = symbolizer->AddModule(module);
    for (uint64_t address = 0x1000; address < 0x1100 && known == 0; address += 8) {
      if (!symbolizer->Resolve(id, address).frames.empty()) known = address;
    }
    ASSERT_NE(known, 0u);
    EXPECT_EQ(symbolizer->Status(id).source, SymbolSource::kDynsym);
    symbolizer->SaveCache();
  }
  {
    // The program is gone: names come from the cache, by build-id.
    TraceModule gone = module;
    gone.path = "/nonexistent/program";
    auto symbolizer = Symbolizer::Create(options);
    const uint32_t id = symbolizer->AddModule(gone);
    ASSERT_FALSE(symbolizer->Resolve(id, known).frames.empty());
    EXPECT_NE(symbolizer->Resolve(id, known).frames[0].function.find("@plt"), std::string::npos);
    EXPECT_EQ(symbolizer->Status(id).source, SymbolSource::kDynsym);
    EXPECT_NE(symbolizer->Status(id).reason.find("cache"), std::string::npos) << symbolizer->Status(id).reason;
  }
  const std::string hex = ToHex(module.build_id);
  fs::create_directories(debug_directory / ".build-id" / hex.substr(0, 2));
  fs::copy_file(programs / "by-build-id.debug",
                debug_directory / ".build-id" / hex.substr(0, 2) / (hex.substr(2) + ".debug"));
  {
    auto symbolizer = Symbolizer::Create(options);
    const uint32_t id = symbolizer->AddModule(module);
    EXPECT_EQ(symbolizer->Status(id).source, SymbolSource::kDwarf);
    bool has_lines = false;
    std::vector<uint64_t> addresses;
    for (uint64_t address = 0x1000; address < 0x1300; ++address) addresses.push_back(address);
    symbolizer->Prefetch(id, addresses);
    for (uint64_t address : addresses) {
      for (const SymbolFrame& frame : symbolizer->Resolve(id, address).frames) has_lines |= frame.line != 0;
    }
    EXPECT_TRUE(has_lines);
    symbolizer->SaveCache();
  }
  {
    // Debug symbols removed again: the better results of the cache stay.
    fs::remove_all(debug_directory);
    auto symbolizer = Symbolizer::Create(options);
    EXPECT_EQ(symbolizer->Status(symbolizer->AddModule(module)).source, SymbolSource::kDwarf);
  }
}

}  // namespace
}  // namespace tidemark
