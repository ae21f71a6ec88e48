// From pattern, pid and image to a file that did not exist; see trace_names.h.
//
// O_EXCL decides, not a check before: several recordings may write into one directory. Must not: overwrite.
#include "profiler/trace_names.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace tidemark {
namespace {

constexpr unsigned kMaxAttempts = 10'000;

bool Exists(const std::string& path) {
  struct stat s {};
  return lstat(path.c_str(), &s) == 0;
}

}  // namespace

std::string NumberedName(const std::string& path, unsigned number) {
  const std::string suffix = ".tmk";
  const bool has_suffix = path.size() > suffix.size() && path.ends_with(suffix);
  const std::string stem = has_suffix ? path.substr(0, path.size() - suffix.size()) : path;
  return stem + "-" + std::to_string(number) + (has_suffix ? suffix : "");
}

TraceNames::Moved TraceNames::MoveAside(pid_t pid, uint32_t image) {
  if (launched_path_.empty() || output_.find("%p") != std::string::npos) return {};
  std::string path = output_ + "." + std::to_string(pid);
  if (image > 1) path += "." + std::to_string(image);
  for (unsigned attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    const std::string name = attempt == 1 ? path : NumberedName(path, attempt);
    // link() instead of rename(): it never overwrites.
    if (link(launched_path_.c_str(), name.c_str()) != 0) {
      if (errno == EEXIST) continue;
      return {};
    }
    unlink(launched_path_.c_str());
    return {std::exchange(launched_path_, {}), name};
  }
  return {};
}

std::unique_ptr<TraceWriter> TraceNames::Create(pid_t pid, uint32_t image, bool launched, std::string* error) {
  std::string path = output_;
  const size_t pattern = path.find("%p");
  const std::string number = std::to_string(pid);
  if (pattern != std::string::npos) {
    for (size_t at = pattern; at != std::string::npos; at = path.find("%p", at + number.size())) {
      path.replace(at, 2, number);
    }
  } else if (!launched || !launched_path_.empty()) {
    path += "." + number;
    if (image > 1) path += "." + std::to_string(image);
  }
  if (replace_first_ && launched && image == 1) unlink(path.c_str());
  for (unsigned attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    const std::string name = attempt == 1 ? path : NumberedName(path, attempt);
    // Asking first keeps thousands of failed creations cheap; Create's O_EXCL decides.
    if (attempt < kMaxAttempts && Exists(name)) continue;
    if (std::unique_ptr<TraceWriter> writer = TraceWriter::Create(name, error)) {
      if (launched) launched_path_ = name;
      return writer;
    }
    if (!Exists(name)) return nullptr;
  }
  return nullptr;
}

}  // namespace tidemark
