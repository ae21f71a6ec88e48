// See debug_files.h. Order of debug files: the program itself, the build-id directory, then .gnu_debuglink.
#include "tools/debug_files.h"

#include <sys/auxv.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string_view>

namespace tidemark {
namespace {

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// <directory>/.build-id/ab/cdef.debug
std::string BuildIdPath(const std::string& directory, const std::string& build_id) {
  const std::string hex = ToHex(build_id);
  return directory + "/.build-id/" + hex.substr(0, 2) + "/" + hex.substr(2) + ".debug";
}

FoundImage OpenVerified(const std::string& path, const std::string& build_id) {
  std::string ignored;
  std::shared_ptr<const ElfImage> image = ElfImage::Open(path, &ignored);
  if (image == nullptr || image->build_id() != build_id) return {};
  return {std::move(image), path};
}

FoundImage FindByBuildId(const std::string& build_id, const std::vector<std::string>& directories) {
  if (build_id.size() < 2) return {};
  for (const std::string& directory : directories) {
    FoundImage found = OpenVerified(BuildIdPath(directory, build_id), build_id);
    if (found.image != nullptr) return found;
  }
  return {};
}

uint32_t Crc32(std::string_view bytes) {
  uLong crc = crc32(0, nullptr, 0);
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), 1 << 30);
    crc = crc32(crc, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(part));
    bytes.remove_prefix(part);
  }
  return static_cast<uint32_t>(crc);
}

// .gnu_debuglink: name, padding to 4, CRC-32 of the debug file.
FoundImage FindByDebugLink(const FoundImage& program, const std::vector<std::string>& directories,
                           std::string* missing) {
  const ElfSection* section = program.image->FindSection(".gnu_debuglink");
  if (section == nullptr) return {};
  const std::string_view link = program.image->BytesOf(*section);
  const size_t name_bytes = link.find('\0');
  if (name_bytes == std::string_view::npos || name_bytes == 0) return {};
  const std::string name(link.substr(0, name_bytes));
  const size_t crc_at = (name_bytes + 4) / 4 * 4;
  if (name.find('/') != std::string::npos || crc_at + 4 > link.size()) return {};
  uint32_t crc = 0;
  std::memcpy(&crc, link.data() + crc_at, sizeof(crc));
  const std::string directory = DirectoryOf(program.path);
  std::vector<std::string> candidates = {directory + "/" + name, directory + "/.debug/" + name};
  for (const std::string& debug_directory : directories) {
    if (directory.starts_with('/')) candidates.push_back(debug_directory + directory + "/" + name);
    candidates.push_back(debug_directory + "/" + name);
  }
  *missing = "debug file " + name + " (.gnu_debuglink) was not found";
  for (const std::string& candidate : candidates) {
    std::string ignored;
    std::shared_ptr<const ElfImage> image = ElfImage::Open(candidate, &ignored);
    if (image == nullptr || candidate == program.path) continue;
    const bool both_have_ids = !image->build_id().empty() && !program.image->build_id().empty();
    const bool matches = both_have_ids ? image->build_id() == program.image->build_id() : Crc32(image->bytes()) == crc;
    if (matches) return {std::move(image), candidate};
    *missing = "debug file " + candidate + " belongs to another build";
  }
  return {};
}

// .gnu_debugaltlink: name, then the build-id of the file dwz moved common DWARF to.
FoundImage FindAlternate(const FoundImage& debug, const std::vector<std::string>& directories) {
  const ElfSection* section = debug.image->FindSection(".gnu_debugaltlink");
  if (section == nullptr) return {};
  const std::string_view link = debug.image->BytesOf(*section);
  const size_t name_bytes = link.find('\0');
  if (name_bytes == std::string_view::npos) return {};
  const std::string name(link.substr(0, name_bytes)), build_id(link.substr(name_bytes + 1));
  if (build_id.empty()) return {};
  const std::string path = name.starts_with('/') ? name : DirectoryOf(debug.path) + "/" + name;
  FoundImage found = OpenVerified(path, build_id);
  return found.image != nullptr ? found : FindByBuildId(build_id, directories);
}

// The vdso is no file, but every process of one kernel has the same: take our own when the build-id agrees.
std::shared_ptr<const ElfImage> OwnVdso() {
  const unsigned long address = getauxval(AT_SYSINFO_EHDR);
  if (address == 0) return nullptr;
  std::ifstream maps("/proc/self/maps");
  std::string line, error;
  while (std::getline(maps, line)) {
    if (!line.ends_with("[vdso]")) continue;
    char* rest = nullptr;
    const unsigned long start = std::strtoul(line.c_str(), &rest, 16);
    const unsigned long end = *rest == '-' ? std::strtoul(rest + 1, nullptr, 16) : 0;
    if (start != address || end <= start) return nullptr;
    return ElfImage::FromBytes(std::string(reinterpret_cast<const char*>(start), end - start), &error);
  }
  return nullptr;
}

FoundImage FindProgram(const TraceModule& module, std::string* reason) {
  if (module.path == "[vdso]" || module.path == "linux-vdso.so.1") {
    std::shared_ptr<const ElfImage> vdso = OwnVdso();
    if (vdso != nullptr && !module.build_id.empty() && vdso->build_id() == module.build_id) return {vdso, "[vdso]"};
    *reason = "the vdso of another kernel cannot be read";
    return {};
  }
  if (module.path.empty() || module.path[0] != '/') {
    *reason = module.path.empty() ? "the module has no path" : module.path + " is not a file";
    return {};
  }
  static constexpr std::string_view kDeleted = " (deleted)";
  std::vector<std::string> paths = {module.path};
  const bool deleted = module.path.ends_with(kDeleted);
  // What lies at the path now may be a newer build: good enough only when the build-id proves it is the same.
  if (deleted && !module.build_id.empty()) {
    paths.push_back(module.path.substr(0, module.path.size() - kDeleted.size()));
  }
  for (const std::string& path : paths) {
    std::string error;
    std::shared_ptr<const ElfImage> image = ElfImage::Open(path, &error);
    if (image == nullptr) {
      if (reason->empty()) *reason = path + ": " + error;
      continue;
    }
    if (module.build_id.empty() || image->build_id() == module.build_id) {
      reason->clear();
      return {std::move(image), path};
    }
    *reason = "the build-id of " + path + " differs from the recorded one (the file was replaced)";
  }
  return {};
}

}  // namespace

ModuleFiles FindModuleFiles(const TraceModule& module, const std::vector<std::string>& debug_directories) {
  ModuleFiles files;
  files.program = FindProgram(module, &files.reason);
  const std::string build_id = files.program.image != nullptr ? files.program.image->build_id() : module.build_id;
  if (files.program.image != nullptr && files.program.image->HasDebugInfo()) {
    files.debug = files.program;
  } else {
    std::string link_missing;
    files.debug = FindByBuildId(build_id, debug_directories);
    if (files.debug.image == nullptr && files.program.image != nullptr) {
      files.debug = FindByDebugLink(files.program, debug_directories, &link_missing);
    }
    if (files.debug.image == nullptr) {
      std::string missing = link_missing;
      if (missing.empty()) {
        missing = build_id.empty() ? "no debug information and no build-id to find it by"
                                   : "no debug file for build-id " + ToHex(build_id);
      }
      files.reason += (files.reason.empty() ? "" : "; ") + missing;
    } else {
      files.reason.clear();
    }
  }
  if (files.debug.image != nullptr) files.alternate = FindAlternate(files.debug, debug_directories);
  return files;
}

}  // namespace tidemark
