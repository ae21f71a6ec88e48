// CRC-32C by instruction (x86-64 SSE4.2, about 7 GB/s) or by tables (slicing by 8, about 2 GB/s).
//
// The instruction is chosen at run time, so that one binary runs on every x86-64. Must not: allocate.
#include "profiler/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace tidemark {
namespace {

static_assert(std::endian::native == std::endian::little, "the trace format is written and read in place");

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

constexpr std::array<std::array<uint32_t, 256>, 8> MakeTables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    tables[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; i++) {
    for (size_t slice = 1; slice < 8; slice++) {
      tables[slice][i] = (tables[slice - 1][i] >> 8) ^ tables[0][tables[slice - 1][i] & 0xff];
    }
  }
  return tables;
}

constexpr auto kTables = MakeTables();

uint64_t LoadWord(const uint8_t* data) {
  uint64_t word;
  memcpy(&word, data, sizeof word);
  return word;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t Crc32cByInstruction(const uint8_t* data, size_t bytes, uint32_t crc) {
  uint64_t wide = crc;
  for (; bytes >= 8; data += 8, bytes -= 8) wide = _mm_crc32_u64(wide, LoadWord(data));
  crc = static_cast<uint32_t>(wide);
  for (; bytes > 0; data++, bytes--) crc = _mm_crc32_u8(crc, *data);
  return crc;
}
#endif

}  // namespace

uint32_t Crc32cByTable(const void* data, size_t bytes, uint32_t previous) {
  const uint8_t* at = static_cast<const uint8_t*>(data);
  uint32_t crc = ~previous;
  for (; bytes >= 8; at += 8, bytes -= 8) {
    const uint64_t word = LoadWord(at) ^ crc;
    crc = 0;
    for (size_t i = 0; i < 8; i++) crc ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (; bytes > 0; at++, bytes--) crc = (crc >> 8) ^ kTables[0][(crc ^ *at) & 0xff];
  return ~crc;
}

uint32_t Crc32c(const void* data, size_t bytes, uint32_t previous) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) {
    return ~Crc32cByInstruction(static_cast<const uint8_t*>(data), bytes, ~previous);
  }
#endif
  return Crc32cByTable(data, bytes, previous);
}

}  // namespace tidemark
