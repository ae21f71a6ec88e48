// Fuzzes the reader of suppression files and the matching: the input is a file and, behind a NUL, a stack.
//
// What callers rely on is checked: problems are one line of plain text each and name the file, what is read does not
// depend on anything but the text, every use is counted, and a good rule at the end survives whatever stands before it.
// Must not: repeat the matching in another way; the unit test compares it with fnmatch(3).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tools/suppressions.h"

namespace {

using namespace tidemark;

void Require(bool condition) {
  if (!condition) abort();
}

std::string_view Cut(std::string_view* rest, char separator) {
  const std::string_view part = rest->substr(0, rest->find(separator));
  rest->remove_prefix(std::min(part.size() + 1, rest->size()));
  return part;
}

// A line is a frame: function, linkage name, file and module between tabs.
std::vector<SuppressionFrame> StackFrom(std::string_view text) {
  std::vector<SuppressionFrame> stack;
  while (!text.empty() && stack.size() < 64) {
    std::string_view line = Cut(&text, '\n');
    SuppressionFrame frame;
    frame.function = Cut(&line, '\t');
    frame.linkage_name = Cut(&line, '\t');
    frame.file = Cut(&line, '\t');
    frame.module = Cut(&line, '\t');
    frame.line = static_cast<uint32_t>(line.size());
    stack.push_back(frame);
  }
  return stack;
}

void CheckProblems(const Suppressions& suppressions) {
  Require(suppressions.problems().size() <= suppressions.problem_count());
  for (const std::string& problem : suppressions.problems()) {
    Require(problem.starts_with("FILE:"));
    for (char c : problem) Require(c >= 0x20 && c < 0x7f);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string text(Cut(&input, '\0'));
  const std::vector<SuppressionFrame> stack = StackFrom(input);
  Suppressions suppressions = ParseSuppressions(text, "FILE");
  CheckProblems(suppressions);
  uint64_t matches = 0;
  for (LeakKind kind : {kLeakDefinite, kLeakIndirect, kLeakPossible, kLeakReachable}) {
    const SuppressionRule* rule = suppressions.Match(stack, kind);
    if (rule == nullptr) continue;
    ++matches;
    Require((rule->kinds & kind) != 0 && rule->uses != 0);
    // The first one that matches.
    for (const SuppressionRule* other = suppressions.rules().data(); other != rule; ++other) {
      Require(!other->matches_all || other->locations.front().where != SuppressionRule::Where::kAnything);
    }
  }
  uint64_t uses = 0;
  for (const SuppressionRule& rule : suppressions.rules()) uses += rule.uses;
  Require(uses == matches);

  const Suppressions more =
      ParseSuppressions(text + "\n{\n last\n Memcheck:Leak\n ...\n fun:main\n}\nleak:sentinel\n", "FILE");
  Require(more.rules().size() == suppressions.rules().size() + 2);
  Require(more.rules().back().text == "leak:sentinel");
  for (size_t i = 0; i < suppressions.rules().size(); ++i) {
    Require(more.rules()[i].text == suppressions.rules()[i].text &&
            more.rules()[i].line == suppressions.rules()[i].line);
  }
  return 0;
}
