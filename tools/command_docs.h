// What is printed about the commands: shell completion and the man page, made from the same table that parses them.
//
// Must not: name an option itself. Whatever a command's define() adds shows up here without further ado.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "tools/commands.h"

namespace tidemark {

// A command as main defined it: the table row and the CLI11 object that its define() filled.
struct DefinedCommand {
  const Command* command;
  CLI::App* app;
};

// Command that `word` was probably meant to be; empty when none is near.
std::string NearestCommand(const std::string& word, const std::vector<DefinedCommand>& commands);

std::string BashCompletion(const std::vector<DefinedCommand>& commands);
std::string ZshCompletion(const std::vector<DefinedCommand>& commands);
// A roff page for man(1).
std::string ManPage(const std::vector<DefinedCommand>& commands, const std::string& version);

}  // namespace tidemark
