// Headers, dynamic section and symbols of a file that is about to be run; see elf_probe.h.
//
// A parser of its own on bounds-checked reads: record asks before every start, and for damaged files as well.
// Must not: follow an offset without checking it against the file's size, follow scripts without end.
#include "tools/elf_probe.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace tidemark {
namespace {

constexpr int kMaxScripts = 5;            // as the kernel
constexpr uint64_t kMaxTable = 64 << 20;  // symbol and string tables beyond this are not read
constexpr size_t kMaxHeaders = 4096;
#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#endif

class File {
 public:
  explicit File(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    struct stat s {};
    if (fd_ >= 0 && fstat(fd_, &s) == 0 && S_ISREG(s.st_mode)) bytes_ = static_cast<uint64_t>(s.st_size);
  }
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  bool ok() const { return fd_ >= 0; }
  // All of [offset, offset + bytes), or nothing.
  bool Read(uint64_t offset, void* out, uint64_t bytes) const {
    if (fd_ < 0 || offset > bytes_ || bytes > bytes_ - offset) return false;
    return pread(fd_, out, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes);
  }
  template <typename T>
  std::vector<T> ReadTable(uint64_t offset, uint64_t bytes) const {
    if (bytes > kMaxTable) return {};
    std::vector<T> table(bytes / sizeof(T));
    if (table.empty() || !Read(offset, table.data(), table.size() * sizeof(T))) return {};
    return table;
  }
  uint64_t bytes() const { return bytes_; }

 private:
  int fd_;
  uint64_t bytes_ = 0;
};

std::string TextAt(const std::vector<char>& strings, uint64_t offset) {
  if (offset >= strings.size()) return {};
  return std::string(strings.data() + offset, strnlen(strings.data() + offset, strings.size() - offset));
}

std::string_view BaseName(std::string_view path) { return path.substr(path.find_last_of('/') + 1); }

struct SanitizerName {
  const char* library;  // prefix of a DT_NEEDED
  const char* symbol;
  const char* name;
};
constexpr SanitizerName kSanitizers[] = {
    {"libasan", "__asan_init", "AddressSanitizer"},
    {"libclang_rt.asan", "__asan_init", "AddressSanitizer"},
    {"libtsan", "__tsan_init", "ThreadSanitizer"},
    {"libclang_rt.tsan", "__tsan_init", "ThreadSanitizer"},
    {"libhwasan", "__hwasan_init", "HWAddressSanitizer"},
    {"libclang_rt.hwasan", "__hwasan_init", "HWAddressSanitizer"},
    {"libclang_rt.msan", "__msan_init", "MemorySanitizer"},
    {"liblsan", "__lsan_init", "LeakSanitizer"},
};

void ReadDynamic(const File& file, const std::vector<Elf64_Phdr>& segments, ProgramProbe* probe) {
  const auto dynamic = std::find_if(segments.begin(), segments.end(), [](auto& s) { return s.p_type == PT_DYNAMIC; });
  if (dynamic == segments.end()) return;
  const auto entries = file.ReadTable<Elf64_Dyn>(dynamic->p_offset, dynamic->p_filesz);
  uint64_t strings_address = 0, strings_bytes = 0;
  for (const Elf64_Dyn& entry : entries) {
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_STRTAB) strings_address = entry.d_un.d_ptr;
    if (entry.d_tag == DT_STRSZ) strings_bytes = entry.d_un.d_val;
  }
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD || strings_address < segment.p_vaddr ||
        strings_address - segment.p_vaddr >= segment.p_filesz) {
      continue;
    }
    const uint64_t delta = strings_address - segment.p_vaddr;
    const auto strings =
        file.ReadTable<char>(segment.p_offset + delta, std::min(strings_bytes, segment.p_filesz - delta));
    for (const Elf64_Dyn& entry : entries) {
      if (entry.d_tag == DT_NULL) break;
      if (entry.d_tag == DT_NEEDED) probe->needed.push_back(TextAt(strings, entry.d_un.d_val));
      if (entry.d_tag == DT_SONAME) probe->is_library = true;
    }
    return;
  }
}

