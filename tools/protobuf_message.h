// The wire format of protocol buffers, as much of it as profiles need: integers, bytes, messages, packed lists.
// Must not: know any message. Reading them is left to those who do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

class ProtobufMessage {
 public:
  // Zero is the default and is not written.
  void Number(uint32_t field, uint64_t value) {
    if (value == 0) return;
    Tag(field, 0);
    Varint(value);
  }
  void Bytes(uint32_t field, std::string_view bytes) {
    Tag(field, 2);
    Varint(bytes.size());
    bytes_ += bytes;
  }
  void Message(uint32_t field, const ProtobufMessage& message) { Bytes(field, message.bytes()); }
  void Numbers(uint32_t field, const std::vector<uint64_t>& values) {
    ProtobufMessage packed;
    for (uint64_t value : values) packed.Varint(value);
    if (!values.empty()) Bytes(field, packed.bytes());
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Tag(uint32_t field, uint32_t wire_type) { Varint(uint64_t{field} << 3 | wire_type); }
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

}  // namespace tidemark
