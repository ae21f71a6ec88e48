// See elf_image.h. All arithmetic on file data is checked against the file's length before it is used.
#include "tools/elf_image.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tidemark {
namespace {

// A real file has some dozens of sections and segments; -ffunction-sections objects reach six digits.
constexpr uint64_t kMaxSections = 1 << 20;

// Copies a T from `offset`; false when it does not lie within the bytes.
template <typename T>
bool ReadAt(std::string_view bytes, uint64_t offset, T* value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return false;
  std::memcpy(value, bytes.data() + offset, sizeof(T));
  return true;
}

std::string_view Slice(std::string_view bytes, uint64_t offset, uint64_t length) {
  if (offset > bytes.size() || length > bytes.size() - offset) return {};
  return bytes.substr(offset, length);
}

std::string_view CStringAt(std::string_view bytes, uint64_t offset) {
  if (offset >= bytes.size()) return {};
  const std::string_view rest = bytes.substr(offset);
  const size_t end = rest.find('\0');
  return end == std::string_view::npos ? std::string_view() : rest.substr(0, end);
}

uint64_t AlignUp(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

}  // namespace

std::string ToHex(std::string_view bytes) {
  static const char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

std::unique_ptr<ElfImage> ElfImage::Open(const std::string& path, std::string* error) {
  // O_NONBLOCK: a path in a trace may name a FIFO or a device, and opening one must not hang.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    *error = std::strerror(errno);
    return nullptr;
  }
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    close(fd);
    *error = "not a regular file with content";
    return nullptr;
  }
  std::unique_ptr<ElfImage> image(new ElfImage);
  const size_t length = static_cast<size_t>(status.st_size);
  // Writable, as a private copy: libelf changes section headers in place when it decompresses a section.
  void* mapping = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  const int map_errno = errno;
  close(fd);
  if (mapping == MAP_FAILED) {
    *error = std::string("cannot be mapped: ") + std::strerror(map_errno);
    return nullptr;
  }
  image->mapping_ = mapping;
  image->bytes_ = std::string_view(static_cast<const char*>(mapping), length);
  if (!image->Parse(error)) return nullptr;
  return image;
}

std::unique_ptr<ElfImage> ElfImage::FromBytes(std::string bytes, std::string* error) {
  std::unique_ptr<ElfImage> image(new ElfImage);
  image->owned_ = std::move(bytes);
  image->bytes_ = image->owned_;
  if (!image->Parse(error)) return nullptr;
  return image;
}

ElfImage::~ElfImage() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_.size());
}

bool ElfImage::Parse(std::string* error) {
  Elf64_Ehdr header;
  if (!ReadAt(bytes_, 0, &header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    *error = "not an ELF file";
    return false;
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    *error = "not a 64-bit little endian ELF file";
    return false;
  }
  machine_ = header.e_machine;
  for (uint32_t i = 0; i < header.e_phnum && header.e_phentsize == sizeof(Elf64_Phdr); ++i) {
    Elf64_Phdr segment;
    if (!ReadAt(bytes_, header.e_phoff + uint64_t{i} * sizeof(segment), &segment)) break;
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 && segment.p_memsz <= UINT64_MAX - segment.p_vaddr) {
      executable_.emplace_back(segment.p_vaddr, segment.p_vaddr + segment.p_memsz);
    }
    if (segment.p_type == PT_NOTE) ParseNotes(Slice(bytes_, segment.p_offset, segment.p_filesz), segment.p_align);
  }
  // Sections are optional: a file stripped of its section table still has its build-id and segments.
  if (header.e_shoff == 0 || header.e_shentsize != sizeof(Elf64_Shdr)) return true;
  Elf64_Shdr first;
  if (!ReadAt(bytes_, header.e_shoff, &first)) return true;
  // Counts that do not fit 16 bits live in the first header (ELF extended numbering).
  const uint64_t count = header.e_shnum != 0 ? header.e_shnum : first.sh_size;
  const uint32_t names_index = header.e_shstrndx != SHN_XINDEX ? header.e_shstrndx : first.sh_link;
  if (count > kMaxSections) return true;
  std::vector<uint32_t> name_offsets;
  for (uint64_t i = 0; i < count; ++i) {
    Elf64_Shdr raw;
    if (header.e_shoff > bytes_.size() || !ReadAt(bytes_, header.e_shoff + i * sizeof(raw), &raw)) break;
    ElfSection section;
    section.type = raw.sh_type;
    section.link = raw.sh_link;
    section.info = raw.sh_info;
    section.flags = raw.sh_flags;
    section.address = raw.sh_addr;
    section.offset = raw.sh_offset;
    section.size_bytes = raw.sh_size;
    section.entry_bytes = raw.sh_entsize;
    sections_.push_back(section);
    name_offsets.push_back(raw.sh_name);
  }
  if (names_index < sections_.size()) {
    const std::string_view names = BytesOf(sections_[names_index]);
    for (size_t i = 0; i < sections_.size(); ++i) sections_[i].name = CStringAt(names, name_offsets[i]);
  }
  if (build_id_.empty()) {
    if (const ElfSection* note = FindSection(".note.gnu.build-id")) ParseNotes(BytesOf(*note), 4);
  }
  return true;
}

void ElfImage::ParseNotes(std::string_view notes, uint64_t alignment) {
  if (alignment != 8) alignment = 4;
  uint64_t position = 0;
  Elf64_Nhdr note;
  while (build_id_.empty() && ReadAt(notes, position, &note)) {
    const uint64_t name_at = position + sizeof(note);
    const uint64_t content_at = AlignUp(name_at + note.n_namesz, alignment);
    const std::string_view content = Slice(notes, content_at, note.n_descsz);
    if (note.n_type == NT_GNU_BUILD_ID && Slice(notes, name_at, note.n_namesz) == std::string_view("GNU\0", 4) &&
        !content.empty() && content.size() <= 64) {
      build_id_ = std::string(content);
    }
    position = AlignUp(content_at + note.n_descsz, alignment);  // 32-bit sizes in 64-bit sums: no overflow, grows
  }
}

const ElfSection* ElfImage::FindSection(std::string_view name) const {
  for (const ElfSection& section : sections_) {
    if (section.name == name) return &section;
  }
  return nullptr;
}

std::string_view ElfImage::BytesOf(const ElfSection& section) const {
  if (section.type == SHT_NOBITS || section.type == SHT_NULL) return {};
  return Slice(bytes_, section.offset, section.size_bytes);
}

bool ElfImage::IsExecutable(uint64_t address) const {
  if (executable_.empty()) return true;
  for (const auto& [low, high] : executable_) {
    if (low <= address && address < high) return true;
  }
  return false;
}

bool ElfImage::HasDebugInfo() const {
  for (std::string_view name : {".debug_info", ".zdebug_info"}) {
    const ElfSection* section = FindSection(name);
    if (section != nullptr && !BytesOf(*section).empty()) return true;
  }
  return false;
}

bool ElfImage::HasZstdDebugSections() const {
  constexpr uint32_t kZstd = 2;  // ELFCOMPRESS_ZSTD, younger than the headers we build with
  for (const ElfSection& section : sections_) {
    Elf64_Chdr header;
    if ((section.flags & SHF_COMPRESSED) != 0 && section.name.starts_with(".debug_") &&
        ReadAt(BytesOf(section), 0, &header) && header.ch_type == kZstd) {
      return true;
    }
  }
  return false;
}

}  // namespace tidemark
