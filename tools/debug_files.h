// Finds the file that belongs to a module, and its separate debug file, and proves that they do.
//
// A file is only used when its build-id (or, for .gnu_debuglink without build-ids, its CRC) matches: wrong names are
// worse than none. Only the local file system is asked; debuginfod is never contacted.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "profiler/trace_writer.h"
#include "tools/elf_image.h"

namespace tidemark {

struct FoundImage {
  std::shared_ptr<const ElfImage> image;  // nullptr: not found
  std::string path;
};

struct ModuleFiles {
  FoundImage program;    // the module itself, verified
  FoundImage debug;      // separate debug file; the program again when that has .debug_info
  FoundImage alternate;  // dwz file of `debug`
  std::string reason;    // why program or debug is missing; "" when nothing is
};

ModuleFiles FindModuleFiles(const TraceModule& module, const std::vector<std::string>& debug_directories);

}  // namespace tidemark
