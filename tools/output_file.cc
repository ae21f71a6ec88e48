// What may be written where, and what a trace is called by default; see output_file.h.
//
// Only a trace is replaced: by its magic, not by its name. Must not: follow a symbolic link.
#include "tools/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "profiler/trace_format.h"
#include "profiler/trace_names.h"

namespace tidemark {

Result<bool> CheckDirectory(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (access(directory.c_str(), W_OK | X_OK) == 0) return true;
  return Error{ExitStatus::kUnreadable, "the trace cannot be written into " +
                                            (directory == "." ? std::string("the current directory") : directory) +
                                            ": " + std::strerror(errno) + "; name another place with -o FILE"};
}

Result<bool> CheckOutput(const std::string& path) {
  if (path.empty() || path.back() == '/') {
    return Error{ExitStatus::kUsage, "-o needs the name of a file, not '" + path + "'"};
  }
  if (path == "-") {
    return Error{ExitStatus::kUsage,
                 "a trace cannot go to standard output, which is the command's; name a file with -o"};
  }
  struct stat s {};
  if (lstat(path.c_str(), &s) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) {
      return Error{ExitStatus::kUnreadable, path + " cannot be looked at: " + std::strerror(errno)};
    }
    Result<bool> directory = CheckDirectory(path);
    if (!directory) return directory;
    return false;
  }
  const std::string advice = "; remove it or name another file with -o";
  if (!S_ISREG(s.st_mode)) {
    const char* what = S_ISDIR(s.st_mode)   ? "a directory"
                       : S_ISLNK(s.st_mode) ? "a symbolic link"
                                            : "not a regular file";
    return Error{ExitStatus::kUnreadable, path + " exists and is " + what + advice};
  }
  char magic[sizeof kTraceMagic] = {};
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  const ssize_t n = fd < 0 ? -1 : read(fd, magic, sizeof magic);
  if (fd >= 0) close(fd);
  const bool trace = n == static_cast<ssize_t>(sizeof magic) && std::memcmp(magic, kTraceMagic, sizeof magic) == 0;
  if (s.st_size != 0 && !trace) {
    return Error{ExitStatus::kUnreadable, path + " exists and is not a trace, so it is not overwritten" + advice};
  }
  Result<bool> directory = CheckDirectory(path);  // the new trace is a new file
  if (!directory) return directory;
  return true;
}

std::string DefaultOutput(const std::string& program, int pid) {
  std::string name = program.substr(program.find_last_of('/') + 1);
  if (name.size() > 64) name.resize(64);
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::strchr("._-+", c) != nullptr || static_cast<unsigned char>(c) >= 0x80;
    if (!plain) c = '_';
  }
  const std::string path = "tidemark." + name + "." + std::to_string(pid) + ".tmk";
  struct stat s {};
  for (unsigned number = 2;; ++number) {
    const std::string candidate = number == 2 ? path : NumberedName(path, number - 1);
    if (lstat(candidate.c_str(), &s) != 0) return candidate;
  }
}

}  // namespace tidemark
