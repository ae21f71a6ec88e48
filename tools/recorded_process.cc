// See recorded_process.h. Looks at the descriptors of processes called tidemark..., which /proc shows to their own user
// only. Must not: write to anything, or signal anybody but by signal 0.
#include "tools/recorded_process.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tools/trace_reader.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;

bool IsNumber(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

// Regular files that the process has open.
std::vector<std::string> OpenFiles(const fs::path& process) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator it(process / "fd", error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    const std::string target = fs::read_symlink(it->path(), gone).string();
    struct stat status {};
    if (!gone && target.starts_with("/") && stat(target.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      files.push_back(target);
    }
  }
  return files;
}

}  // namespace

Result<std::string> FindTraceOf(pid_t pid) {
  const std::string name = std::to_string(pid);
  if (kill(pid, 0) != 0 && errno == ESRCH) {
    return Error{ExitStatus::kUnreadable, "there is no process " + name};
  }
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    if (!IsNumber(it->path().filename().string())) continue;
    std::string comm;
    std::getline(std::ifstream(it->path() / "comm"), comm);
    if (!comm.starts_with("tidemark")) continue;
    for (const std::string& file : OpenFiles(it->path())) {
      const Result<std::unique_ptr<TraceReader>> reader = TraceReader::Open(file);
      if (!reader) continue;
      const nlohmann::json& info = (*reader)->info();
      const auto found = info.find("pid");
      if (found != info.end() && found->is_number_integer() && *found == pid && (*reader)->end().is_null()) return file;
    }
  }
  return Error{ExitStatus::kUnreadable,
               "process " + name +
                   " is not being recorded, or by another user; start it with `tidemark record`, "
                   "or name its trace file"};
}

}  // namespace tidemark
