// Bytes as lower-case hex digits: how build-ids are written everywhere.
#pragma once

#include <string>
#include <string_view>

namespace tidemark {

inline std::string HexText(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace tidemark
