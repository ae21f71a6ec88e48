// What kind of program a file is, as far as it decides whether a preloaded malloc library takes effect in it.
//
// Reads headers, the dynamic section and symbol names of the file, bounds-checked; scripts are followed to the program
// that interprets them. Must not: load or run anything, need libdw (record calls this before every start).
#pragma once

#include <string>
#include <vector>

namespace tidemark {

enum class Verdict {
  kWorks,
  kNoEffect,  // it runs, but the preload does nothing in it
  kUnknown,   // the file could not be read
};

struct ProgramProbe {
  std::string path;                  // the file that was looked at last: the interpreter of a script
  std::vector<std::string> scripts;  // scripts that led there
  std::string interpreter;           // PT_INTERP; empty: static
  std::vector<std::string> needed;   // DT_NEEDED
  std::string sanitizer;             // "AddressSanitizer", ...
  bool elf = false;
  bool is_library = false;    // has a DT_SONAME
  bool same_machine = false;  // class and machine of this tool
  bool own_malloc = false;
  bool set_id = false;  // would run with other rights than ours
  bool capabilities = false;
  Verdict verdict = Verdict::kUnknown;
  std::string reason;  // one clause about the program, "is statically linked, ..."; empty when it works
};

// `path` as it would be given to execve.
ProgramProbe ProbeProgram(const std::string& path);

// The file that execvp would run for `name`; empty: none. `*denied`: one is there but may not be executed.
std::string FindProgram(const std::string& name, bool* denied);

}  // namespace tidemark
