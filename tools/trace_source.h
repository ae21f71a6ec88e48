// A trace file as the reader sees it: a fixed number of bytes, read into memory of our own.
//
// Not mapped, on purpose: a mapped file that somebody truncates kills the reader with SIGBUS, and reading costs the
// same here, because every byte is read once for its checksum and events are decompressed into a buffer anyway.
// The size is taken once; a file that shrinks afterwards gives short reads, which the caller sees as missing bytes.
// Must not: interpret the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tools/result.h"

namespace tidemark {

class TraceSource {
 public:
  static Result<std::unique_ptr<TraceSource>> Open(const std::string& path);
  // Bytes in memory (fuzzing, tests).
  static std::unique_ptr<TraceSource> FromMemory(std::string bytes);
  ~TraceSource();
  TraceSource(const TraceSource&) = delete;
  TraceSource& operator=(const TraceSource&) = delete;

  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  // Somebody held the writer's lock when the file was opened.
  bool being_written() const { return being_written_; }

  // Up to `bytes` bytes at `offset`, fewer where the file ends; valid until the next call.
  std::string_view View(uint64_t offset, uint64_t bytes);

 private:
  TraceSource(std::string path, int fd, uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}

  std::string path_;
  int fd_;
  uint64_t size_;
  bool being_written_ = false;
  std::string window_;
  uint64_t window_offset_ = 0;
};

}  // namespace tidemark
