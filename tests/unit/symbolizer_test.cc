// The symbolizer from outside: programs with every way of storing debug information are asked for known addresses.
// Addresses come from labels in the code (nm), lines from `TAG:` comments in the sources.
#include "tools/symbolizer.h"

#include <gtest/gtest.h>
#include <sys/auxv.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tools/elf_image.h"
#include "tools/llvm_symbolizer.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;

// Set by meson; a run by hand without it fails to find files, which is said by the test that looks for them.
std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string Programs() { return FromEnvironment("TIDEMARK_SYMBOLIZER_PROGRAMS"); }

std::string WhyMissing(const std::string& program) {
  std::ifstream missing(Programs() + "/MISSING");
  for (std::string line; std::getline(missing, line);) {
    if (line.starts_with(program + ":")) return line;
  }
  return "";
}

// The address of a label, from the symbol table of an unstripped sibling.
uint64_t AddressOf(const std::string& program, const std::string& label) {
  const std::string command = "nm '" + Programs() + "/" + program + "'";
  FILE* listing = popen(command.c_str(), "r");
  uint64_t address = 0;
  char line[4096];
  while (listing != nullptr && std::fgets(line, sizeof(line), listing) != nullptr) {
    std::istringstream fields(line);
    std::string value, type, name;
    fields >> value >> type >> name;
    if (name == label) address = std::stoull(value, nullptr, 16);
  }
  if (listing != nullptr) pclose(listing);
  EXPECT_NE(address, 0u) << label << " in " << program;
  return address;
}

uint32_t LineOf(const std::string& source, const std::string& tag) {
  std::ifstream file(FromEnvironment("TIDEMARK_SOURCE_DIR") + "/tests/unit/symbolizer/" + source);
  uint32_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    const size_t at = line.find("TAG: " + tag);
    if (at == std::string::npos) continue;
    const size_t end = at + 5 + tag.size();
    if (end == line.size() || line[end] == ' ') return number;
  }
  ADD_FAILURE() << "no TAG: " << tag << " in " << source;
  return 0;
}

TraceModule ModuleAt(const std::string& path) {
  TraceModule module;
  module.path = path;
  std::string error;
  const auto image = ElfImage::Open(path, &error);
  if (image != nullptr) module.build_id = image->build_id();
  return module;
}

SymbolizerOptions WithoutCache() {
  SymbolizerOptions options;
  options.use_cache = false;
  return options;
}

// "function@file:line|inlined" of every frame, without directories and parameter lists.
std::string Chain(const SymbolizedAddress& address) {
  std::string chain;
  for (const SymbolFrame& frame : address.frames) {
    chain += (chain.empty() ? "" : " < ") +
             frame.function.substr(
                 0, frame.function.find(
                        '(', frame.function.find("(anonymous") == std::string::npos ? 0 : frame.function.find(')')));
    if (!frame.file.empty()) chain += "@" + frame.file.substr(frame.file.rfind('/') + 1);
    if (frame.line != 0) chain += ":" + std::to_string(frame.line);
    if (frame.inlined) chain += " inlined";
  }
  return chain;
}

std::string At(const std::string& source, const std::string& tag) {
  return "@" + source + ":" + std::to_string(LineOf(source, tag));
}

// The three-layer chain every program with line information must give.
std::string InnerChain() {
  return "depths::Inner" + At("inner.h", "inner") + " inlined < depths::Middle<int>::Scale" +
         At("layers.h", "middle_calls_inner") + " inlined < depths::Physical" +
         At("layers.cc", "physical_calls_middle");
}

class StoredDebugInfo : public testing::TestWithParam<std::string> {
 protected:
  // Where the labels of a program are found when it is stripped itself.
  std::string Labels() const {
    if (GetParam() == "debuglink") return "gcc";
    if (GetParam() == "debuglink-crc") return "gcc-no-build-id";
    return GetParam();
  }
};

