// What the fuzz targets of traces share: walking the sections of an input, and making its checksums right.
//
// Checksums keep a fuzzer from the decoders behind them. Must not: be used by anything but fuzz targets; a trace with
// made-up checksums is no damaged trace any more, but a forged one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "profiler/crc32c.h"
#include "profiler/trace_format.h"

namespace tidemark {

// Calls visit(offset of the header) for each section, as a reader would find them; visit may change the bytes behind
// the header and its fields, as long as stored_bytes says where the next one is.
template <typename Visit>
void ForEachSectionHeader(std::string* bytes, Visit visit) {
  size_t at = sizeof(FileHeader);
  while (at + sizeof(SectionHeader) <= bytes->size()) {
    visit(at);
    SectionHeader header;
    memcpy(&header, bytes->data() + at, sizeof header);
    const size_t payload = at + sizeof header;
    if (header.stored_bytes > bytes->size() - payload) break;
    at = payload + header.stored_bytes;
  }
}

// Writes magics and checksums as a reader expects them; a length that leads out of the file is folded back into it.
inline void MakeChecksumsRight(std::string* bytes) {
  FileHeader file = {};
  memcpy(file.magic, kTraceMagic, sizeof file.magic);
  file.major = kTraceMajor;
  file.checksum = Crc32c(&file, offsetof(FileHeader, checksum));
  if (bytes->size() < sizeof file) return;
  memcpy(bytes->data(), &file, sizeof file);
  ForEachSectionHeader(bytes, [bytes](size_t at) {
    SectionHeader header;
    memcpy(&header, bytes->data() + at, sizeof header);
    const size_t payload = at + sizeof header;
    header.magic = kSectionMagic;
    header.stored_bytes %= bytes->size() - payload + 1;
    header.payload_checksum = Crc32c(bytes->data() + payload, header.stored_bytes);
    header.header_checksum = Crc32c(&header, offsetof(SectionHeader, header_checksum));
    memcpy(bytes->data() + at, &header, sizeof header);
  });
}

}  // namespace tidemark
