// Mutations that know what a trace looks like: linked to the fuzz targets of traces when libFuzzer drives them.
//
// Blind mutation breaks a length or a compressed frame and reaches nothing behind it. So half of the mutations happen
// where they are read: one section is picked and, if compressed, stored raw; then one of its columns is changed, its
// length corrected, and all checksums made right. The other half stays libFuzzer's own, for the outer structure.
// Must not: make inputs that the target could not be given as a file.
#include <zstd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "profiler/columns.h"
#include "tests/fuzz/trace_bytes.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace tidemark;

// As the documented minimal standard generator: std::mt19937 would cost more than the mutation.
class Random {
 public:
  explicit Random(unsigned seed) : state_(seed | 1) {}
  size_t Below(size_t limit) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state_ >> 33) % limit;
  }

 private:
  uint64_t state_;
};

std::string Mutated(std::string bytes, size_t longest) {
  const size_t size = bytes.size();
  bytes.resize(std::max(size, longest));
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), size, bytes.size()));
  return bytes;
}

struct Column {
  uint64_t id = 0;
  std::string bytes;
};

// A table's rows and columns; false: it is none.
bool ParseTable(const std::string& payload, uint64_t* rows, std::vector<Column>* columns) {
  ColumnCursor cursor(payload);
  *rows = cursor.Get();
  while (cursor.ok() && !cursor.AtEnd()) {
    Column column;
    column.id = cursor.Get();
    column.bytes = cursor.GetText();
    columns->push_back(std::move(column));
  }
  return cursor.ok() && !columns->empty();
}

void PutNumber(std::string* out, uint64_t value) {
  uint8_t varint[kMaxVarintBytes];
  out->append(reinterpret_cast<char*>(varint), static_cast<size_t>(PutVarint(varint, value) - varint));
}

std::string MutatedPayload(const std::string& payload, Random* random) {
  constexpr size_t kRoom = 64;
  uint64_t rows = 0;
  std::vector<Column> columns;
  if (random->Below(8) == 0 || !ParseTable(payload, &rows, &columns)) return Mutated(payload, payload.size() + kRoom);
  Column& column = columns[random->Below(columns.size())];
  switch (random->Below(8)) {
    case 0:
      rows = random->Below(2) == 0 ? rows + random->Below(3) - 1 : random->Below(100'000);
      break;
    case 1:
      column.id = random->Below(20);
      break;
    case 2:
      columns.push_back({random->Below(20), column.bytes});
      break;
    default:
      column.bytes = Mutated(column.bytes, column.bytes.size() + kRoom);
      break;
  }
  std::string table;
  PutNumber(&table, rows);
  for (const Column& it : columns) {
    PutNumber(&table, it.id);
    PutNumber(&table, it.bytes.size());
    table += it.bytes;
  }
  return table;
}

std::string RawPayload(const SectionHeader& header, const std::string& stored) {
  constexpr size_t kMostRawBytes = 1 << 20;
  if (header.encoding != static_cast<uint16_t>(Encoding::kZstd) || header.raw_bytes > kMostRawBytes) return stored;
  std::string raw(header.raw_bytes, '\0');
  const size_t n = ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(n)) return stored;
  raw.resize(n);
  return raw;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  Random random(seed);
  if (random.Below(2) == 0) return LLVMFuzzerMutate(data, size, max_size);
  std::string bytes(reinterpret_cast<char*>(data), size);
  MakeChecksumsRight(&bytes);
  std::vector<size_t> sections;
  ForEachSectionHeader(&bytes, [&](size_t at) { sections.push_back(at); });
  if (sections.empty()) return LLVMFuzzerMutate(data, size, max_size);
  const size_t at = sections[random.Below(sections.size())];
  SectionHeader header;
  memcpy(&header, bytes.data() + at, sizeof header);
  const size_t payload = at + sizeof header, end = payload + header.stored_bytes;
  std::string changed = bytes.substr(0, at);
  const auto append_section = [&](SectionHeader with, const std::string& raw) {
    with.encoding = static_cast<uint16_t>(Encoding::kRaw);
    with.stored_bytes = with.raw_bytes = static_cast<uint32_t>(raw.size());
    changed.append(reinterpret_cast<const char*>(&with), sizeof with);
    changed += raw;
  };
  const std::string raw = RawPayload(header, bytes.substr(payload, end - payload));
  switch (random.Below(16)) {
    case 0:  // the section is gone
      break;
    case 1:  // and comes once more, as if it were the next one
      append_section(header, raw);
      ++header.sequence;
      append_section(header, raw);
      break;
    case 2:
      header.type = static_cast<uint16_t>(random.Below(11));
      append_section(header, raw);
      break;
    default:
      append_section(header, MutatedPayload(raw, &random));
      break;
  }
  changed.append(bytes, end);
  if (changed.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  MakeChecksumsRight(&changed);
  memcpy(data, changed.data(), changed.size());
  return changed.size();
}
