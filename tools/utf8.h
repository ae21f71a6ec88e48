// One character of UTF-8, for whoever shows bytes that came from somewhere else. Must not: be lenient; what is not
// well-formed is shown as such by the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tidemark {

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

// Bytes of the character at `at`, and its code point. 0: none is well-formed there (a byte that begins none, one that
// is cut off, an overlong form, a surrogate, a number beyond Unicode).
inline size_t Utf8Length(std::string_view text, size_t at, uint32_t* code) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  *code = lead;
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
  if (length == 0 || length > text.size() - at) return 0;
  *code = lead & (length == 2 ? 31 : 15);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
    *code = *code << 6 | (byte(at + i) & 0x3f);
  }
  if (length == 3 && *code < 0x800) return 0;
  if (length == 4 && (*code < 0x10000 || *code > 0x10ffff)) return 0;
  return *code >= 0xd800 && *code < 0xe000 ? 0 : length;
}

}  // namespace tidemark
