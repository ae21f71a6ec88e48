// A judged verdict, and the formats it is printed in; leak_NAME.cc has one each. All formats come from this one struct.
//
//   text          for people                          github        workflow commands: annotations in a pull request
//   json          docs/json-schema/leaks.json         junit         one test case per leak
//   sarif         SARIF 2.1.0                         memcheck-xml  protocol 4, as `valgrind --xml=yes` writes it
//
// Names come from foreign files: each format escapes them for itself. Must not: open files, judge.
#pragma once

#include <string>
#include <vector>

#include "tools/leak_baseline.h"
#include "tools/leak_gate.h"
#include "tools/leak_growth.h"
#include "tools/leak_suppressions.h"
#include "tools/leak_verdict.h"
#include "tools/text_table.h"

namespace tidemark {

struct LeakReport {
  LeakVerdict verdict;
  LeakDecision decision;
  SuppressionOutcome suppressions;
  std::vector<LeakBaseline::Entry> stale;         // of the baseline: no longer seen
  std::vector<LeakGrowth> growth;                 // when asked for
  std::vector<std::string> warnings;              // beside those of the suppressions
  uint32_t show = kLeakDefinite | kLeakPossible;  // classes that the text lists
  size_t top = 20;                                // leaks that the text lists; 0: all
  std::string source_root;  // absolute, without a slash at its end: paths below it become relative
};

std::string LeakText(const LeakReport& report, const TextStyle& style);
std::string LeakJson(const LeakReport& report);
std::string LeakSarif(const LeakReport& report);
std::string LeakJunit(const LeakReport& report);
std::string LeakGithub(const LeakReport& report);
std::string LeakMemcheckXml(const LeakReport& report);

// The innermost frame with a source file in the program's own code; else with any source file; null: none.
const LeakFrame* SourceFrameOf(const Leak& leak);
// The innermost frame of the program's own code; else the innermost; null without a stack.
const LeakFrame* OwnFrameOf(const Leak& leak);
// "src/a.c" below the root, else the path as it is.
std::string RelativePath(const std::string& path, const std::string& root);
// "100 bytes in 1 block are definitely lost at make_list, and 40 bytes in 1 block that only they held".
std::string LeakSentence(const Leak& leak);
}  // namespace tidemark
