// See output_stream.h.
#include "tools/output_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tidemark {

Result<OutputStream> OutputStream::Open(const std::string& path) {
  if (path == "-") return OutputStream(path, "", stdout);
  struct stat status {};
  const bool exists = stat(path.c_str(), &status) == 0;
  const bool replace = !exists || S_ISREG(status.st_mode);
  const std::string target = replace ? path + ".part-" + std::to_string(getpid()) : path;
  // A view shows names and commands of the profiled program, as the trace does: for its owner only.
  const int flags = O_WRONLY | O_CLOEXEC | (replace ? O_CREAT | O_EXCL : 0);
  const int fd = open(target.c_str(), flags, 0600);
  std::FILE* file = fd < 0 ? nullptr : fdopen(fd, "w");
  if (file == nullptr) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return Error{ExitStatus::kCouldNotCheck,
                 "cannot write '" + path + "': " + std::strerror(error) + "; name another file with -o"};
  }
  return OutputStream(path, replace ? target : "", file);
}

OutputStream::OutputStream(OutputStream&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), file_(other.file_), error_(other.error_) {
  other.file_ = nullptr;
}

OutputStream::~OutputStream() {
  if (file_ == nullptr || file_ == stdout) return;
  std::fclose(file_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void OutputStream::Write(std::string_view text) {
  if (error_ != 0) return;
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size()) error_ = errno;
}

Error OutputStream::Failure(const char* what) {
  const std::string where = file_ == stdout || path_ == "-" ? "standard output" : "'" + path_ + "'";
  return Error{ExitStatus::kCouldNotCheck, std::string(what) + " " + where + " failed: " + std::strerror(error_)};
}

std::optional<Error> OutputStream::Commit() {
  if (error_ == 0 && std::fflush(file_) != 0) error_ = errno;
  if (error_ != 0) return Failure("writing");
  if (file_ == stdout) return std::nullopt;
  std::FILE* file = file_;
  file_ = nullptr;
  if (std::fclose(file) != 0) error_ = errno;
  if (error_ == 0 && !temporary_.empty() && rename(temporary_.c_str(), path_.c_str()) != 0) error_ = errno;
  if (error_ == 0) return std::nullopt;
  if (!temporary_.empty()) unlink(temporary_.c_str());
  return Failure("writing");
}

}  // namespace tidemark
