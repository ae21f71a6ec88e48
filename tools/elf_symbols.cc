// See elf_symbols.h. Of several names at one address the one a programmer calls wins: `malloc`, not `__libc_malloc`.
#include "tools/elf_symbols.h"

#include <elf.h>
#include <lzma.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <unordered_map>

namespace tidemark {
namespace {

// The symbols of the largest programs are some ten megabytes; beyond this a .gnu_debugdata is a decompression bomb.
constexpr size_t kMaxMinidebugBytes = size_t{512} << 20;
constexpr uint64_t kMaxLzmaMemoryBytes = uint64_t{256} << 20;

template <typename T>
T Load(std::string_view bytes, uint64_t offset) {
  T value{};
  if (offset <= bytes.size() && bytes.size() - offset >= sizeof(T)) {
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
  }
  return value;
}

std::string_view NameAt(std::string_view strings, uint64_t offset) {
  if (offset >= strings.size()) return {};
  const std::string_view rest = strings.substr(offset);
  const size_t end = rest.find('\0');
  return end == std::string_view::npos ? std::string_view() : rest.substr(0, end);
}

// Assembler labels and the mapping symbols of aarch64 name no function.
bool IsNoise(std::string_view name) { return name.empty() || name[0] == '$' || name.starts_with(".L"); }

uint32_t Rank(const Elf64_Sym& symbol, std::string_view name) {
  uint32_t rank = 0;
  if (symbol.st_size == 0) rank += 1000;
  if (ELF64_ST_TYPE(symbol.st_info) == STT_NOTYPE) rank += 500;
  if (ELF64_ST_BIND(symbol.st_info) == STB_LOCAL) rank += 250;
  // Mangled names begin with an underscore that is part of no programmer's choice.
  if (!name.starts_with("_Z") && !name.starts_with("_R")) {
    rank += 10 * static_cast<uint32_t>(std::min<size_t>(name.find_first_not_of('_'), 8));
  }
  if (ELF64_ST_BIND(symbol.st_info) == STB_WEAK) rank += 5;
  return rank;
}

std::string DecompressXz(std::string_view compressed, std::string* error) {
  std::string result;
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_decoder(&stream, kMaxLzmaMemoryBytes, 0) != LZMA_OK) {
    *error = "no memory to decompress .gnu_debugdata";
    return {};
  }
  stream.next_in = reinterpret_cast<const uint8_t*>(compressed.data());
  stream.avail_in = compressed.size();
  lzma_ret status = LZMA_OK;
  while (status == LZMA_OK && result.size() < kMaxMinidebugBytes) {
    const size_t before = result.size();
    result.resize(std::max<size_t>(before * 2, 1 << 20));
    stream.next_out = reinterpret_cast<uint8_t*>(result.data()) + before;
    stream.avail_out = result.size() - before;
    status = lzma_code(&stream, LZMA_FINISH);
    result.resize(result.size() - stream.avail_out);
  }
  lzma_end(&stream);
  if (status == LZMA_STREAM_END) return result;
  *error = ".gnu_debugdata is damaged or too large";
  return {};
}

// The GOT slot a PLT stub jumps through: `jmp *slot(%rip)` on x86-64, `adrp x16; ldr x17, [x16, #low]` on aarch64.
uint64_t GotSlotOfStub(uint16_t machine, std::string_view stub, uint64_t address) {
  if (machine == EM_X86_64) {
    for (size_t i = 0; i + 6 <= stub.size(); ++i) {
      if (stub[i] == '\xff' && stub[i + 1] == '\x25') {
        return address + i + 6 + static_cast<int64_t>(Load<int32_t>(stub, i + 2));
      }
    }
  } else if (machine == EM_AARCH64) {
    for (size_t i = 0; i + 8 <= stub.size(); i += 4) {
      const uint32_t adrp = Load<uint32_t>(stub, i), ldr = Load<uint32_t>(stub, i + 4);
      if ((adrp & 0x9f00001fu) != 0x90000010u || (ldr & 0xffc003ffu) != 0xf9400211u) continue;
      int64_t pages = static_cast<int64_t>(((adrp >> 5) & 0x7ffffu) << 2 | ((adrp >> 29) & 3u));
      if ((pages & 0x100000) != 0) pages -= 0x200000;
      return ((address + i) & ~uint64_t{0xfff}) + pages * 4096 + ((ldr >> 10) & 0xfffu) * 8;
    }
  }
  return 0;
}

}  // namespace

void ElfSymbols::AddImage(std::shared_ptr<const ElfImage> image) {
  for (const ElfSection& section : image->sections()) {
    if (section.type == SHT_SYMTAB) AddTable(*image, section, SymbolSource::kSymtab);
    if (section.type == SHT_DYNSYM) AddTable(*image, section, SymbolSource::kDynsym);
  }
  AddPltStubs(*image);
  images_.push_back(std::move(image));
}

bool ElfSymbols::AddMinidebugInfo(const ElfImage& image, std::string* error) {
  const ElfSection* section = image.FindSection(".gnu_debugdata");
  if (section == nullptr) return false;
  std::string bytes = DecompressXz(image.BytesOf(*section), error);
  if (bytes.empty()) return false;
  std::shared_ptr<const ElfImage> inner = ElfImage::FromBytes(std::move(bytes), error);
  if (inner == nullptr) {
    *error = "the content of .gnu_debugdata is " + *error;
    return false;
  }
  for (const ElfSection& table : inner->sections()) {
    if (table.type == SHT_SYMTAB) AddTable(*inner, table, SymbolSource::kMinidebug);
  }
  images_.push_back(std::move(inner));
  return true;
}

