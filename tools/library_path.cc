// Looking beside the executable; see library_path.h.
//
// Relative to /proc/self/exe, so that a build tree and an installation may be moved. Must not: search the loader's
// path, where a library of another version may lie.
#include "tools/library_path.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

namespace tidemark {
namespace {

constexpr char kLibraryName[] = "libtidemark.so";

// LD_PRELOAD separators, and '$', which starts a token like $ORIGIN.
bool NeedsLink(const std::string& path) { return path.find_first_of(" :$\t\n") != std::string::npos; }

std::string Resolved(const std::string& path) {
  char buffer[PATH_MAX];
  return access(path.c_str(), R_OK) == 0 && realpath(path.c_str(), buffer) != nullptr ? std::string(buffer)
                                                                                      : std::string();
}

}  // namespace

Result<std::string> FindLibrary() {
  if (const char* named = std::getenv("TIDEMARK_LIBRARY"); named != nullptr && named[0] != '\0') {
    const std::string path = Resolved(named);
    if (path.empty()) {
      return Error{ExitStatus::kCouldNotCheck, std::string("TIDEMARK_LIBRARY names ") + named +
                                                   ", which cannot be read: " + std::strerror(errno) +
                                                   "; correct or unset it"};
    }
    return path;
  }
  char buffer[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", buffer, sizeof buffer);
  if (n <= 0 || n == static_cast<ssize_t>(sizeof buffer)) {
    return Error{ExitStatus::kCouldNotCheck,
                 "/proc/self/exe cannot be read, so libtidemark.so cannot be found; set TIDEMARK_LIBRARY to its path"};
  }
  const std::string executable(buffer, static_cast<size_t>(n));
  const std::string directory = executable.substr(0, executable.find_last_of('/'));
  std::vector<std::string> places = {directory + "/../interpose/", directory + "/../lib/tidemark/"};
  // Multiarch: prefix/lib/x86_64-linux-gnu/tidemark/, prefix/lib64/tidemark/
  if (DIR* lib = opendir((directory + "/../lib").c_str())) {
    while (const dirent* entry = readdir(lib)) {
      if (std::strstr(entry->d_name, "-linux-") != nullptr) {
        places.push_back(directory + "/../lib/" + entry->d_name + "/tidemark/");
      }
    }
    closedir(lib);
  }
  places.push_back(directory + "/../lib64/tidemark/");
  for (const std::string& place : places) {
    const std::string path = Resolved(place + kLibraryName);
    if (!path.empty()) return path;
  }
  return Error{ExitStatus::kCouldNotCheck,
               "libtidemark.so was not found beside " + executable +
                   " (looked in ../interpose, ../lib/tidemark, ../lib/*/tidemark); build or install it, or set "
                   "TIDEMARK_LIBRARY to its path"};
}

Result<PreloadPath> MakePreloadPath(const std::string& library) {
  PreloadPath preload;
  preload.path = library;
  if (!NeedsLink(library)) return preload;
  const char* temporary = std::getenv("TMPDIR");
  std::string pattern = temporary != nullptr && temporary[0] == '/' && !NeedsLink(temporary) ? temporary : "/tmp";
  pattern += "/tidemark-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) {
    return Error{ExitStatus::kCouldNotCheck, "creating " + pattern + " failed: " + std::strerror(errno) +
                                                 "; it is needed because the path of libtidemark.so (" + library +
                                                 ") has a character that LD_PRELOAD cannot hold"};
  }
  // Children that give up root's rights must get through; what is in there is no secret and only ours to change.
  if (geteuid() == 0) chmod(pattern.c_str(), 0711);
  preload.path = pattern + "/" + kLibraryName;
  preload.made = {preload.path, pattern};
  if (symlink(library.c_str(), preload.path.c_str()) != 0) {
    const std::string reason = std::strerror(errno);
    rmdir(pattern.c_str());
    return Error{ExitStatus::kCouldNotCheck, "creating the link " + preload.path + " failed: " + reason};
  }
  return preload;
}

}  // namespace tidemark
