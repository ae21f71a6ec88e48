// The scan over section headers; see section_scanner.h for what counts as whole.
#include "tools/section_scanner.h"

#include <cstddef>
#include <cstring>

#include "profiler/crc32c.h"

namespace tidemark {
namespace {

// A damaged file may hold headers inside of what other headers claim as payload, and checking each payload again
// would take quadratic time. Honest damage needs less than two passes.
constexpr uint64_t kMaxPasses = 16;

// The next valid header at or behind `offset`, or the end of the file.
uint64_t FindHeader(TraceSource* source, uint64_t offset) {
  constexpr uint64_t kStep = 1u << 19;
  char magic[sizeof kSectionMagic];
  memcpy(magic, &kSectionMagic, sizeof magic);
  while (offset + sizeof(SectionHeader) <= source->size()) {
    // The view overlaps the next one by less than a magic; ValidHeaderAt may replace it.
    const std::string_view view = source->View(offset, kStep);
    const size_t at = view.find(std::string_view(magic, sizeof magic));
    if (at == std::string_view::npos) {
      if (view.size() < sizeof magic) break;
      offset += view.size() - (sizeof magic - 1);
      continue;
    }
    offset += at;
    if (ValidHeaderAt(source, offset)) return offset;
    offset++;
  }
  return source->size();
}

}  // namespace

std::optional<SectionHeader> ValidHeaderAt(TraceSource* source, uint64_t offset) {
  const std::string_view view = source->View(offset, sizeof(SectionHeader));
  SectionHeader header;
  if (view.size() != sizeof header) return std::nullopt;
  memcpy(&header, view.data(), sizeof header);
  if (header.magic != kSectionMagic) return std::nullopt;
  if (header.header_checksum != Crc32c(&header, offsetof(SectionHeader, header_checksum))) return std::nullopt;
  if (header.stored_bytes > kMaxSectionBytes || header.raw_bytes > kMaxSectionBytes) return std::nullopt;
  return header;
}

SectionScan ScanSections(TraceSource* source) {
  SectionScan scan;
  const uint64_t size = source->size();
  uint64_t checksum_bytes = 0;
  uint64_t offset = sizeof(FileHeader);
  while (offset < size) {
    if (checksum_bytes / kMaxPasses > size) {
      scan.gave_up = true;
      scan.damage.push_back({offset, size - offset, std::nullopt, false});
      break;
    }
    const std::optional<SectionHeader> header = ValidHeaderAt(source, offset);
    if (!header) {
      const uint64_t next = FindHeader(source, offset + 1);
      scan.damage.push_back({offset, next - offset, std::nullopt, next == size});
      offset = next;
      continue;
    }
    const uint64_t payload = offset + sizeof(SectionHeader);
    const uint64_t end = payload + header->stored_bytes;
    if (end <= size) {
      const std::string_view stored = source->View(payload, header->stored_bytes);
      checksum_bytes += stored.size();
      if (stored.size() == header->stored_bytes && Crc32c(stored.data(), stored.size()) == header->payload_checksum) {
        scan.sections.push_back({offset, *header});
        offset = end;
        continue;
      }
    }
    // Damaged or cut off. Where the next header is not where it should be, bytes were lost or inserted: look for it.
    uint64_t next = end;
    if (end > size || (end < size && !ValidHeaderAt(source, end))) next = FindHeader(source, payload);
    scan.damage.push_back({offset, next - offset, header, end > size && next == size});
    offset = next;
  }
  return scan;
}

}  // namespace tidemark
