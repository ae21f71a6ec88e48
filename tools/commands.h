// The table of subcommands: what main.cc parses, and what --help, the man page and shell completion are made from.
//
// A command is one file, cmd_NAME.cc, that defines its `kNameCommand` below and is named in tools/meson.build:
//
//   RunFunction DefineInfo(CLI::App& app) {
//     auto options = std::make_shared<Options>();           // lives as long as the returned function
//     app.add_option("FILE", options->file, "trace to look at")->required();
//     app.add_flag("--json", options->json, "print JSON");
//     return [options] { return RunInfo(*options); };       // Result<ExitStatus> RunInfo(const Options&)
//   }
//   const Command kInfoCommand = {"info", "show what a trace holds, and what it lost", "<paragraph>", DefineInfo};
//
// Data goes to stdout; an Error that is returned is printed once, by main, as "tidemark: MESSAGE". Must not: print
// errors and return them too, call exit(), throw.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "tools/result.h"

namespace tidemark {

// Runs after a successful parse. `record` answers statuses outside the enum (those of the profiled command).
using RunFunction = std::function<Result<ExitStatus>()>;

struct Command {
  const char* name;
  const char* summary;               // one line without a full stop, for the list of commands
  const char* description;           // for --help and the man page: sentences, paragraphs separated by "\n\n"
  RunFunction (*define)(CLI::App&);  // adds the options
  ExitStatus usage_status = ExitStatus::kUsage;  // what a wrong option exits with
  bool hidden = false;                           // not in lists, man page and completion
  bool takes_command = false;                    // `-- CMD...`: see TrailingCommand
  const char* usage = nullptr;  // what stands behind the name in the usage line; null: as the options say
};

// For commands that end in `[--] CMD...`: CMD and its arguments, word for word. Filled before the command runs.
// (Not a CLI11 positional: that one splits words like "[a,b]".)
const std::vector<std::string>& TrailingCommand();

extern const Command kRecordCommand;
extern const Command kReportCommand;
extern const Command kLeaksCommand;
extern const Command kReclaimCommand;
extern const Command kTimelineCommand;
extern const Command kTopCommand;
extern const Command kFlamegraphCommand;
extern const Command kExportCommand;
extern const Command kDiffCommand;
extern const Command kInfoCommand;
extern const Command kDoctorCommand;
extern const Command kCollectCommand;

}  // namespace tidemark