void ElfSymbols::AddTable(const ElfImage& image, const ElfSection& table, SymbolSource source) {
  if (table.link >= image.sections().size()) return;
  const std::string_view entries = image.BytesOf(table);
  const std::string_view strings = image.BytesOf(image.sections()[table.link]);
  const size_t first = candidates_.size();
  for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= entries.size(); at += sizeof(Elf64_Sym)) {
    const Elf64_Sym symbol = Load<Elf64_Sym>(entries, at);
    const int type = ELF64_ST_TYPE(symbol.st_info);
    if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) continue;
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS || !image.IsExecutable(symbol.st_value)) continue;
    std::string_view name = NameAt(strings, symbol.st_name);
    if (const size_t version = name.find('@'); version != std::string_view::npos) name = name.substr(0, version);
    if (IsNoise(name)) continue;
    Candidate candidate;
    candidate.symbol = {name, symbol.st_value, source};
    candidate.size_bytes = std::min(symbol.st_size, UINT64_MAX - symbol.st_value);
    candidate.limit = symbol.st_value + 1;
    if (symbol.st_shndx < image.sections().size()) {
      const ElfSection& home = image.sections()[symbol.st_shndx];
      if (home.size_bytes <= UINT64_MAX - home.address) candidate.limit = home.address + home.size_bytes;
      // A label in a data section of a program linked with one writable-executable segment.
      if (type == STT_NOTYPE && (home.flags & SHF_EXECINSTR) == 0) continue;
    }
    candidate.rank = Rank(symbol, name);
    candidates_.push_back(candidate);
  }
  if (candidates_.size() > first) best_source_ = std::min(best_source_, source);
}

void ElfSymbols::AddPltStubs(const ElfImage& image) {
  const ElfSection* dynsym = image.FindSection(".dynsym");
  const ElfSection* dynstr = image.FindSection(".dynstr");
  if (dynsym == nullptr || dynstr == nullptr) return;
  const std::string_view symbols = image.BytesOf(*dynsym), strings = image.BytesOf(*dynstr);
  std::unordered_map<uint64_t, std::string_view> slot_names;
  for (const ElfSection& section : image.sections()) {
    if (section.type != SHT_RELA) continue;
    const std::string_view relocations = image.BytesOf(section);
    for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= relocations.size(); at += sizeof(Elf64_Rela)) {
      const Elf64_Rela relocation = Load<Elf64_Rela>(relocations, at);
      const uint64_t index = ELF64_R_SYM(relocation.r_info);
      if (index == 0) continue;
      const std::string_view name = NameAt(strings, Load<Elf64_Sym>(symbols, index * sizeof(Elf64_Sym)).st_name);
      if (!name.empty()) slot_names.emplace(relocation.r_offset, name);
    }
  }
  if (slot_names.empty()) return;
  for (const ElfSection& section : image.sections()) {
    if (!section.name.starts_with(".plt")) continue;
    const uint64_t stride = section.name == ".plt.got" && section.entry_bytes == 8 ? 8 : 16;
    const std::string_view code = image.BytesOf(section);
    for (uint64_t at = 0; at + stride <= code.size(); at += stride) {
      const uint64_t address = section.address + at;
      const auto slot = slot_names.find(GotSlotOfStub(image.machine(), code.substr(at, stride), address));
      if (slot == slot_names.end()) continue;
      stub_names_.push_back(std::make_unique<std::string>(std::string(slot->second) + "@plt"));
      Candidate candidate;
      candidate.symbol = {*stub_names_.back(), address, SymbolSource::kDynsym};
      candidate.size_bytes = stride;
      candidate.limit = address + stride;
      candidates_.push_back(candidate);
      best_source_ = std::min(best_source_, SymbolSource::kDynsym);
    }
  }
}

void ElfSymbols::Build() {
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    const size_t a_length = a.symbol.name.size(), b_length = b.symbol.name.size();
    return std::tie(a.symbol.address, a.rank, a_length, a.symbol.name, a.symbol.source) <
           std::tie(b.symbol.address, b.rank, b_length, b.symbol.name, b.symbol.source);
  });
  size_t distinct = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (distinct != 0 && candidates_[distinct - 1].symbol.address == candidates_[i].symbol.address) continue;
    candidates_[distinct++] = candidates_[i];
  }
  candidates_.resize(distinct);
  symbols_.reserve(distinct);
  for (size_t i = 0; i < distinct; ++i) {
    const Candidate& candidate = candidates_[i];
    const uint64_t low = candidate.symbol.address;
    const uint32_t value = static_cast<uint32_t>(i);
    if (candidate.size_bytes != 0) {
      table_.Add(low, low + candidate.size_bytes, /*depth=*/1, value);
    } else {
      // Without a size it owns what no sized symbol claims, up to the next symbol.
      const uint64_t next = i + 1 < distinct ? candidates_[i + 1].symbol.address : UINT64_MAX;
      table_.Add(low, std::min(next, candidate.limit), /*depth=*/0, value);
    }
    symbols_.push_back(candidate.symbol);
  }
  table_.Build();
  candidates_ = {};
}

const ElfSymbol* ElfSymbols::Find(uint64_t address) const {
  const uint32_t index = table_.Find(address);
  return index == IntervalTable::kNone ? nullptr : &symbols_[index];
}

}  // namespace tidemark
