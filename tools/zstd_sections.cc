// See zstd_sections.h. The result is a minimal ELF file: header, segments, debug sections, section names.
#include "tools/zstd_sections.h"

#include <elf.h>
#include <zstd.h>

#include <cstring>
#include <vector>

namespace tidemark {
namespace {

constexpr uint32_t kCompressZstd = 2;  // ELFCOMPRESS_ZSTD
constexpr uint64_t kMaxUnpackedBytes = uint64_t{8} << 30;
constexpr uint64_t kMaxRatio = 1000;  // DWARF compresses 3 to 10 times; more is a decompression bomb

template <typename T>
void Append(std::string* bytes, const T& value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// The content of a section, unpacked when it is zstd. False when it is damaged.
bool AppendContent(std::string_view stored, bool compressed, Elf64_Shdr* header, std::string* bytes,
                   std::string* error) {
  Elf64_Chdr compression{};
  if (compressed && stored.size() >= sizeof(compression)) std::memcpy(&compression, stored.data(), sizeof(compression));
  if (compression.ch_type != kCompressZstd) {
    bytes->append(stored);
    return true;
  }
  stored.remove_prefix(sizeof(compression));
  const uint64_t size = compression.ch_size;
  if (size > kMaxUnpackedBytes - bytes->size() || size / kMaxRatio > stored.size()) {
    *error = "a zstd-compressed debug section claims an implausible size";
    return false;
  }
  const size_t start = bytes->size();
  bytes->resize(start + size);
  const size_t produced = ZSTD_decompress(bytes->data() + start, size, stored.data(), stored.size());
  if (ZSTD_isError(produced) || produced != size) {
    *error = "a zstd-compressed debug section is damaged";
    return false;
  }
  header->sh_flags &= ~uint64_t{SHF_COMPRESSED};
  header->sh_addralign = compression.ch_addralign;
  return true;
}

}  // namespace

std::unique_ptr<ElfImage> UnpackZstdSections(const ElfImage& image, std::string* error) {
  Elf64_Ehdr header;
  if (image.bytes().size() < sizeof(header)) return nullptr;
  std::memcpy(&header, image.bytes().data(), sizeof(header));
  std::string bytes(sizeof(header), '\0');
  const uint64_t segment_bytes = uint64_t{header.e_phnum} * header.e_phentsize;
  if (header.e_phoff <= image.bytes().size() && segment_bytes <= image.bytes().size() - header.e_phoff) {
    bytes.append(image.bytes().substr(header.e_phoff, segment_bytes));
    header.e_phoff = sizeof(header);
  } else {
    header.e_phnum = 0;
  }
  std::vector<Elf64_Shdr> sections(1);
  std::string names(1, '\0');
  for (const ElfSection& section : image.sections()) {
    if (!section.name.starts_with(".debug_") && section.name != ".gnu_debugaltlink") continue;
    bytes.resize((bytes.size() + 15) / 16 * 16);
    Elf64_Shdr copy{};
    copy.sh_name = static_cast<uint32_t>(names.size());
    copy.sh_type = section.type;
    copy.sh_flags = section.flags;
    copy.sh_offset = bytes.size();
    copy.sh_addralign = 1;
    copy.sh_entsize = section.entry_bytes;
    if (!AppendContent(image.BytesOf(section), (section.flags & SHF_COMPRESSED) != 0, &copy, &bytes, error)) {
      return nullptr;
    }
    copy.sh_size = bytes.size() - copy.sh_offset;
    names.append(section.name).push_back('\0');
    sections.push_back(copy);
  }
  Elf64_Shdr name_section{};
  name_section.sh_name = static_cast<uint32_t>(names.size());
  names.append(".shstrtab").push_back('\0');
  name_section.sh_type = SHT_STRTAB;
  name_section.sh_offset = bytes.size();
  name_section.sh_size = names.size();
  name_section.sh_addralign = 1;
  sections.push_back(name_section);
  bytes.append(names);
  bytes.resize((bytes.size() + 15) / 16 * 16);
  header.e_shoff = bytes.size();
  header.e_shnum = static_cast<uint16_t>(sections.size());
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shstrndx = static_cast<uint16_t>(sections.size() - 1);
  for (const Elf64_Shdr& section : sections) Append(&bytes, section);
  std::memcpy(bytes.data(), &header, sizeof(header));
  return ElfImage::FromBytes(std::move(bytes), error);
}

}  // namespace tidemark
