// Symbolized addresses on disk, one file per build-id, so that the second report of a program costs no DWARF.
//
// What a file holds is only valid for the source it came from (debug file, its size and mtime): the key says which, so
// installing debug symbols later is noticed. Rejected: one file per source, which leaves the poor results of yesterday
// lying around; and an expiry time, which is wrong on both sides.
//
// File (little endian), named <build-id in hex>.tmsym:
//   CacheHeader | key bytes | reason bytes | addresses[] ascending | frames[] | string offsets[] | string bytes
// The checksum covers the header and all that follows. Anything that does not fit is ignored as if it were missing;
// files are 0600 in a 0700 directory of the same user, written aside and renamed, so that concurrent processes see
// whole files and the last writer wins (it only loses cached work).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "tools/symbolizer.h"

namespace tidemark {

struct CachedModule {
  std::string key;  // what the results depend on
  ModuleSymbols status;
  std::map<uint64_t, SymbolizedAddress> addresses;
};

class CachedSymbols;  // a cache file read into memory, decoded per address

class SymbolCache {
 public:
  // `directory` "": the user's cache directory. When none can be used the cache stays empty and reason() says why.
  SymbolCache(std::string directory, uint64_t max_bytes);

  // nullptr when there is no usable file. Touches the file's time of use.
  std::shared_ptr<const CachedSymbols> Load(const std::string& build_id) const;
  // Replaces the module's file by `module`; then removes least recently used files beyond the size bound.
  bool Store(const std::string& build_id, const CachedModule& module);

  const std::string& directory() const { return directory_; }
  const std::string& reason() const { return reason_; }

 private:
  void Evict() const;

  std::string directory_;
  uint64_t max_bytes_;
  std::string reason_;
};

class CachedSymbols {
 public:
  // nullptr for anything that is not a whole, undamaged cache file of this version.
  static std::shared_ptr<const CachedSymbols> Parse(std::string bytes);

  const std::string& key() const { return key_; }
  const ModuleSymbols& status() const { return status_; }
  bool Find(uint64_t address, SymbolizedAddress* result) const;
  void CopyTo(std::map<uint64_t, SymbolizedAddress>* addresses) const;
  size_t size() const { return address_count_; }

 private:
  std::string_view StringAt(uint32_t index) const;
  SymbolizedAddress Decode(size_t index) const;

  std::string bytes_;
  std::string key_;
  ModuleSymbols status_;
  size_t address_count_ = 0, frame_count_ = 0, string_count_ = 0;
  size_t addresses_at_ = 0, frames_at_ = 0, strings_at_ = 0, text_at_ = 0;
};

}  // namespace tidemark
