// A leak verdict as JUnit XML (the schema that Jenkins and pytest share): one test case per leak of a lost class, one
// for each process that says whether it could be checked. A leak that fails the gate is a failure, a suppressed or
// known one is skipped, a process that could not be checked is an error.
#include <fmt/format.h>

#include "tools/flamegraph_svg.h"
#include "tools/leak_formats.h"

namespace tidemark {
namespace {

std::string Attribute(const char* name, const std::string& value) {
  std::string text = XmlText(value);
  for (size_t at = 0; (at = text.find_first_of("\n\t", at)) != std::string::npos;) text[at] = ' ';
  return fmt::format(" {}=\"{}\"", name, text);
}

std::string StackText(const Leak& leak) {
  std::string text;
  for (const LeakFrame& frame : leak.stack) {
    const std::string place = frame.file.empty() ? BaseName(frame.module)
                              : frame.line != 0  ? fmt::format("{}:{}", frame.file, frame.line)
                                                 : frame.file;
    text += "  " + frame.function + (place.empty() ? "" : "  " + place) + "\n";
  }
  return text;
}

}  // namespace

std::string LeakJunit(const LeakReport& report) {
  std::string cases;
  size_t tests = 0, failures = 0, errors = 0, skipped = 0;
  for (const LeakProcess& process : report.verdict.processes) {
    ++tests;
    cases += "    <testcase" + Attribute("classname", "tidemark.leaks.process") +
             Attribute("name", fmt::format("{} (pid {})", process.command, process.pid)) + " time=\"0\"";
    if (process.could_not_check.empty()) {
      cases += "/>\n";
      continue;
    }
    ++errors;
    cases += ">\n      <error" + Attribute("type", "could not check") + Attribute("message", process.could_not_check) +
             "/>\n    </testcase>\n";
  }
  for (const Leak& leak : report.verdict.leaks) {
    if (leak.kind == kLeakReachable || (leak.kind == kLeakIndirect && !leak.leaders.empty())) continue;
    ++tests;
    const LeakFrame* at = OwnFrameOf(leak);
    cases += "    <testcase" + Attribute("classname", std::string("tidemark.leaks.") + WordOf(leak.kind)) +
             Attribute("name", fmt::format("{} [{}]", at != nullptr ? at->function : "no stack", leak.fingerprint)) +
             " time=\"0\"";
    std::string body = XmlText(LeakSentence(leak) + "\n" + StackText(leak));
    if (!leak.rule.empty()) body += XmlText("suppress with:\n" + leak.rule + "\n");
    if (leak.fails) {
      ++failures;
      cases += ">\n      <failure" + Attribute("type", TitleOf(leak.kind)) + Attribute("message", LeakSentence(leak)) +
               ">" + body + "</failure>\n    </testcase>\n";
    } else if (!leak.suppressed_by.empty() || leak.baseline == BaselineState::kKnown) {
      ++skipped;
      const std::string why = leak.suppressed_by.empty()
                                  ? "in the baseline"
                                  : "suppressed by " + leak.suppressed_in + ": " + leak.suppressed_by;
      cases += ">\n      <skipped" + Attribute("message", why) + "/>\n    </testcase>\n";
    } else {
      cases += ">\n      <system-out>" + body + "</system-out>\n    </testcase>\n";
    }
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"tidemark leaks\" tests=\"{}\" "
      "failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"0\">\n{}  </testsuite>\n</testsuites>\n",
      tests, failures, errors, skipped, cases);
}

}  // namespace tidemark
