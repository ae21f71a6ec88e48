// An ELF file as sections, segments and notes: everything about a module that needs no debug information.
//
// Own parser instead of libelf: it is small, hands out views instead of copies, and every offset of the (untrusted)
// file is checked here once. 64-bit little endian only: tidemark records on nothing else. It must not interpret DWARF.
// A file that another process truncates while it is mapped raises SIGBUS, as in every tool that maps binaries.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

struct ElfSection {
  std::string_view name;
  uint32_t type = 0, link = 0, info = 0;
  uint64_t flags = 0, address = 0, offset = 0, size_bytes = 0, entry_bytes = 0;
};

class ElfImage {
 public:
  // nullptr and *error (one phrase, without the path) when it is no readable 64-bit ELF file.
  static std::unique_ptr<ElfImage> Open(const std::string& path, std::string* error);
  static std::unique_ptr<ElfImage> FromBytes(std::string bytes, std::string* error);
  ~ElfImage();
  ElfImage(const ElfImage&) = delete;
  ElfImage& operator=(const ElfImage&) = delete;

  const std::vector<ElfSection>& sections() const { return sections_; }
  const ElfSection* FindSection(std::string_view name) const;
  // The section's bytes as stored; empty for SHT_NOBITS and for sections that reach beyond the file.
  std::string_view BytesOf(const ElfSection& section) const;
  std::string_view bytes() const { return bytes_; }
  const std::string& build_id() const { return build_id_; }  // raw; "" when there is none
  uint16_t machine() const { return machine_; }
  // Inside a loaded executable segment; files without segments (objects) say yes to everything.
  bool IsExecutable(uint64_t address) const;
  // DWARF worth opening: a non-empty .debug_info (or its old compressed spelling).
  bool HasDebugInfo() const;
  // Debug sections compressed with zstd, which libdw 0.188 cannot read.
  bool HasZstdDebugSections() const;

 private:
  ElfImage() = default;
  bool Parse(std::string* error);
  void ParseNotes(std::string_view notes, uint64_t alignment);

  std::string owned_;        // FromBytes
  void* mapping_ = nullptr;  // Open
  std::string_view bytes_;
  std::vector<ElfSection> sections_;
  std::vector<std::pair<uint64_t, uint64_t>> executable_;
  std::string build_id_;
  uint16_t machine_ = 0;
};

std::string ToHex(std::string_view bytes);

}  // namespace tidemark