TEST_P(StoredDebugInfo, GivesFunctionsFilesLinesAndInlines) {
  const std::string why = WhyMissing(GetParam());
  if (!why.empty()) GTEST_SKIP() << why;
  if (GetParam() == "packaged" && FindLlvmSymbolizer().empty()) GTEST_SKIP() << "llvm-symbolizer is not installed";
  auto symbolizer = Symbolizer::Create(WithoutCache());
  const uint32_t module = symbolizer->AddModule(ModuleAt(Programs() + "/" + GetParam()));
  const auto chain = [&](const char* label) { return Chain(symbolizer->Resolve(module, AddressOf(Labels(), label))); };
  EXPECT_EQ(symbolizer->Status(module).source, GetParam() == "packaged" ? SymbolSource::kLlvm : SymbolSource::kDwarf)
      << symbolizer->Status(module).reason;
  if (GetParam() == "packaged") {
    // llvm-symbolizer gives functions without linkage name without their scope.
    EXPECT_EQ(chain("label_middle"), "depths::Middle<int>::Scale" + At("layers.h", "middle") +
                                         " inlined < depths::Physical" + At("layers.cc", "physical_calls_middle"));
    return;
  }
  EXPECT_EQ(chain("label_inner"), InnerChain());
  EXPECT_EQ(chain("label_physical"), "depths::Physical" + At("layers.cc", "physical"));
  EXPECT_EQ(chain("label_hidden"), "depths::(anonymous namespace)::Hidden" + At("layers.cc", "hidden"));
  EXPECT_EQ(chain("label_hidden_inline"), "depths::(anonymous namespace)::HiddenInline" +
                                              At("layers.cc", "hidden_inline") + " inlined < depths::Physical" +
                                              At("layers.cc", "physical_calls_hidden_inline"));
  EXPECT_EQ(chain("label_plain"), "plain_c_function" + At("layers.cc", "plain"));
  // The parameters of a function without linkage name come from its ELF symbol.
  EXPECT_EQ(symbolizer->Resolve(module, AddressOf(Labels(), "label_hidden")).frames.back().function,
            "depths::(anonymous namespace)::Hidden(int)");
}

