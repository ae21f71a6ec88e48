// Sections onto disk: compress, checksum, append, undo when it fails. See section_file.h for the rules.
//
// One pwrite per section at a known offset: what a failed or partial write left behind is beyond `offset_` and is cut
// off. A full disk may have room again a moment later, so a failure is not for good. Must not: throw, or leave a half
// section behind a whole one.
#include "profiler/section_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "profiler/crc32c.h"

namespace tidemark {
namespace {

// Measured on recorded streams (docs/trace-format.md).
constexpr int kCompressionLevel = 1;
constexpr size_t kMinBytesToCompress = 64;    // below that a zstd frame is no smaller
constexpr size_t kMinBytesBetweenCuts = 256;  // a block costs 3 bytes and an entropy table
// The end record of a trace takes 1 to 2 KiB. On a full disk it is what tells of the losses, so its room is taken in
// advance. The index may need more than the rest of this; it may be missing.
constexpr uint64_t kEndRoomBytes = 8 << 10;
constexpr uint64_t kRetryInterval_ns = 500'000'000;

// A write beyond RLIMIT_FSIZE raises SIGXFSZ, which kills by default; ignoring it for the process would be inherited
// by the profiled command. So it is blocked around the write and taken back when it was raised.
class FileSizeSignalGuard {
 public:
  FileSizeSignalGuard() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signals_, &previous_);
  }
  ~FileSizeSignalGuard() {
    if (raised_ && !sigismember(&previous_, SIGXFSZ)) {
      const timespec no_wait = {};
      while (sigtimedwait(&signals_, nullptr, &no_wait) < 0 && errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
  }
  void set_raised() { raised_ = true; }

 private:
  sigset_t signals_, previous_;
  bool raised_ = false;
};

uint64_t NowNs() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

uint64_t FileSizeLimit() {
  rlimit limit{};
  return getrlimit(RLIMIT_FSIZE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

std::string DescribeErrno(int number) { return strerrordesc_np(number) ? strerrordesc_np(number) : "unknown error"; }

std::string Advice(int number) {
  switch (number) {
    case EEXIST:
      return "; a trace is never overwritten: remove the file or choose another name";
    case ENOENT:
      return "; create the directory first or choose another one";
    case ENOSPC:
    case EDQUOT:
      return "; free some space or choose another directory";
    case EFBIG:
      return "; raise the file size limit (ulimit -f) or record less";
    default:
      return "; choose another file";
  }
}

}  // namespace

void Payload::StartTable(uint64_t rows) {
  bytes.clear();
  cuts.clear();
  uint8_t varint[kMaxVarintBytes];
  bytes.append(reinterpret_cast<char*>(varint), static_cast<size_t>(PutVarint(varint, rows) - varint));
}

void Payload::AddColumnBytes(uint32_t id, std::string_view column) {
  uint8_t varints[2 * kMaxVarintBytes];
  uint8_t* end = PutVarint(PutVarint(varints, id), column.size());
  bytes.append(reinterpret_cast<char*>(varints), static_cast<size_t>(end - varints));
  bytes.append(column);
  const size_t previous = cuts.empty() ? 0 : cuts.back();
  if (bytes.size() - previous >= kMinBytesBetweenCuts) cuts.push_back(bytes.size());
}

std::unique_ptr<SectionFile> SectionFile::Create(const std::string& path, std::string* error) {
  int fd;
  do {
    fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) {
    const int number = errno;
    *error = "cannot create the trace file " + path + ": " + DescribeErrno(number) + Advice(number);
    return nullptr;
  }
  fchmod(fd, 0600);              // whatever the umask took away
  flock(fd, LOCK_EX | LOCK_NB);  // advisory: a file system without locks only costs the "still recorded" hint
  std::unique_ptr<SectionFile> file(new SectionFile(path, fd));
  FileHeader header = {};
  memcpy(header.magic, kTraceMagic, sizeof header.magic);
  header.major = kTraceMajor;
  header.minor = kTraceMinor;
  header.checksum = Crc32c(&header, offsetof(FileHeader, checksum));
  if (!file->WriteWhole({reinterpret_cast<const char*>(&header), sizeof header}, false)) {
    *error = file->error_;
    unlink(path.c_str());
    return nullptr;
  }
  file->KeepRoomForEnd();
  return file;
}

SectionFile::SectionFile(std::string path, int fd) : path_(std::move(path)), fd_(fd), compressor_(ZSTD_createCCtx()) {}

SectionFile::~SectionFile() {
  ZSTD_freeCCtx(compressor_);
  if (fd_ >= 0) close(fd_);
}

const std::string& SectionFile::error() const {
  static const std::string kNone;
  return lost_sections_ != 0 || not_closed_ ? error_ : kNone;
}

// File systems that cannot do it are asked in vain: then the end takes its chance like all the rest.
void SectionFile::KeepRoomForEnd() {
  if (FileSizeLimit() >= offset_ + kEndRoomBytes) {
    (void)fallocate(fd_, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset_), static_cast<off_t>(kEndRoomBytes));
  }
}

bool SectionFile::WriteWhole(std::string_view bytes, bool ends_trace) {
  FileSizeSignalGuard guard;
  size_t done = 0;
  int number = 0;
  if (!ends_trace && FileSizeLimit() < offset_ + bytes.size() + kEndRoomBytes) number = EFBIG;
  while (number == 0 && done < bytes.size()) {
    const ssize_t n = pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset_ + done));
    if (n > 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    number = n < 0 ? errno : ENOSPC;  // a write of nothing without an error: treat it as a full device
    if (number == EFBIG) guard.set_raised();
    break;
  }
  if (done == bytes.size()) {
    offset_ += done;
    next_attempt_ns_ = 0;
    return true;
  }
  // A cut that fails leaves a damaged tail, which readers skip. It gives the room for the end back, too.
  const int cut = ftruncate(fd_, static_cast<off_t>(offset_));
  if (!ends_trace) KeepRoomForEnd();
  next_attempt_ns_ = NowNs() + kRetryInterval_ns;
  if (error_.empty()) {
    error_ = "cannot write to the trace file " + path_ + " at byte " + std::to_string(offset_) + ": " +
             DescribeErrno(number) + Advice(number) + (cut != 0 ? " (the partial section could not be cut off)" : "");
  }
  return false;
}

// Leaves header room and the compressed payload in stored_; false when that is no smaller than the payload.
bool SectionFile::Compress(const Payload& payload) {
  const std::string& raw = payload.bytes;
  if (compressor_ == nullptr || raw.size() < kMinBytesToCompress) return false;
  stored_.resize(sizeof(SectionHeader) + ZSTD_compressBound(raw.size()) + 16 * (payload.cuts.size() + 1));
  ZSTD_outBuffer out = {stored_.data() + sizeof(SectionHeader), stored_.size() - sizeof(SectionHeader), 0};
  ZSTD_CCtx_reset(compressor_, ZSTD_reset_session_only);
  ZSTD_CCtx_setParameter(compressor_, ZSTD_c_compressionLevel, kCompressionLevel);
  ZSTD_CCtx_setPledgedSrcSize(compressor_, raw.size());
  size_t from = 0;
  for (size_t cut : payload.cuts) {
    if (cut >= raw.size()) break;
    ZSTD_inBuffer in = {raw.data() + from, cut - from, 0};
    if (ZSTD_compressStream2(compressor_, &out, &in, ZSTD_e_flush) != 0) return false;
    from = cut;
  }
  ZSTD_inBuffer in = {raw.data() + from, raw.size() - from, 0};
  if (ZSTD_compressStream2(compressor_, &out, &in, ZSTD_e_end) != 0) return false;
  if (out.pos >= raw.size()) return false;
  stored_.resize(sizeof(SectionHeader) + out.pos);
  return true;
}

bool SectionFile::Accepts() const { return fd_ >= 0 && (next_attempt_ns_ == 0 || NowNs() >= next_attempt_ns_); }

void SectionFile::CountLost() {
  sequence_++;  // the hole is its trace
  lost_sections_++;
}

void SectionFile::Append(SectionType type, uint32_t subject, const Payload& payload) {
  if (!TryAppend(type, subject, payload)) CountLost();
}

bool SectionFile::TryAppend(SectionType type, uint32_t subject, const Payload& payload) {
  if (!Accepts()) return false;
  if (payload.bytes.size() > MaxRawBytes(type)) {
    if (error_.empty())
      error_ = "a section of the trace file " + path_ + " is larger than the format allows; record less";
    return false;
  }
  const bool compressed = Compress(payload);
  if (!compressed) {
    stored_.assign(sizeof(SectionHeader), '\0');
    stored_.append(payload.bytes);
  }
  SectionHeader header = {};
  header.magic = kSectionMagic;
  header.type = static_cast<uint16_t>(type);
  header.encoding = static_cast<uint16_t>(compressed ? Encoding::kZstd : Encoding::kRaw);
  header.stored_bytes = static_cast<uint32_t>(stored_.size() - sizeof header);
  header.raw_bytes = static_cast<uint32_t>(payload.bytes.size());
  header.sequence = sequence_;
  header.subject = subject;
  header.payload_checksum = Crc32c(stored_.data() + sizeof header, header.stored_bytes);
  header.header_checksum = Crc32c(&header, offsetof(SectionHeader, header_checksum));
  memcpy(stored_.data(), &header, sizeof header);
  const uint64_t offset = offset_;
  const bool ends_trace = type == SectionType::kEnd || type == SectionType::kIndex;
  if (!WriteWhole(stored_, ends_trace)) return false;
  sequence_++;
  if (!ends_trace) KeepRoomForEnd();
  index_.push_back({header.type, subject, offset});
  return true;
}

void SectionFile::FinishWithIndex() {
  if (fd_ < 0) return;
  Payload payload;
  ColumnBuilder types, offsets, subjects;
  types.Reserve(index_.size());
  offsets.Reserve(index_.size());
  subjects.Reserve(index_.size());
  uint64_t previous = 0;
  for (const IndexEntry& entry : index_) {
    types.Put(entry.type);
    offsets.PutSigned(entry.offset - previous);
    subjects.Put(entry.subject);
    previous = entry.offset;
  }
  payload.StartTable(index_.size());
  payload.AddColumn(IndexColumn::kType, types);
  payload.AddColumn(IndexColumn::kOffset, offsets);
  payload.AddColumn(IndexColumn::kSubject, subjects);
  (void)TryAppend(SectionType::kIndex, 0, payload);  // whoever reads does without
  // Gives back what was kept for the end and not needed.
  (void)!ftruncate(fd_, static_cast<off_t>(offset_));
  // close reports what a network file system could not write earlier.
  not_closed_ = close(fd_) != 0;
  if (not_closed_ && error_.empty()) {
    error_ = "cannot close the trace file " + path_ + ": " + DescribeErrno(errno) + "; its end may be missing";
  }
  fd_ = -1;
}

}  // namespace tidemark
