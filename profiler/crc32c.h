// CRC-32C (Castagnoli), the checksum of trace files: the processor has an instruction for it, tables do elsewhere.
//
// Runs out of process only. Must not: be used against an adversary; it finds accidents, not forgeries.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark {

// Checksum of `bytes` bytes; pass the result of an earlier call as `previous` to continue over split data.
uint32_t Crc32c(const void* data, size_t bytes, uint32_t previous = 0);

// The table version, whatever the processor can do; equal to Crc32c (a test compares the two).
uint32_t Crc32cByTable(const void* data, size_t bytes, uint32_t previous = 0);

}  // namespace tidemark
