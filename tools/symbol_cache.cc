// See symbol_cache.h.
#include "tools/symbol_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tools/elf_image.h"

namespace tidemark {
namespace {

constexpr std::array<char, 8> kMagic = {'t', 'm', 's', 'y', 'm', '\r', '\n', '\x1a'};
constexpr uint32_t kVersion = 1;
constexpr std::string_view kSuffix = ".tmsym";
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

struct CacheHeader {
  std::array<char, 8> magic;
  uint32_t version, source;
  uint64_t checksum;
  uint32_t key_bytes, reason_bytes, address_count, frame_count, string_count, text_bytes;
};
static_assert(sizeof(CacheHeader) == 48);
struct CacheAddress {
  uint64_t address;
  uint32_t first_frame, frame_count;
};
static_assert(sizeof(CacheAddress) == 16);
struct CacheFrame {
  uint32_t function, file, line, inlined;
};
static_assert(sizeof(CacheFrame) == 16);

// FNV-1a over 64-bit words with a final mix: against damage, not against forgery (the directory is the user's own).
uint64_t Checksum(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325u ^ bytes.size();
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t length = std::min<size_t>(bytes.size(), sizeof(word));
    std::memcpy(&word, bytes.data(), length);
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 29;
    bytes.remove_prefix(length);
  }
  return hash;
}

// Of the header too: a flipped source or count is damage like any other.
uint64_t ChecksumOfFile(CacheHeader header, std::string_view content) {
  header.checksum = 0;
  const std::string_view header_bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  return Checksum(header_bytes) * 31 + Checksum(content);
}

template <typename T>
T Load(const std::string& bytes, size_t offset) {  // bounds are checked by Parse
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <typename T>
void Append(std::string* bytes, const T& value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string DefaultDirectory() {
  const char* cache_home = std::getenv("XDG_CACHE_HOME");
  if (cache_home != nullptr && cache_home[0] == '/') return std::string(cache_home) + "/tidemark";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.cache/tidemark";
  return "";
}

// mkdir -p with 0700.
void MakeDirectories(const std::string& path) {
  for (size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    mkdir(path.substr(0, at).c_str(), 0700);
    if (at != std::string::npos) ++at;
  }
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

std::string FileName(const std::string& build_id) { return ToHex(build_id) + std::string(kSuffix); }

}  // namespace

SymbolCache::SymbolCache(std::string directory, uint64_t max_bytes)
    : directory_(directory.empty() ? DefaultDirectory() : std::move(directory)), max_bytes_(max_bytes) {
  if (directory_.empty()) {
    reason_ = "no symbol cache: neither XDG_CACHE_HOME nor HOME names a directory";
    return;
  }
  MakeDirectories(directory_);
  struct stat status;
  if (stat(directory_.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    reason_ = "no symbol cache: " + directory_ + " cannot be created: " + std::strerror(errno);
  } else if (status.st_uid != geteuid() || (status.st_mode & 022) != 0) {
    // Whoever can write there could put words into our reports.
    reason_ = "no symbol cache: " + directory_ + " can be written by other users (chmod 700 it)";
  }
  if (!reason_.empty()) directory_.clear();
}

std::shared_ptr<const CachedSymbols> SymbolCache::Load(const std::string& build_id) const {
  if (directory_.empty() || build_id.empty()) return nullptr;
  const std::string path = directory_ + "/" + FileName(build_id);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return nullptr;
  struct stat status;
  std::string bytes;
  bool whole = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
               static_cast<uint64_t>(status.st_size) <= kMaxFileBytes;
  if (whole) bytes.resize(static_cast<size_t>(status.st_size));
  for (size_t at = 0; whole && at < bytes.size();) {
    const ssize_t got = read(fd, bytes.data() + at, bytes.size() - at);
    if (got < 0 && errno == EINTR) continue;
    whole = got > 0;
    if (whole) at += static_cast<size_t>(got);
  }
  if (whole) futimens(fd, nullptr);  // least recently *used* goes first, not least recently written
  close(fd);
  return whole ? CachedSymbols::Parse(std::move(bytes)) : nullptr;
}

bool SymbolCache::Store(const std::string& build_id, const CachedModule& module) {
  if (directory_.empty() || build_id.empty()) return false;
  std::string addresses, frames, offsets, text;
  std::unordered_map<std::string_view, uint32_t> ids;
  const auto intern = [&](const std::string& value) {
    const auto [entry, inserted] = ids.try_emplace(value, static_cast<uint32_t>(ids.size()));
    if (inserted) {
      Append(&offsets, static_cast<uint32_t>(text.size()));
      text.append(value);
    }
    return entry->second;
  };
  uint32_t frame_count = 0;
  for (const auto& [address, result] : module.addresses) {
    Append(&addresses, CacheAddress{address, frame_count, static_cast<uint32_t>(result.frames.size())});
    for (const SymbolFrame& frame : result.frames) {
      const uint32_t function = intern(frame.function), file = intern(frame.file);
      Append(&frames, CacheFrame{function, file, frame.line, frame.inlined ? 1u : 0u});
      ++frame_count;
    }
  }
  const std::string content = module.key + module.status.reason + addresses + frames + offsets + text;
  if (content.size() > std::min(kMaxFileBytes, max_bytes_)) return false;
  CacheHeader header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.source = static_cast<uint32_t>(module.status.source);
  header.key_bytes = static_cast<uint32_t>(module.key.size());
  header.reason_bytes = static_cast<uint32_t>(module.status.reason.size());
  header.address_count = static_cast<uint32_t>(module.addresses.size());
  header.frame_count = frame_count;
  header.string_count = static_cast<uint32_t>(ids.size());
  header.text_bytes = static_cast<uint32_t>(text.size());
  header.checksum = ChecksumOfFile(header, content);

  const std::string path = directory_ + "/" + FileName(build_id);
  std::string temporary = path + ".XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);  // 0600
  if (fd < 0) return false;
  const std::string_view header_bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bool written = WriteAll(fd, header_bytes) && WriteAll(fd, content);
  written = close(fd) == 0 && written;
  if (!written || rename(temporary.c_str(), path.c_str()) != 0) {
    unlink(temporary.c_str());
    return false;
  }
  Evict();
  return true;
}

void SymbolCache::Evict() const {
  struct File {
    std::string path;
    timespec used;
    uint64_t size_bytes;
  };
  DIR* directory = opendir(directory_.c_str());
  if (directory == nullptr) return;
  std::vector<File> files;
  uint64_t total_bytes = 0;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    const size_t suffix = name.find(kSuffix);
    if (suffix == std::string::npos) continue;
    struct stat status;
    const std::string path = directory_ + "/" + name;
    if (lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    // A temporary file of a writer that died; a living one finishes within the hour.
    if (suffix + kSuffix.size() != name.size() && now.tv_sec - status.st_mtim.tv_sec > 3600) {
      unlink(path.c_str());
      continue;
    }
    files.push_back({path, status.st_mtim, static_cast<uint64_t>(status.st_size)});
    total_bytes += files.back().size_bytes;
  }
  closedir(directory);
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) {
    return a.used.tv_sec != b.used.tv_sec ? a.used.tv_sec < b.used.tv_sec : a.used.tv_nsec < b.used.tv_nsec;
  });
  for (const File& file : files) {
    if (total_bytes <= max_bytes_) return;
    if (unlink(file.path.c_str()) == 0) total_bytes -= file.size_bytes;
  }
}

std::shared_ptr<const CachedSymbols> CachedSymbols::Parse(std::string bytes) {
  auto cached = std::make_shared<CachedSymbols>();
  cached->bytes_ = std::move(bytes);
  const std::string& all = cached->bytes_;
  if (all.size() < sizeof(CacheHeader)) return nullptr;
  const CacheHeader header = Load<CacheHeader>(all, 0);
  if (header.magic != kMagic || header.version != kVersion) return nullptr;
  if (header.source > static_cast<uint32_t>(SymbolSource::kNone)) return nullptr;
  const uint64_t reason_at = sizeof(header) + uint64_t{header.key_bytes};  // 32-bit counts: these sums cannot overflow
  const uint64_t addresses_at = reason_at + header.reason_bytes;
  const uint64_t frames_at = addresses_at + uint64_t{header.address_count} * sizeof(CacheAddress);
  const uint64_t strings_at = frames_at + uint64_t{header.frame_count} * sizeof(CacheFrame);
  const uint64_t text_at = strings_at + uint64_t{header.string_count} * sizeof(uint32_t);
  if (text_at + header.text_bytes != all.size()) return nullptr;
  if (ChecksumOfFile(header, std::string_view(all).substr(sizeof(header))) != header.checksum) return nullptr;
  cached->key_ = all.substr(sizeof(header), header.key_bytes);
  cached->status_ = {static_cast<SymbolSource>(header.source), all.substr(reason_at, header.reason_bytes)};
  cached->address_count_ = header.address_count;
  cached->frame_count_ = header.frame_count;
  cached->string_count_ = header.string_count;
  cached->addresses_at_ = addresses_at;
  cached->frames_at_ = frames_at;
  cached->strings_at_ = strings_at;
  cached->text_at_ = text_at;
  return cached;
}

std::string_view CachedSymbols::StringAt(uint32_t index) const {
  if (index >= string_count_) return {};
  const size_t text_bytes = bytes_.size() - text_at_;
  const size_t begin = Load<uint32_t>(bytes_, strings_at_ + index * sizeof(uint32_t));
  const size_t end =
      index + 1 < string_count_ ? Load<uint32_t>(bytes_, strings_at_ + (index + 1) * sizeof(uint32_t)) : text_bytes;
  if (begin > end || end > text_bytes) return {};
  return std::string_view(bytes_).substr(text_at_ + begin, end - begin);
}

SymbolizedAddress CachedSymbols::Decode(size_t index) const {
  const CacheAddress entry = Load<CacheAddress>(bytes_, addresses_at_ + index * sizeof(CacheAddress));
  SymbolizedAddress result;
  if (entry.first_frame > frame_count_ || entry.frame_count > frame_count_ - entry.first_frame) return result;
  result.frames.reserve(entry.frame_count);
  for (uint32_t i = 0; i < entry.frame_count; ++i) {
    const CacheFrame raw = Load<CacheFrame>(bytes_, frames_at_ + (size_t{entry.first_frame} + i) * sizeof(CacheFrame));
    SymbolFrame frame;
    frame.function = StringAt(raw.function);
    frame.file = StringAt(raw.file);
    frame.line = raw.line;
    frame.inlined = raw.inlined != 0;
    result.frames.push_back(std::move(frame));
  }
  return result;
}

bool CachedSymbols::Find(uint64_t address, SymbolizedAddress* result) const {
  size_t low = 0, high = address_count_;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (Load<uint64_t>(bytes_, addresses_at_ + middle * sizeof(CacheAddress)) < address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == address_count_ || Load<uint64_t>(bytes_, addresses_at_ + low * sizeof(CacheAddress)) != address) {
    return false;
  }
  *result = Decode(low);
  return true;
}

void CachedSymbols::CopyTo(std::map<uint64_t, SymbolizedAddress>* addresses) const {
  for (size_t i = 0; i < address_count_; ++i) {
    addresses->try_emplace(Load<uint64_t>(bytes_, addresses_at_ + i * sizeof(CacheAddress)), Decode(i));
  }
}

}  // namespace tidemark
