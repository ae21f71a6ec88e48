// A leak verdict as memcheck's XML, protocol 4: what IDEs and CI servers that know Valgrind read. One error per leak of
// every class that was found, in Valgrind's words; suppressed ones are counted in <suppcounts> as Valgrind does. A
// document is one process to its readers: of several, the first one's pid and command stand for the run.
#include <fmt/format.h>

#include "tools/flamegraph_svg.h"
#include "tools/leak_formats.h"

namespace tidemark {
namespace {

const char* KindOf(LeakKind kind) {
  constexpr const char* kNames[] = {"Leak_DefinitelyLost", "Leak_IndirectlyLost", "Leak_PossiblyLost",
                                    "Leak_StillReachable"};
  return kNames[IndexOf(kind)];
}

std::string Element(const char* name, const std::string& text) {
  return fmt::format("<{0}>{1}</{0}>\n", name, XmlText(text));
}

// "1,234 (1,000 direct, 234 indirect) bytes in 5 blocks are definitely lost in loss record 3 of 9"
std::string TextOf(const Leak& leak, size_t record, size_t records) {
  std::string bytes = HumanCount(leak.direct.bytes.Rounded());
  if (leak.indirect.blocks.seen != 0) {
    bytes = fmt::format("{} ({} direct, {} indirect)", HumanCount(leak.whole().bytes.Rounded()), bytes,
                        HumanCount(leak.indirect.bytes.Rounded()));
  }
  return fmt::format("{} bytes in {} blocks are {} in loss record {} of {}", bytes,
                     HumanCount(leak.direct.blocks.Rounded()), TitleOf(leak.kind), record, records);
}

std::string FrameXml(const LeakFrame& frame) {
  std::string out = "    <frame>\n      " + Element("ip", fmt::format("{:#X}", frame.ip));
  out.replace(out.find("0X"), 2, "0x");
  if (!frame.module.empty()) out += "      " + Element("obj", frame.module);
  if (frame.known) out += "      " + Element("fn", frame.function);
  if (!frame.file.empty()) {
    const size_t slash = frame.file.rfind('/');
    if (slash != std::string::npos) out += "      " + Element("dir", frame.file.substr(0, slash));
    out += "      " + Element("file", BaseName(frame.file));
    if (frame.line != 0) out += "      " + Element("line", std::to_string(frame.line));
  }
  return out + "    </frame>\n";
}

}  // namespace

std::string LeakMemcheckXml(const LeakReport& report) {
  const LeakVerdict& verdict = report.verdict;
  const uint64_t pid = verdict.processes.empty() ? 0 : verdict.processes.front().pid;
  std::string out = fmt::format(
      "<?xml version=\"1.0\"?>\n\n<valgrindoutput>\n\n<protocolversion>4</protocolversion>\n"
      "<protocoltool>memcheck</protocoltool>\n\n<preamble>\n  <line>tidemark {}, in the format of memcheck</line>\n"
      "</preamble>\n\n<pid>{}</pid>\n<ppid>0</ppid>\n<tool>memcheck</tool>\n\n",
      TIDEMARK_VERSION, pid);
  out += "<args>\n  <vargv>\n    <exe>tidemark</exe>\n    <arg>leaks</arg>\n  </vargv>\n  <argv>\n";
  out += "    " + Element("exe", verdict.processes.empty() ? "" : verdict.processes.front().command);
  out += "  </argv>\n</args>\n\n<status>\n  <state>RUNNING</state>\n  <time>00:00:00:00.000 </time>\n</status>\n\n";
  out += "<status>\n  <state>FINISHED</state>\n  <time>00:00:00:00.000 </time>\n</status>\n\n";
  // Lightest first, as Valgrind has them; the numbers of the records follow.
  size_t record = 0;
  for (auto leak = verdict.leaks.rbegin(); leak != verdict.leaks.rend(); ++leak) {
    ++record;
    if (!leak->suppressed_by.empty()) continue;
    out += fmt::format("<error>\n  <unique>{:#x}</unique>\n  <tid>1</tid>\n  <kind>{}</kind>\n  <xwhat>\n    ", record,
                       KindOf(leak->kind));
    out += Element("text", TextOf(*leak, record, verdict.leaks.size()));
    out += "    " + Element("leakedbytes", std::to_string(leak->whole().bytes.Rounded()));
    out += "    " + Element("leakedblocks", std::to_string(leak->direct.blocks.Rounded()));
    out += "  </xwhat>\n  <stack>\n";
    LeakFrame entry;
    entry.function = leak->allocator_linkage.empty() ? "malloc" : leak->allocator;
    entry.known = true;
    entry.module = "libtidemark.so";
    out += FrameXml(entry);
    for (const LeakFrame& frame : leak->stack) out += FrameXml(frame);
    out += "  </stack>\n</error>\n\n";
  }
  out += "<errorcounts>\n</errorcounts>\n\n<suppcounts>\n";
  for (const SuppressionOutcome::Used& used : report.suppressions.used) {
    out += fmt::format("  <pair>\n    <count>{}</count>\n    {}  </pair>\n", used.leaks, Element("name", used.rule));
  }
  return out + "</suppcounts>\n\n</valgrindoutput>\n";
}

}  // namespace tidemark
