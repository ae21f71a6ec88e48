// Opening and reading a trace file; see trace_source.h for why it is not mapped.
#include "tools/trace_source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace tidemark {
namespace {

constexpr uint64_t kWindowBytes = 1u << 20;

}  // namespace

Result<std::unique_ptr<TraceSource>> TraceSource::Open(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for its writer.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    const int number = errno;
    return Error{ExitStatus::kUnreadable, "cannot open " + path + ": " + strerrordesc_np(number) +
                                              (number == EACCES ? "; traces are readable by their owner only" : "")};
  }
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return Error{ExitStatus::kUnreadable, path + (S_ISDIR(status.st_mode) ? " is a directory" : " is not a file") +
                                              "; give the name of a trace that `tidemark record` wrote"};
  }
  std::unique_ptr<TraceSource> source(new TraceSource(path, fd, static_cast<uint64_t>(status.st_size)));
  if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
    flock(fd, LOCK_UN);
  } else {
    source->being_written_ = errno == EWOULDBLOCK;
  }
  return source;
}

std::unique_ptr<TraceSource> TraceSource::FromMemory(std::string bytes) {
  std::unique_ptr<TraceSource> source(new TraceSource("(memory)", -1, bytes.size()));
  source->window_ = std::move(bytes);
  return source;
}

TraceSource::~TraceSource() {
  if (fd_ >= 0) close(fd_);
}

std::string_view TraceSource::View(uint64_t offset, uint64_t bytes) {
  if (offset >= size_) return {};
  bytes = std::min(bytes, size_ - offset);
  const uint64_t window_end = window_offset_ + window_.size();
  if ((offset < window_offset_ || offset + bytes > window_end) && fd_ >= 0) {
    window_.resize(static_cast<size_t>(std::min(std::max(bytes, kWindowBytes), size_ - offset)));
    window_offset_ = offset;
    size_t done = 0;
    while (done < window_.size()) {
      const ssize_t n = pread(fd_, window_.data() + done, window_.size() - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;  // shorter than it was, or unreadable: what is there must do
      done += static_cast<size_t>(n);
    }
    window_.resize(done);
  }
  if (offset - window_offset_ >= window_.size()) return {};
  return std::string_view(window_).substr(static_cast<size_t>(offset - window_offset_), static_cast<size_t>(bytes));
}

}  // namespace tidemark
