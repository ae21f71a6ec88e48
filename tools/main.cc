// The command line: a table of commands, each defined in its own file; this file parses, runs and prints errors, once.
//
// Must not: know what a command does. Completion and man page are made in command_docs.cc from the same table.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "tools/command_docs.h"
#include "tools/commands.h"
#include "tools/descriptors.h"

namespace tidemark {
namespace {

// The build names the commands it has, in the order in which they are listed.
const Command* const kCommands[] = {TIDEMARK_COMMAND_TABLE};

std::vector<std::string> g_trailing_command;

// Writes all of stdout and says whether that worked: a report cut short by a full disk is not a success.
bool FlushStdout() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return true;
  std::fprintf(stderr, "tidemark: writing to standard output failed: %s\n", std::strerror(errno));
  return false;
}

int UsageError(const std::string& message, ExitStatus status) {
  std::fprintf(stderr, "tidemark: %s\n", message.c_str());
  return static_cast<int>(status);
}

const Command* FindCommand(const std::string& name) {
  for (const Command* command : kCommands) {
    if (name == command->name) return command;
  }
  return nullptr;
}

// In the list of commands stands the summary alone; the usage line shows where CMD goes.
class TableFormatter : public CLI::Formatter {
 public:
  std::string make_subcommand(const CLI::App* sub) const override {
    const Command* command = FindCommand(sub->get_name());
    std::string line = "  " + sub->get_name();
    line.resize(std::max<size_t>(line.size() + 2, 16), ' ');
    return line + (command != nullptr ? command->summary : "") + "\n";
  }
  std::string make_usage(const CLI::App* app, std::string name) const override {
    const Command* command = FindCommand(app->get_name());
    if (command != nullptr && command->usage != nullptr) return "Usage: " + name + " " + command->usage + "\n";
    if (command != nullptr && command->takes_command) return "Usage: " + name + " [OPTIONS] [--] CMD [ARGUMENT]...\n";
    return CLI::Formatter::make_usage(app, name);
  }
};

int Main(int argc, char** argv) {
  CLI::App app("Records the heap allocations of programs and turns the traces into tables and flame graphs.",
               "tidemark");
  app.set_version_flag("--version", std::string("tidemark ") + TIDEMARK_VERSION);
  app.set_help_flag("-h,--help", "print this help");
  std::string completion;
  app.add_option("--completion", completion, "print a completion script for this shell")
      ->type_name("bash|zsh")
      ->check(CLI::IsMember({"bash", "zsh"}));
  bool man = false;
  app.add_flag("--man", man, "print the manual page, in roff");
  app.require_subcommand(0, 1);

  const auto formatter = std::make_shared<TableFormatter>();
  std::vector<DefinedCommand> commands;
  std::vector<RunFunction> run;
  for (const Command* command : kCommands) {
    CLI::App* sub = app.add_subcommand(command->name, command->summary);
    if (command->hidden) sub->group("");
    sub->description(command->description);
    sub->set_help_flag("-h,--help", "print this help");
    if (command->takes_command) sub->prefix_command();
    sub->formatter(formatter);
    run.push_back(command->define(*sub));
    commands.push_back({command, sub});
  }
  app.formatter(formatter);

  const Command* chosen = nullptr;
  if (argc > 1 && argv[1][0] != '-') {
    chosen = FindCommand(argv[1]);
    if (chosen == nullptr) {
      const std::string nearest = NearestCommand(argv[1], commands);
      return UsageError("there is no command '" + std::string(argv[1]) + "'" +
                            (nearest.empty() ? "" : "; did you mean '" + nearest + "'?") +
                            (nearest.empty() ? "; see tidemark --help" : ""),
                        ExitStatus::kUsage);
    }
  }
  // Words after the first "--" belong to CMD and are none of the parser's business.
  int parsed_words = argc;
  if (chosen != nullptr && chosen->takes_command) {
    for (int i = 2; i < argc && parsed_words == argc; ++i) {
      if (std::strcmp(argv[i], "--") == 0) parsed_words = i;
    }
  }
  try {
    app.parse(parsed_words, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      app.exit(error);
      return FlushStdout() ? 0 : static_cast<int>(ExitStatus::kCouldNotCheck);
    }
    const std::string where = chosen == nullptr ? "" : std::string(chosen->name) + ": ";
    return UsageError(
        where + error.what() + " (see tidemark " + (chosen ? std::string(chosen->name) + " " : "") + "--help)",
        chosen == nullptr ? ExitStatus::kUsage : chosen->usage_status);
  }
  if (!completion.empty()) {
    std::fputs((completion == "bash" ? BashCompletion(commands) : ZshCompletion(commands)).c_str(), stdout);
    return FlushStdout() ? 0 : static_cast<int>(ExitStatus::kCouldNotCheck);
  }
  if (man) {
    std::fputs(ManPage(commands, TIDEMARK_VERSION).c_str(), stdout);
    return FlushStdout() ? 0 : static_cast<int>(ExitStatus::kCouldNotCheck);
  }
  for (size_t i = 0; i < commands.size(); ++i) {
    if (!commands[i].app->parsed()) continue;
    if (commands[i].command->takes_command) {
      g_trailing_command = commands[i].app->remaining();
      if (!g_trailing_command.empty() && g_trailing_command[0].starts_with("-")) {
        const Command& command = *commands[i].command;
        return UsageError(std::string(command.name) + ": there is no option " + g_trailing_command[0] +
                              " (see tidemark " + command.name + " --help)",
                          command.usage_status);
      }
      // `record git log -- FILE`: the first "--" was CMD's own.
      if (!g_trailing_command.empty() && parsed_words < argc) g_trailing_command.push_back("--");
      for (int word = parsed_words + 1; word < argc; ++word) g_trailing_command.push_back(argv[word]);
    }
    Result<ExitStatus> result = run[i]();
    if (!result.ok()) {
      FlushStdout();
      return UsageError(result.error().message, result.error().status);
    }
    if (!FlushStdout() && *result == ExitStatus::kOk) return static_cast<int>(ExitStatus::kCouldNotCheck);
    return static_cast<int>(*result);
  }
  std::fputs(app.help().c_str(), stderr);
  return static_cast<int>(ExitStatus::kUsage);
}

}  // namespace

const std::vector<std::string>& TrailingCommand() { return g_trailing_command; }

}  // namespace tidemark

int main(int argc, char** argv) {
  tidemark::OccupyStandardDescriptors();
  try {
    return tidemark::Main(argc, argv);
  } catch (const std::exception& error) {  // out of memory, a bug: never a crash without a word
    std::fprintf(stderr, "tidemark: internal error: %s; please report it\n", error.what());
    return static_cast<int>(tidemark::ExitStatus::kCouldNotCheck);
  }
}
