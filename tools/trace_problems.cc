// Wording of problems; see trace_problems.h.
#include "tools/trace_problems.h"

namespace tidemark {
namespace {

std::string DescribeType(uint16_t type, uint32_t subject) {
  switch (static_cast<SectionType>(type)) {
    case SectionType::kInfo:
      return "info";
    case SectionType::kModules:
      return "modules";
    case SectionType::kStacks:
      return "stacks";
    case SectionType::kEvents:
      return "events of thread " + std::to_string(subject);
    case SectionType::kThreads:
      return "threads";
    case SectionType::kClock:
      return "clock";
    case SectionType::kMemory:
      return "memory";
    case SectionType::kEnd:
      return "end";
    case SectionType::kIndex:
      return "index";
    case SectionType::kLeaks:
      return "leaks";
  }
  return "type " + std::to_string(type);
}

}  // namespace

std::string Grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

std::string Counted(uint64_t number, const std::string& singular) {
  return Grouped(number) + " " + singular + (number == 1 ? "" : "s");
}

std::string DescribeSection(uint64_t offset, const SectionHeader& header) {
  return "section " + std::to_string(header.sequence) + " (" + DescribeType(header.type, header.subject) +
         ") at byte " + std::to_string(offset);
}

std::string DescribeDamage(const DamagedRange& damage, const std::map<uint64_t, IndexedSection>& index) {
  if (damage.header) {
    const uint64_t total = sizeof(SectionHeader) + uint64_t{damage.header->stored_bytes};
    const std::string what = DescribeSection(damage.offset, *damage.header);
    if (damage.at_end) {
      return what + " is cut off: " + Grouped(damage.bytes) + " of its " + Counted(total, "byte") + " are there";
    }
    return what + " is damaged: " + Counted(damage.bytes, "byte") + " skipped";
  }
  const auto known = index.find(damage.offset);
  if (known != index.end()) {
    return "the section (" + DescribeType(known->second.type, known->second.subject) + ") at byte " +
           std::to_string(damage.offset) + " is damaged: " + Counted(damage.bytes, "byte") + " skipped";
  }
  if (damage.at_end) {
    return "the last " + Counted(damage.bytes, "byte") + " of the file, from byte " + std::to_string(damage.offset) +
           " on, are not a whole section: skipped";
  }
  return Counted(damage.bytes, "byte") + " at byte " + std::to_string(damage.offset) +
         " are damaged and no longer a section: skipped";
}

std::string DescribeMissing(const std::set<uint32_t>& known) {
  constexpr int kMaxRanges = 8;
  uint64_t expected = 0, missing = 0;
  int ranges = 0;
  std::string numbers;
  for (uint32_t sequence : known) {
    if (sequence > expected) {
      missing += sequence - expected;
      if (ranges < kMaxRanges) {
        numbers += (ranges == 0 ? "" : ", ") + std::to_string(expected);
        if (sequence - expected > 1) numbers += " to " + std::to_string(sequence - 1);
      } else if (ranges == kMaxRanges) {
        numbers += " and others";
      }
      ranges++;
    }
    expected = uint64_t{sequence} + 1;
  }
  if (missing == 0) return "";
  return Counted(missing, "section") + (missing == 1 ? " is missing: number " : " are missing: numbers ") + numbers;
}

void ProblemList::Add(std::string sentence) {
  if (sentences_.size() < kMaxSentences) {
    sentences_.push_back(std::move(sentence));
    return;
  }
  more_++;
  const std::string rest = "and " + Counted(more_, "further problem");
  if (more_ == 1) {
    sentences_.push_back(rest);
  } else {
    sentences_.back() = rest;
  }
}

}  // namespace tidemark