INSTANTIATE_TEST_SUITE_P(Forms, StoredDebugInfo,
                         testing::Values("gcc", "gcc-dwarf4", "gcc-dwarf5", "gcc-zlib", "gcc-zstd", "gcc-no-build-id",
                                         "gcc-gc-sections", "clang", "clang-dwarf4", "debuglink", "debuglink-crc",
                                         "split", "packaged", "dwz"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Symbolizer, FindsDebugFilesByBuildId) {
  const TraceModule module = ModuleAt(Programs() + "/by-build-id");
  const std::string hex = ToHex(module.build_id);
  const fs::path directory = fs::path(testing::TempDir()) / "debug-directory";
  fs::create_directories(directory / ".build-id" / hex.substr(0, 2));
  const fs::path debug = directory / ".build-id" / hex.substr(0, 2) / (hex.substr(2) + ".debug");
  SymbolizerOptions options = WithoutCache();
  options.debug_directories = {directory};
  const uint64_t address = AddressOf("gcc-dwarf5", "label_inner");

  fs::remove(debug);
  auto before = Symbolizer::Create(options);
  const uint32_t without = before->AddModule(module);
  EXPECT_EQ(Chain(before->Resolve(without, address)), "");
  EXPECT_NE(before->Status(without).reason.find("no debug file for build-id " + hex), std::string::npos);

  fs::copy_file(Programs() + "/by-build-id.debug", debug);
  auto after = Symbolizer::Create(options);
  EXPECT_EQ(Chain(after->Resolve(after->AddModule(module), address)), InnerChain());

  // The program is gone, its debug file is enough.
  TraceModule gone = module;
  gone.path = "/nonexistent/program";
  EXPECT_EQ(Chain(after->Resolve(after->AddModule(gone), address)), InnerChain());

  // A debug file of another build in its place must not be believed.
  fs::copy_file(Programs() + "/debuglink.debug", debug, fs::copy_options::overwrite_existing);
  auto wrong = Symbolizer::Create(options);
  EXPECT_EQ(Chain(wrong->Resolve(wrong->AddModule(module), address)), "");
}

TEST(Symbolizer, DoesNotNameAddressesOfReplacedFiles) {
  TraceModule module = ModuleAt(Programs() + "/gcc");
  const uint64_t address = AddressOf("gcc", "label_inner");
  auto symbolizer = Symbolizer::Create(WithoutCache());

  TraceModule replaced = module;
  replaced.build_id[0] ^= 1;
  uint32_t id = symbolizer->AddModule(replaced);
  EXPECT_TRUE(symbolizer->Resolve(id, address).frames.empty());
  EXPECT_EQ(symbolizer->Status(id).source, SymbolSource::kNone);
  EXPECT_NE(symbolizer->Status(id).reason.find("differs"), std::string::npos) << symbolizer->Status(id).reason;

  TraceModule gone = module;
  gone.path = "/nonexistent/program";
  id = symbolizer->AddModule(gone);
  EXPECT_TRUE(symbolizer->Resolve(id, address).frames.empty());
  EXPECT_NE(symbolizer->Status(id).reason.find("/nonexistent/program: No such file"), std::string::npos);

  // Deleted, but the same build lies at the path again: proven by the build-id, and only by it.
  TraceModule deleted = module;
  deleted.path += " (deleted)";
  EXPECT_EQ(Chain(symbolizer->Resolve(symbolizer->AddModule(deleted), address)), InnerChain());
  deleted.build_id.clear();
  EXPECT_TRUE(symbolizer->Resolve(symbolizer->AddModule(deleted), address).frames.empty());
}

TEST(Symbolizer, ReadsSymbolTablesInOrderOfWorth) {
  auto symbolizer = Symbolizer::Create(WithoutCache());
  const auto name = [&](const char* program, const char* label) {
    const uint32_t id = symbolizer->AddModule(ModuleAt(Programs() + "/" + program));
    return Chain(symbolizer->Resolve(id, AddressOf("libsymtab.so", label) + 1));
  };
  const auto source = [&](const char* program) {
    return symbolizer->Status(symbolizer->AddModule(ModuleAt(Programs() + "/" + program))).source;
  };
  EXPECT_EQ(name("libsymtab.so", "label_local"), "Local");
  EXPECT_EQ(source("libsymtab.so"), SymbolSource::kSymtab);
  EXPECT_EQ(name("libminidebug.so", "label_local"), "Local");
  EXPECT_EQ(source("libminidebug.so"), SymbolSource::kMinidebug);
  EXPECT_NE(name("libdynsym.so", "label_local"), "Local");
  // The alias __exported_alias starts at the same address: the name a programmer wrote wins.
  EXPECT_EQ(name("libdynsym.so", "label_exported"), "depths::Exported");
  EXPECT_EQ(source("libdynsym.so"), SymbolSource::kDynsym);
}

TEST(Symbolizer, NamesPltStubs) {
  auto symbolizer = Symbolizer::Create(WithoutCache());
  const uint32_t id = symbolizer->AddModule(ModuleAt(Programs() + "/stripped"));
  std::string error;
  const auto image = ElfImage::Open(Programs() + "/stripped", &error);
  bool found = false;
  for (const ElfSection& section : image->sections()) {
    if (!section.name.starts_with(".plt")) continue;
    for (uint64_t at = 0; at < section.size_bytes; at += 8) {
      found |= Chain(symbolizer->Resolve(id, section.address + at)) == "printf@plt";
    }
  }
  EXPECT_TRUE(found);
}

TEST(Symbolizer, FindsFunctionsWithinFunctionsAndTypes) {
  auto symbolizer = Symbolizer::Create(WithoutCache());
  const uint32_t nested = symbolizer->AddModule(ModuleAt(Programs() + "/nested"));
  const std::string chain = Chain(symbolizer->Resolve(nested, AddressOf("nested", "label_nested")));
  EXPECT_TRUE(chain.starts_with("nested_function" + At("nested.c", "nested"))) << chain;
  if (!WhyMissing("rust").empty()) GTEST_SKIP() << WhyMissing("rust");
  const uint32_t rust = symbolizer->AddModule(ModuleAt(Programs() + "/rust"));
  const auto& frames = symbolizer->Resolve(rust, AddressOf("rust", "label_rust")).frames;
  ASSERT_FALSE(frames.empty());
  EXPECT_NE(frames[0].function.find("layers::Crate<"), std::string::npos) << frames[0].function;
  EXPECT_NE(frames[0].function.find("::weigh"), std::string::npos) << frames[0].function;
  EXPECT_EQ(frames[0].function.find("::h0"), std::string::npos) << "hash suffix: " << frames[0].function;
  EXPECT_EQ(frames[0].line, LineOf("oxide.rs", "rust"));
}

TEST(Symbolizer, SaysWhatCouldNotBeReadAndWhatToDo) {
  if (!WhyMissing("packaged").empty()) GTEST_SKIP() << WhyMissing("packaged");
  SymbolizerOptions options = WithoutCache();
  options.allow_llvm = false;
  auto symbolizer = Symbolizer::Create(options);
  const uint32_t id = symbolizer->AddModule(ModuleAt(Programs() + "/unpackaged"));
  const std::string chain = Chain(symbolizer->Resolve(id, AddressOf("unpackaged", "label_plain")));
  EXPECT_EQ(chain, "plain_c_function" + At("layers.cc", "plain"));  // line from the skeleton, name from the symbols
  EXPECT_NE(symbolizer->Status(id).reason.find("llvm-symbolizer"), std::string::npos);
  // Without the tool in PATH the remedy is to install it.
  const std::string path = std::getenv("PATH");
  setenv("PATH", "/nonexistent", 1);
  auto toolless = Symbolizer::Create(WithoutCache());
  const std::string reason = toolless->Status(toolless->AddModule(ModuleAt(Programs() + "/unpackaged"))).reason;
  setenv("PATH", path.c_str(), 1);
  EXPECT_NE(reason.find("apt-get install llvm"), std::string::npos) << reason;
}

TEST(Symbolizer, NamesTheVdso) {
  const unsigned long address = getauxval(AT_SYSINFO_EHDR);
  if (address == 0) GTEST_SKIP() << "this kernel maps no vdso";
  TraceModule module;
  module.path = "[vdso]";
  auto symbolizer = Symbolizer::Create(WithoutCache());
  EXPECT_EQ(symbolizer->Status(symbolizer->AddModule(module)).source, SymbolSource::kNone);  // build-id unknown
  std::string error;
  const auto image = ElfImage::FromBytes(std::string(reinterpret_cast<const char*>(address), 4096), &error);
  ASSERT_NE(image, nullptr) << error;
  if (image->build_id().empty()) GTEST_SKIP() << "this vdso has no build-id";
  module.build_id = image->build_id();
  const uint32_t id = symbolizer->AddModule(module);
  EXPECT_EQ(symbolizer->Status(id).source, SymbolSource::kDynsym) << symbolizer->Status(id).reason;
}

TEST(Symbolizer, OddModulesAndAddresses) {
  auto symbolizer = Symbolizer::Create(WithoutCache());
  for (const std::string path : {"", "[heap]", "/", "/dev/null", "/proc/self/mem", "//anon", "relative/path"}) {
    TraceModule module;
    module.path = path;
    const uint32_t id = symbolizer->AddModule(module);
    EXPECT_TRUE(symbolizer->Resolve(id, 0x1000).frames.empty()) << path;
    EXPECT_FALSE(symbolizer->Status(id).reason.empty()) << path;
  }
  EXPECT_TRUE(symbolizer->Resolve(1000, 0).frames.empty());
  const uint32_t id = symbolizer->AddModule(ModuleAt(Programs() + "/gcc"));
  EXPECT_EQ(symbolizer->AddModule(ModuleAt(Programs() + "/gcc")), id);
  for (uint64_t address : {uint64_t{0}, UINT64_MAX, uint64_t{1} << 63}) {
    EXPECT_TRUE(symbolizer->Resolve(id, address).frames.empty());
  }
  // References stay valid while others are resolved.
  const SymbolizedAddress& kept = symbolizer->Resolve(id, AddressOf("gcc", "label_plain"));
  const SymbolFrame* const frame = kept.frames.data();
  for (uint64_t address = 0x1000; address < 0x3000; ++address) symbolizer->Resolve(id, address);
  EXPECT_EQ(kept.frames.data(), frame);
}

}  // namespace
}  // namespace tidemark
