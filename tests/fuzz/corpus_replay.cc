// Replays the corpus of a fuzz target without libFuzzer, one test case an input.
//
// Linked with NAME_fuzz.cc in ordinary and sanitizer builds, so that every input that once broke something is tried
// wherever a C++ compiler is, clang or not. An input passes if nothing crashes, leaks or trips a sanitizer.
// Must not: change inputs; that is what ./dev fuzz does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

std::vector<std::filesystem::path> Inputs() {
  std::vector<std::filesystem::path> inputs;
  const char* directory = std::getenv("TIDEMARK_CORPUS_DIR");
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory == nullptr ? "" : directory, error)) {
    if (entry.is_regular_file()) inputs.push_back(entry.path());
  }
  std::sort(inputs.begin(), inputs.end());
  return inputs;
}

class CorpusReplay : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(CorpusReplay, IsHarmless) {
  std::ifstream file(GetParam(), std::ios::binary);
  ASSERT_TRUE(file) << "cannot read " << GetParam();
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
}

// Also fails for an empty corpus: a target without inputs is tested by nobody.
INSTANTIATE_TEST_SUITE_P(Corpus, CorpusReplay, testing::ValuesIn(Inputs()),
                         [](const testing::TestParamInfo<std::filesystem::path>& input) {
                           std::string name = input.param.filename();
                           for (char& c : name) {
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           }
                           return std::to_string(input.index) + "_" + name;
                         });

TEST(Corpus, HasInputs) { EXPECT_FALSE(Inputs().empty()) << "no inputs in TIDEMARK_CORPUS_DIR"; }

TEST(Corpus, EmptyInputIsHarmless) { EXPECT_EQ(LLVMFuzzerTestOneInput(nullptr, 0), 0); }

}  // namespace
