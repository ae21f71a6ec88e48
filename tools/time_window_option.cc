// See time_window_option.h.
#include "tools/time_window_option.h"

#include <cmath>
#include <optional>

namespace tidemark {
namespace {

std::optional<int64_t> ParseTime(const std::string& text) {
  double number = 0;
  size_t used = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
    return std::nullopt;
  }
  const std::string unit = text.substr(used);
  const struct {
    const char* name;
    double ns;
  } units[] = {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"min", 60e9}, {"h", 3600e9}};
  for (const auto& it : units) {
    const double ns = number * it.ns;
    if (unit == it.name && ns >= 0 && ns < 9e18) return static_cast<int64_t>(std::llround(ns));
  }
  return std::nullopt;
}

}  // namespace

void AddTimeWindowOptions(CLI::App& app, TimeWindowOption* option) {
  app.add_option("--from", option->from, "look at what happened from this time on: 1.5s, 200ms, 3min since the start");
  app.add_option("--to", option->to, "and before this time; what lives then counts as live at the end");
}

Result<TimeWindow> TimeWindowOf(const TimeWindowOption& option) {
  TimeWindow window;
  const auto parse = [](const char* name, const std::string& text, std::optional<int64_t>* out) {
    std::optional<Error> error;
    if (text.empty()) return error;
    *out = ParseTime(text);
    if (!*out) {
      error = Error{ExitStatus::kUsage,
                    std::string(name) + " needs a time since the start, like 1.5s, 200ms or 3min; not '" + text + "'"};
    }
    return error;
  };
  if (auto error = parse("--from", option.from, &window.from_ns)) return *error;
  if (auto error = parse("--to", option.to, &window.to_ns)) return *error;
  if (window.from_ns && window.to_ns && *window.from_ns >= *window.to_ns) {
    return Error{ExitStatus::kUsage, "the window from " + option.from + " to " + option.to + " holds no time"};
  }
  return window;
}

}  // namespace tidemark
