// Addresses -> functions, files and lines, with inline frames. libdw is known to dwarf_index.cc alone.
//
// One resolver per module, identified by build-id: DWARF (own per-CU interval cache over libdw, see docs/design.md),
// separate debug files (build-id directory, .gnu_debuglink, .gnu_debugdata), llvm-symbolizer when it is installed and
// libdw cannot read the sections, ELF symbol tables last. Results are kept in a cache on disk by build-id.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "profiler/trace_writer.h"

namespace tidemark {

// Where a module's names came from, best first.
enum class SymbolSource { kDwarf, kLlvm, kMinidebug, kSymtab, kDynsym, kNone };

struct SymbolFrame {
  std::string function;  // demangled; "" when unknown
  std::string file;      // "" when unknown
  uint32_t line = 0;     // 0 when unknown
  bool inlined = false;  // this frame was inlined into the next one
};

struct SymbolizedAddress {
  std::vector<SymbolFrame> frames;  // innermost inlinee first, the physical function last; empty: nothing is known
};

struct ModuleSymbols {
  SymbolSource source = SymbolSource::kNone;
  std::string reason;  // why not better: "no debug file for build-id ab12...", "file is gone", "build-id differs"
};

struct SymbolizerOptions {
  std::string cache_directory;              // "": $XDG_CACHE_HOME/tidemark or ~/.cache/tidemark
  uint64_t cache_max_bytes = 256ull << 20;  // least recently used files go first
  bool use_cache = true;
  bool allow_llvm = true;
  std::vector<std::string> debug_directories = {"/usr/lib/debug"};
};

class Symbolizer {
 public:
  static std::unique_ptr<Symbolizer> Create(SymbolizerOptions options);
  virtual ~Symbolizer() = default;

  // Registers a module, returns its id. Modules with equal build-id and path share one resolver.
  virtual uint32_t AddModule(const TraceModule& module) = 0;
  // `relative_pc`: pc - load_bias, i.e. an address as in the ELF file. The caller has already stepped a return address
  // back into its call (pc - 1). Results are memoized; the reference stays valid for the symbolizer's lifetime.
  virtual const SymbolizedAddress& Resolve(uint32_t module, uint64_t relative_pc) = 0;
  // Resolves many at once (sorted and grouped internally): use it before Resolve where the set is known.
  virtual void Prefetch(uint32_t module, const std::vector<uint64_t>& relative_pcs) = 0;
  virtual const ModuleSymbols& Status(uint32_t module) const = 0;
  // Writes the caches back to disk. Failure is silent but for Status: a cache is only a cache.
  virtual void SaveCache() = 0;
};

// C++ (Itanium), Rust (v0 and legacy) and D names; anything else comes back unchanged.
std::string Demangle(const std::string& name);

}  // namespace tidemark