// Defined names that matter, of .dynsym and .symtab.
void ReadSymbols(const File& file, const Elf64_Ehdr& header, ProgramProbe* probe) {
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum > kMaxHeaders) return;
  const auto sections = file.ReadTable<Elf64_Shdr>(header.e_shoff, uint64_t{header.e_shnum} * sizeof(Elf64_Shdr));
  for (const Elf64_Shdr& section : sections) {
    if ((section.sh_type != SHT_DYNSYM && section.sh_type != SHT_SYMTAB) || section.sh_link >= sections.size())
      continue;
    const Elf64_Shdr& names = sections[section.sh_link];
    const auto strings = file.ReadTable<char>(names.sh_offset, names.sh_size);
    for (const Elf64_Sym& symbol : file.ReadTable<Elf64_Sym>(section.sh_offset, section.sh_size)) {
      const unsigned bind = ELF64_ST_BIND(symbol.st_info);
      if (symbol.st_shndx == SHN_UNDEF || (bind != STB_GLOBAL && bind != STB_WEAK)) continue;
      if (symbol.st_name >= strings.size()) continue;
      const char* name = strings.data() + symbol.st_name;
      const size_t room = strings.size() - symbol.st_name;
      if (name[0] == 'm' && strnlen(name, room) == 6 && std::memcmp(name, "malloc", 6) == 0) probe->own_malloc = true;
      if (name[0] != '_' || room < 16) continue;
      for (const SanitizerName& known : kSanitizers) {
        if (strncmp(name, known.symbol, room) == 0) probe->sanitizer = known.name;
      }
    }
  }
}

void ReadElf(const File& file, ProgramProbe* probe) {
  Elf64_Ehdr header{};
  unsigned char ident[EI_NIDENT] = {};
  if (!file.Read(0, ident, sizeof ident)) return;
  probe->elf = true;
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB || !file.Read(0, &header, sizeof header)) return;
  probe->same_machine = header.e_machine == kMachine;
  if (!probe->same_machine || header.e_phentsize != sizeof(Elf64_Phdr)) return;
  const auto segments = file.ReadTable<Elf64_Phdr>(header.e_phoff, uint64_t{header.e_phnum} * sizeof(Elf64_Phdr));
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_INTERP || segment.p_filesz > 4096) continue;
    probe->interpreter = TextAt(file.ReadTable<char>(segment.p_offset, segment.p_filesz), 0);
  }
  ReadDynamic(file, segments, probe);
  ReadSymbols(file, header, probe);
}

