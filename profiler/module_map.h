// Which mapped object does an instruction belong to, and did the set of objects change?
//
// Both questions are answered without the loader's locks, which another thread may hold while it allocates:
// _dl_find_object (glibc >= 2.35) is lock-free and signal-safe, and the loader's own count of additions is read where
// it lies.
//
// Context: any thread, signal-safe, no allocation, no locks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/cfi.h"

namespace tidemark {

struct ModuleView {
  uintptr_t start, end;  // from the first to the last segment, holes included
  uintptr_t load_bias;
  const uint8_t* eh_frame_hdr;
  const char* loader_name;  // link_map's name; "" for the executable
  CfiTable table() const { return {eh_frame_hdr, start, end}; }
};

// Call once, early, while the process is single-threaded, with two observations of dl_iterate_phdr's dlpi_adds around
// a dlopen: finds the loader's counter. Without it LoaderGeneration() is constant and says so through the result.
class LoaderCounter {
 public:
  void ObserveBefore();
  bool ObserveAfter();
};

// Changes whenever a module was added. Address ranges can be reused only by an addition, so rules and stacks that
// were right at one generation are right until the next.
uint64_t LoaderGeneration();

bool FindModule(uintptr_t pc, ModuleView* module);

// Does `pc` lie in an executable segment of the module?
bool IsExecutable(const ModuleView& module, uintptr_t pc);

// The GNU build-id of a mapped module: bytes written to `out`, 0 when it has none.
size_t ReadBuildId(const ModuleView& module, uint8_t* out, size_t capacity);

// Remembers the executable's path and program headers (AT_PHDR, AT_PHNUM; 0: unknown). Call once, early.
void RememberExecutable(uintptr_t program_headers, size_t count);
// The path to publish for a module: loader name, the executable's path, or "[vdso]".
const char* ModulePath(const ModuleView& module);

}  // namespace tidemark
