// Finds the whole sections of a trace and the stretches between them that are damaged.
//
// A section is whole when its header and its stored payload have their checksums. Behind damage the scan goes on at
// the next valid header, wherever that is. The work is bounded by a multiple of the file size, also for a file made
// to provoke it. Must not: decode payloads, or believe anything that has no checksum.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "profiler/trace_format.h"
#include "tools/trace_source.h"

namespace tidemark {

struct SectionPlace {
  uint64_t offset = 0;  // of the header
  SectionHeader header = {};
};

struct DamagedRange {
  uint64_t offset = 0, bytes = 0;
  std::optional<SectionHeader> header;  // when the header is whole and the payload is not
  bool at_end = false;                  // the file ends before the section does
};

struct SectionScan {
  std::vector<SectionPlace> sections;  // in file order
  std::vector<DamagedRange> damage;    // in file order
  bool gave_up = false;                // too much damage; what follows the last range was not looked at
};

SectionScan ScanSections(TraceSource* source);

// The header at `offset`, if there is a valid one.
std::optional<SectionHeader> ValidHeaderAt(TraceSource* source, uint64_t offset);

}  // namespace tidemark
