// The trace file while it is written: checksummed sections, appended whole or not at all.
//
// Runs in the collector process only. The file is created 0600 with O_EXCL|O_NOFOLLOW|O_CLOEXEC and carries an
// advisory lock while it is open, so that readers can tell "still being recorded" from "interrupted".
// A write that fails (disk full, file size limit, I/O error) is cut off again; what comes next is counted and thrown
// away, until a later attempt finds room. Some room is kept for the end of the trace, which says what is missing.
// SIGXFSZ is kept from the process. Must not: know what is in a payload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/columns.h"
#include "profiler/trace_format.h"

struct ZSTD_CCtx_s;

namespace tidemark {

// A payload before compression. `cuts` are places where one kind of data ends and another begins: the compressor
// starts a new block there, because mixed columns share one entropy table otherwise (measured: 10 % of the size).
struct Payload {
  std::string bytes;
  std::vector<size_t> cuts;

  void StartTable(uint64_t rows);
  template <typename Column>
  void AddColumn(Column id, const ColumnBuilder& column) {
    AddColumnBytes(static_cast<uint32_t>(id), column.view());
  }
  void AddColumnBytes(uint32_t id, std::string_view column);
};

class SectionFile {
 public:
  // On failure returns nullptr and sets *error to one sentence.
  static std::unique_ptr<SectionFile> Create(const std::string& path, std::string* error);
  ~SectionFile();
  SectionFile(const SectionFile&) = delete;
  SectionFile& operator=(const SectionFile&) = delete;

  // What cannot be written is counted, and its number is missing in the file.
  void Append(SectionType type, uint32_t subject, const Payload& payload);
  // For what the caller keeps when this returns false: nothing is counted then.
  bool TryAppend(SectionType type, uint32_t subject, const Payload& payload);
  // A section that was given up without an attempt.
  void CountLost();
  // False shortly after a failure: another attempt would fail as well.
  bool Accepts() const;
  // Appends the index and closes.
  void FinishWithIndex();
  // One more attempt at writing at once: for the end record, which is worth more than what came before it.
  void Retry() { next_attempt_ns_ = 0; }

  uint64_t bytes_written() const { return offset_; }
  uint64_t lost_sections() const { return lost_sections_; }
  // Why something is missing; empty: nothing is.
  const std::string& error() const;
  const std::string& path() const { return path_; }

 private:
  SectionFile(std::string path, int fd);
  bool Compress(const Payload& payload);
  bool WriteWhole(std::string_view bytes, bool ends_trace);
  void KeepRoomForEnd();

  struct IndexEntry {
    uint16_t type;
    uint32_t subject;
    uint64_t offset;
  };

  std::string path_;
  int fd_;
  ZSTD_CCtx_s* compressor_ = nullptr;
  uint64_t offset_ = 0;
  uint32_t sequence_ = 0;
  uint64_t lost_sections_ = 0;
  uint64_t next_attempt_ns_ = 0;  // after a failure: when to try again; 0: nothing has failed
  bool not_closed_ = false;
  std::string error_;
  std::string stored_;  // header and stored payload of the section being written
  std::vector<IndexEntry> index_;
};

}  // namespace tidemark
