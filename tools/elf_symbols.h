// Function names from ELF symbol tables: .symtab, .dynsym, the compressed .gnu_debugdata, and PLT stubs by target.
//
// One flattened table per module, filled from any number of images of the same build-id (program, debug file,
// minidebuginfo). Names stay mangled here. It must not read DWARF.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/elf_image.h"
#include "tools/interval_table.h"
#include "tools/symbolizer.h"

namespace tidemark {

struct ElfSymbol {
  std::string_view name;  // mangled, without version; "malloc@plt" for a stub
  uint64_t address = 0;
  SymbolSource source = SymbolSource::kNone;
};

class ElfSymbols {
 public:
  // Adds the image's tables, best first; keeps the image alive as long as this object (names are views into it).
  void AddImage(std::shared_ptr<const ElfImage> image);
  // Adds the symbols of .gnu_debugdata. False when there is none; *error is set when it is there but damaged.
  bool AddMinidebugInfo(const ElfImage& image, std::string* error);
  void Build();

  const ElfSymbol* Find(uint64_t address) const;
  SymbolSource best_source() const { return best_source_; }
  size_t size() const { return symbols_.size(); }

 private:
  struct Candidate {
    ElfSymbol symbol;
    uint64_t size_bytes = 0, limit = 0;  // limit: end of its section, where a symbol without size ends at the latest
    uint32_t rank = 0;                   // smaller is the better of several names of one address
  };
  void AddTable(const ElfImage& image, const ElfSection& table, SymbolSource source);
  void AddPltStubs(const ElfImage& image);

  std::vector<std::shared_ptr<const ElfImage>> images_;
  std::vector<std::unique_ptr<std::string>> stub_names_;
  std::vector<Candidate> candidates_;
  std::vector<ElfSymbol> symbols_;
  IntervalTable table_;
  SymbolSource best_source_ = SymbolSource::kNone;
};

}  // namespace tidemark
