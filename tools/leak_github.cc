// A leak verdict as workflow commands, which GitHub turns into annotations of a pull request. It shows ten of a kind
// per step and drops the others silently, so no more are printed and the rest is told in the last one.
#include <fmt/format.h>

#include "tools/leak_formats.h"

namespace tidemark {
namespace {

constexpr size_t kShown = 9;  // and one for the rest

// Of a command's message; properties also end at ':' and ','.
std::string Escaped(const std::string& text, bool property) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '%':
        out += "%25";
        break;
      case '\r':
        out += "%0D";
        break;
      case '\n':
        out += "%0A";
        break;
      case ':':
        out += property ? "%3A" : ":";
        break;
      case ',':
        out += property ? "%2C" : ",";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return out;
}

std::string Command(const char* level, const std::string& file, uint32_t line, const std::string& title,
                    const std::string& message) {
  std::string properties;
  const auto add = [&properties](const char* name, const std::string& value) {
    properties += fmt::format("{}{}={}", properties.empty() ? " " : ",", name, Escaped(value, true));
  };
  if (!file.empty()) add("file", file);
  if (!file.empty() && line != 0) add("line", std::to_string(line));
  add("title", title);
  return fmt::format("::{}{}::{}\n", level, properties, Escaped(message, false));
}

}  // namespace

std::string LeakGithub(const LeakReport& report) {
  std::string out;
  size_t errors = 0, errors_left = 0, warnings = 0, warnings_left = 0;
  const auto add = [&](bool error, const std::string& command) {
    size_t& count = error ? errors : warnings;
    if (count == kShown) {
      ++(error ? errors_left : warnings_left);
      return;
    }
    ++count;
    out += command;
  };
  for (const LeakProcess& process : report.verdict.processes) {
    if (process.could_not_check.empty()) continue;
    add(true, Command("error", "", 0, "leak check failed",
                      fmt::format("{} (pid {}) could not be checked: {}", process.command, process.pid,
                                  process.could_not_check)));
  }
  // What fails comes first.
  for (const bool fails : {true, false}) {
    for (const Leak& leak : report.verdict.leaks) {
      if (leak.fails != fails || leak.kind == kLeakReachable || !leak.suppressed_by.empty()) continue;
      if (leak.kind == kLeakIndirect && !leak.leaders.empty()) continue;
      if (!fails && leak.baseline == BaselineState::kKnown) continue;
      std::string message = LeakSentence(leak);
      for (const LeakFrame& frame : leak.stack) {
        message += "\n  " + frame.function + (PlaceOf(frame).empty() ? "" : "  " + PlaceOf(frame));
      }
      const LeakFrame* at = SourceFrameOf(leak);
      add(fails, Command(fails ? "error" : "warning", at != nullptr ? RelativePath(at->file, report.source_root) : "",
                         at != nullptr ? at->line : 0, std::string(TitleOf(leak.kind)) + " memory", message));
    }
  }
  const auto rest = [&out](const char* level, size_t count) {
    if (count == 0) return;
    out += Command(level, "", 0, "more leaks",
                   fmt::format("{} more {} not shown as annotations; the whole list is in the report",
                               HumanCount(count), count == 1 ? "is" : "are"));
  };
  rest("error", errors_left);
  rest("warning", warnings_left);
  return out;
}

}  // namespace tidemark
