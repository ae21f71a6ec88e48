// See lsan_defaults.h.
#include "tools/lsan_defaults.h"

#include <elf.h>

#include <cstring>
#include <optional>
#include <string_view>

namespace tidemark {
namespace {

constexpr std::string_view kFunction = "__lsan_default_suppressions";
constexpr size_t kMaxText = 1 << 20;

std::optional<uint64_t> AddressOfFunction(const ElfImage& image) {
  for (const ElfSection& table : image.sections()) {
    if ((table.type != SHT_SYMTAB && table.type != SHT_DYNSYM) || table.link >= image.sections().size()) continue;
    const std::string_view symbols = image.BytesOf(table);
    const std::string_view names = image.BytesOf(image.sections()[table.link]);
    for (size_t at = 0; symbols.size() - at >= sizeof(Elf64_Sym) && at < symbols.size(); at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, symbols.data() + at, sizeof symbol);
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= names.size()) continue;
      const std::string_view rest = names.substr(symbol.st_name);
      if (rest.starts_with(kFunction) && rest.size() > kFunction.size() && rest[kFunction.size()] == '\0') {
        return symbol.st_value;
      }
    }
  }
  return std::nullopt;
}

// The bytes from an address to the end of its section; empty: in none with contents.
std::string_view BytesAt(const ElfImage& image, uint64_t address) {
  for (const ElfSection& section : image.sections()) {
    if ((section.flags & SHF_ALLOC) == 0 || section.type == SHT_NOBITS) continue;
    if (address < section.address || address - section.address >= section.size_bytes) continue;
    const std::string_view bytes = image.BytesOf(section);
    if (address - section.address < bytes.size()) return bytes.substr(address - section.address);
  }
  return {};
}

// What `lea rax, [rip+d]; ret` or `mov eax, imm; ret` loads, with or without a frame around it.
std::optional<uint64_t> AddressThatIsReturned(std::string_view code, uint64_t address) {
  const auto skip = [&code, &address](std::string_view instruction) {
    if (!code.starts_with(instruction)) return;
    code.remove_prefix(instruction.size());
    address += instruction.size();
  };
  skip("\xf3\x0f\x1e\xfa");  // endbr64
  skip("\x55");              // push rbp
  skip("\x48\x89\xe5");      // mov rbp, rsp
  uint64_t value = 0;
  if (code.size() >= 7 && code.starts_with("\x48\x8d\x05")) {
    int32_t distance = 0;
    std::memcpy(&distance, code.data() + 3, sizeof distance);
    value = address + 7 + static_cast<uint64_t>(static_cast<int64_t>(distance));
    code.remove_prefix(7);
  } else if (code.size() >= 5 && code[0] == '\xb8') {
    uint32_t absolute = 0;
    std::memcpy(&absolute, code.data() + 1, sizeof absolute);
    value = absolute;
    code.remove_prefix(5);
  } else {
    return std::nullopt;
  }
  skip("\x5d");  // pop rbp
  return code.starts_with("\xc3") ? std::optional<uint64_t>(value) : std::nullopt;
}

}  // namespace

EmbeddedSuppressions FindEmbeddedSuppressions(const ElfImage& image) {
  EmbeddedSuppressions found;
  const std::optional<uint64_t> function = AddressOfFunction(image);
  if (!function) return found;
  found.present = true;
  const std::optional<uint64_t> text =
      image.machine() == EM_X86_64 ? AddressThatIsReturned(BytesAt(image, *function), *function) : std::nullopt;
  const std::string_view bytes = text ? BytesAt(image, *text) : std::string_view();
  const size_t end = bytes.find('\0');
  if (!text || end == std::string_view::npos || end > kMaxText) {
    found.why_not =
        "its __lsan_default_suppressions() does more than return a constant, and programs are not run for it";
    return found;
  }
  found.text = bytes.substr(0, end);
  return found;
}

}  // namespace tidemark