void ReadRights(ProgramProbe* probe) {
  struct stat s {};
  if (stat(probe->path.c_str(), &s) != 0) return;
  probe->set_id = ((s.st_mode & S_ISUID) != 0 && s.st_uid != getuid()) ||
                  ((s.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && s.st_gid != getgid());
  probe->capabilities = getuid() != 0 && getxattr(probe->path.c_str(), "security.capability", nullptr, 0) > 0;
}

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

void Judge(ProgramProbe* probe) {
  const auto say = [probe](Verdict verdict, std::string reason) {
    probe->verdict = verdict;
    probe->reason = std::move(reason);
  };
  if (!probe->elf) return say(Verdict::kUnknown, "is neither an ELF program nor a script with a #! line");
  if (!probe->same_machine) {
    return say(Verdict::kNoEffect,
               "is built for another architecture or word size than libtidemark.so, so the loader ignores the library");
  }
  // The loader itself, given a program to run: it does not load itself, and it heeds LD_PRELOAD.
  if (probe->interpreter.empty() && probe->is_library) return say(Verdict::kWorks, "");
  if (probe->interpreter.empty()) {
    return say(Verdict::kNoEffect, "is statically linked, so LD_PRELOAD has no effect on it; link it dynamically");
  }
  if (StartsWith(BaseName(probe->interpreter), "ld-musl")) {
    return say(Verdict::kNoEffect, "is linked against musl (" + probe->interpreter +
                                       "), where libtidemark.so leaves the heap alone; record a build for glibc");
  }
  for (const std::string& library : probe->needed) {
    for (const SanitizerName& known : kSanitizers) {
      if (StartsWith(library, known.library)) probe->sanitizer = known.name;
    }
  }
  if (probe->set_id || probe->capabilities) {
    return say(Verdict::kNoEffect, probe->set_id ? "is setuid or setgid, so the loader ignores LD_PRELOAD; "
                                                   "run it as the user it switches to"
                                                 : "has file capabilities, so the loader ignores LD_PRELOAD; "
                                                   "run it as root");
  }
  if (!probe->sanitizer.empty()) {
    return say(Verdict::kNoEffect, "is built with " + probe->sanitizer +
                                       ", which brings its own malloc; "
                                       "record a build without it");
  }
  if (probe->own_malloc) {
    return say(Verdict::kNoEffect,
               "brings its own malloc, which wins over the preloaded one; record a build that uses the system's");
  }
  probe->verdict = Verdict::kWorks;
}

// "#! /usr/bin/env -S python3 x" -> {"/usr/bin/env", "-S python3 x"}; the kernel reads 255 bytes.
bool ParseShebang(const char* head, size_t bytes, std::string* interpreter, std::string* argument) {
  if (bytes < 3 || head[0] != '#' || head[1] != '!') return false;
  std::string_view line(head + 2, bytes - 2);
  line = line.substr(0, line.find('\n'));
  const size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return false;
  const size_t end = std::min(line.find_first_of(" \t", begin), line.size());
  *interpreter = line.substr(begin, end - begin);
  const size_t rest = line.find_first_not_of(" \t", end);
  *argument = rest == std::string_view::npos ? "" : std::string(line.substr(rest));
  argument->erase(argument->find_last_not_of(" \t\r") + 1);
  return true;
}

// The program that `env ARGUMENT` starts; empty when there is more to it than a name.
std::string ProgramOfEnv(std::string argument) {
  if (StartsWith(argument, "-S"))
    argument = argument.substr(std::min(argument.find_first_not_of(" \t", 2), argument.size()));
  const std::string name = argument.substr(0, argument.find_first_of(" \t"));
  if (name.empty() || name[0] == '-' || name.find('=') != std::string::npos) return {};
  bool denied = false;
  return FindProgram(name, &denied);
}

}  // namespace

ProgramProbe ProbeProgram(const std::string& path) {
  ProgramProbe probe;
  probe.path = path;
  for (int depth = 0;; ++depth) {
    const File file(probe.path);
    if (!file.ok()) {
      // Executable but not readable: it will run, and most likely the preload works in it.
      probe.reason = std::string("could not be read (") + std::strerror(errno) + ")";
      return probe;
    }
    char head[256] = {};
    const size_t bytes = std::min<uint64_t>(sizeof head - 1, file.bytes());
    if (!file.Read(0, head, bytes)) return probe;
    std::string interpreter, argument;
    if (ParseShebang(head, bytes, &interpreter, &argument) && depth < kMaxScripts) {
      probe.scripts.push_back(probe.path);
      probe.path = interpreter;
      const std::string program = BaseName(interpreter) == "env" ? ProgramOfEnv(argument) : std::string();
      if (!program.empty()) probe.path = program;
      continue;
    }
    if (bytes >= SELFMAG && std::memcmp(head, ELFMAG, SELFMAG) == 0) ReadElf(file, &probe);
    ReadRights(&probe);
    Judge(&probe);
    return probe;
  }
}

std::string FindProgram(const std::string& name, bool* denied) {
  *denied = false;
  const auto usable = [denied](const std::string& path) {
    struct stat s {};
    if (stat(path.c_str(), &s) != 0) {
      if (errno == EACCES) *denied = true;
      return false;
    }
    if (S_ISREG(s.st_mode) && access(path.c_str(), X_OK) == 0) return true;
    *denied = true;
    return false;
  };
  if (name.find('/') != std::string::npos) return usable(name) ? name : std::string();
  if (name.empty()) return {};
  const char* environment = std::getenv("PATH");
  std::string_view path = environment != nullptr ? environment : "/bin:/usr/bin";
  for (;;) {
    const size_t end = std::min(path.find(':'), path.size());
    const std::string directory(path.substr(0, end));
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
    if (usable(candidate)) return candidate;
    if (end == path.size()) return {};
    path.remove_prefix(end + 1);
  }
}

}  // namespace tidemark
