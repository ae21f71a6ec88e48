// The trace file (.tmk) as C++ structures; docs/trace-format.md is the specification, this file its mirror.
//
//   FileHeader, then sections: SectionHeader + stored payload, until the end of the file. No padding.
//
// Every section stands alone: its header has its own checksum, so that a reader finds the next section behind a
// damaged one by scanning for the magic. The file is only ever appended to; a prefix of a trace is a trace.
#pragma once

#include <cstdint>

namespace tidemark {

inline constexpr char kTraceMagic[8] = {'T', 'I', 'D', 'E', 'M', 'A', 'R', 'K'};
inline constexpr uint16_t kTraceMajor = 1;  // readers refuse another major
inline constexpr uint16_t kTraceMinor = 0;  // readers accept any minor and skip section types they do not know

struct FileHeader {
  char magic[8];
  uint16_t major;
  uint16_t minor;
  uint32_t checksum;  // CRC-32C of the 12 bytes before
};
static_assert(sizeof(FileHeader) == 16);

inline constexpr uint32_t kSectionMagic = 0x534b4d54;  // "TMKS"

enum class SectionType : uint16_t {
  kInfo = 1,     // JSON: process, command line, mode, sampling, machine
  kModules = 2,  // mapped objects with build-ids
  kStacks = 3,   // nodes of the stack tree
  kEvents = 4,   // one thread's consecutive events, columns
  kThreads = 5,  // serial -> tid, name
  kClock = 6,    // TSC <-> nanoseconds
  kMemory = 7,   // RSS and smaps samples
  kEnd = 8,      // JSON: exit status, counters of observed / recorded / dropped
  kIndex = 9,    // offsets of all sections; last one; may be missing
};

enum class Encoding : uint16_t { kRaw = 0, kZstd = 1 };

struct SectionHeader {
  uint32_t magic;  // kSectionMagic
  uint16_t type;
  uint16_t encoding;
  uint32_t stored_bytes;      // payload bytes in the file
  uint32_t raw_bytes;         // payload bytes after decoding; == stored_bytes when raw; <= kMaxSectionBytes
  uint32_t sequence;          // 0, 1, 2...: a hole in the sequence tells of a lost section
  uint32_t payload_checksum;  // CRC-32C of the stored payload
  uint32_t reserved;          // 0
  uint32_t header_checksum;   // CRC-32C of the 28 bytes before
};
static_assert(sizeof(SectionHeader) == 32);

inline constexpr uint32_t kMaxSectionBytes = 64u << 20;

}  // namespace tidemark
