// What is wrong with a trace, in sentences for people: where, what, how much.
//
// Must not: decide what is wrong (the reader does) or print anything.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tools/section_scanner.h"
#include "tools/trace_tables.h"

namespace tidemark {

// "1,204"
std::string Grouped(uint64_t number);
// "1 byte", "2 bytes"
std::string Counted(uint64_t number, const std::string& singular);

// "section 17 (events of thread 3) at byte 48211"
std::string DescribeSection(uint64_t offset, const SectionHeader& header);

// One sentence for a damaged range; `index` may know what its header no longer tells.
std::string DescribeDamage(const DamagedRange& damage, const std::map<uint64_t, IndexedSection>& index);

// "2 sections are missing: numbers 4 to 5"; empty when none is. `known`: whole ones and damaged ones with a header.
std::string DescribeMissing(const std::set<uint32_t>& known);

// Keeps the first 200 sentences and the number of the rest, so that a mutilated trace does not flood anybody.
class ProblemList {
 public:
  void Add(std::string sentence);
  const std::vector<std::string>& sentences() const { return sentences_; }

 private:
  static constexpr size_t kMaxSentences = 200;
  std::vector<std::string> sentences_;
  uint64_t more_ = 0;
};

}  // namespace tidemark
