// --from and --to, the same in every command that reads a trace: times since the recording began.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tools/model/time_window.h"
#include "tools/result.h"

namespace tidemark {

struct TimeWindowOption {
  std::string from, to;
};
void AddTimeWindowOptions(CLI::App& app, TimeWindowOption* option);

// "1.5s", "200ms", "15us", "3min", "2h"; a number alone is seconds. Exit status 2 for what is no time, or an empty
// window.
Result<TimeWindow> TimeWindowOf(const TimeWindowOption& option);

}  // namespace tidemark
