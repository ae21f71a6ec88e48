// Completion scripts and man page out of CLI11's own objects; see command_docs.h.
//
// Written here and not taken from CLI11, which prints help texts only. Must not: hold a text that --help has, too.
#include "tools/command_docs.h"

#include <algorithm>
#include <numeric>

namespace tidemark {
namespace {

// "-o,--output" -> {"-o", "--output"}; positionals are left out.
std::vector<std::string> Flags(const CLI::App* app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app->get_options()) {
    if (option->get_group().empty()) continue;  // hidden
    for (const std::string& name : option->get_snames()) flags.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::string Join(const std::vector<std::string>& words, const char* separator) {
  std::string joined;
  for (const std::string& word : words) joined += (joined.empty() ? "" : separator) + word;
  return joined;
}

// Roff: a backslash starts an escape, a leading dot or quote a request, and a plain hyphen may become a typographic
// one.
std::string Roff(const std::string& text) {
  std::string out;
  bool line_start = true;
  for (char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    line_start = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string RoffParagraphs(const char* text) {
  std::string out;
  std::string rest = text;
  for (size_t end; (end = rest.find("\n\n")) != std::string::npos; rest = rest.substr(end + 2)) {
    out += Roff(rest.substr(0, end)) + "\n.PP\n";
  }
  return out + Roff(rest) + "\n";
}

// Inside '...' of a shell script.
std::string ShellSingleQuoted(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out;
}

size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::string NearestCommand(const std::string& word, const std::vector<DefinedCommand>& commands) {
  std::string best;
  size_t best_distance = 3;  // more than two edits away is another word
  for (const DefinedCommand& defined : commands) {
    if (defined.command->hidden) continue;
    const std::string name = defined.command->name;
    if (word.size() >= 3 && name.compare(0, word.size(), word) == 0) return name;
    const size_t distance = EditDistance(word, name);
    if (distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

std::string BashCompletion(const std::vector<DefinedCommand>& commands) {
  std::vector<std::string> names;
  std::string cases;
  for (const DefinedCommand& defined : commands) {
    if (defined.command->hidden) continue;
    names.push_back(defined.command->name);
    cases += std::string("    ") + defined.command->name + ") flags='" + Join(Flags(defined.app), " ") + "' ;;\n";
  }
  return "# bash completion for tidemark; load with: source <(tidemark --completion bash)\n"
         "_tidemark() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} flags='' i\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    COMPREPLY=($(compgen -W '" +
         Join(names, " ") +
         " --help --version --completion --man' -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  for ((i = 2; i < COMP_CWORD; i++)); do\n"
         "    if [ \"${COMP_WORDS[i]}\" = -- ]; then\n"
         "      COMPREPLY=($(compgen -c -f -- \"$current\"))\n"
         "      return\n"
         "    fi\n"
         "  done\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases +
         "  esac\n"
         "  case \"$current\" in\n"
         "    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$current\")) ;;\n"
         "    *) COMPREPLY=($(compgen -f -- \"$current\")) ;;\n"
         "  esac\n"
         "}\n"
         "complete -o filenames -F _tidemark tidemark\n";
}

std::string ZshCompletion(const std::vector<DefinedCommand>& commands) {
  std::string rows, cases;
  for (const DefinedCommand& defined : commands) {
    if (defined.command->hidden) continue;
    rows += std::string("    '") + defined.command->name + ":" + ShellSingleQuoted(defined.command->summary) + "'\n";
    std::string flags;
    for (const std::string& flag : Flags(defined.app)) flags += " '" + flag + "'";
    cases += std::string("    ") + defined.command->name + ") flags=(" + flags + " ) ;;\n";
  }
  return "#compdef tidemark\n"
         "# zsh completion for tidemark; load with: source <(tidemark --completion zsh)\n"
         "_tidemark() {\n"
         "  local -a commands flags\n"
         "  commands=(\n" +
         rows +
         "  )\n"
         "  if (( CURRENT == 2 )); then\n"
         "    _describe command commands\n"
         "    return\n"
         "  fi\n"
         "  case \"$words[2]\" in\n" +
         cases +
         "  esac\n"
         "  compadd -- $flags\n"
         "  _files\n"
         "}\n"
         "compdef _tidemark tidemark\n";
}

std::string ManPage(const std::vector<DefinedCommand>& commands, const std::string& version) {
  std::string page = ".TH TIDEMARK 1 \"\" \"tidemark " + version +
                     "\" \"User Commands\"\n"
                     ".SH NAME\ntidemark \\- always\\-on heap profiler for unmodified programs\n"
                     ".SH SYNOPSIS\n.B tidemark\n.I COMMAND\n[\\fIOPTION\\fR]...\n"
                     ".SH DESCRIPTION\n"
                     "tidemark records the heap allocations of a program, sampled or complete, into a trace file, and "
                     "turns traces into tables and flame graphs.\n"
                     ".SH COMMANDS\n";
  for (const DefinedCommand& defined : commands) {
    if (defined.command->hidden) continue;
    page += std::string(".SS ") + defined.command->name + "\n" + RoffParagraphs(defined.command->description);
    for (const CLI::Option* option : defined.app->get_options()) {
      if (option->get_group().empty()) continue;
      std::string heading = option->get_name(true, true);
      if (option->get_items_expected_max() > 0 && !option->get_positional()) {
        heading += " " + option->get_type_name();
      }
      page += ".TP\n\\fB" + Roff(heading) + "\\fR\n" + Roff(option->get_description()) + "\n";
    }
  }
  page +=
      ".SH EXIT STATUS\n"
      ".TP\n0\nfine\n.TP\n1\na finding: a leak, an exceeded budget, a check that failed\n.TP\n2\nwrong usage\n"
      ".TP\n3\nunreadable input\n.TP\n4\ncould not check\n"
      ".PP\n\\fBrecord\\fR passes the exit status of the command through: 128+signal when it was killed; its own "
      "failures are 125, a command that cannot be executed 126, one that was not found 127.\n"
      ".SH ENVIRONMENT\n"
      ".TP\n\\fBTIDEMARK_LIBRARY\\fR\npath of libtidemark.so, when it is not where the installation has put it\n"
      ".TP\n\\fBTIDEMARK_OPTIONS\\fR\noptions of a bare LD_PRELOAD, e.g. mode=sampled,out=/tmp/%p.tmk\n";
  return page;
}

}  // namespace tidemark
