// Address -> function, file and line with inline frames, from the DWARF of one module.
//
// libdw answers questions about one DIE well and questions about one address slowly (it walks the unit each time: 436 s
// against 0.7 s for 20,000 addresses of a 73 MB program). So libdw is only the decoder here; the index is ours and
// lazy in three steps, so that a profile pays for what it touches:
//   1. unit ranges, read once from every unit (never .debug_aranges: clang writes none);
//   2. per unit with a hit: a flat table of its functions, and libdw's sorted line table;
//   3. per function with a hit: a flat table of its inlined calls.
// The .cc is the only file that includes libdw headers. Not thread-safe, as libdw 0.188 is not.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/debug_files.h"
#include "tools/symbolizer.h"

namespace tidemark {

struct DwarfAnswer {
  std::vector<SymbolFrame> frames;  // innermost first; function "" when DWARF knows only the line
  // The last frame's name comes from DW_AT_name alone: a mangled ELF symbol for the same code says more.
  bool function_is_unmangled = false;
  uint64_t function_start = 0;
};

class DwarfIndex {
 public:
  // nullptr and *error (one phrase) when libdw cannot read the sections.
  static std::unique_ptr<DwarfIndex> Open(const FoundImage& debug, const FoundImage& alternate, std::string* error);
  virtual ~DwarfIndex() = default;

  // False when no unit covers the address.
  virtual bool Find(uint64_t address, DwarfAnswer* answer) = 0;
  // Units whose DWARF lies in a .dwo or .dwp file that libdw could not find or read.
  virtual uint64_t missing_split_units() const = 0;
};

}  // namespace tidemark
