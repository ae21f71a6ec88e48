// Column coding of the trace format, shared by writer and reader: varints, zigzag varints and length-prefixed columns.
//
// Arithmetic is modulo 2^64 throughout: any 64-bit value survives, and a hostile value overflows into another value,
// never into undefined behaviour. ColumnCursor checks every byte against the end of its column and stays failed.
// Must not: know which columns a section has.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

namespace tidemark {

inline uint64_t ZigZag(uint64_t value) { return (value << 1) ^ (0 - (value >> 63)); }
inline uint64_t UnZigZag(uint64_t value) { return (value >> 1) ^ (0 - (value & 1)); }

inline constexpr size_t kMaxVarintBytes = 10;

// Stores a varint at `out` (kMaxVarintBytes of room), returns the end.
template <typename Byte>
Byte* PutVarint(Byte* out, uint64_t value) {
  // One byte or two, without a branch: which of them it is nobody can predict, and more are rare.
  if (value < 0x4000) [[likely]] {
    const uint64_t two = value >= 0x80;
    out[0] = static_cast<Byte>(value | two << 7);
    out[1] = static_cast<Byte>(value >> 7);
    return out + 1 + two;
  }
  while (value >= 0x80) {
    *out++ = static_cast<Byte>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<Byte>(value);
  return out;
}

// A column while it is written. Its bytes are char8_t because stores through that type, unlike those through uint8_t,
// cannot change other objects: a compiler that must fear so reloads everything after every byte.
class ColumnBuilder {
 public:
  void Clear() { end_ = bytes_.get(); }
  // Makes room for `count` values; every value put must have had its room made.
  void Reserve(size_t count) { ReserveBytes(count * kMaxVarintBytes); }
  void PutByte(uint8_t byte) { *end_++ = static_cast<char8_t>(byte); }
  void Put(uint64_t value) { end_ = PutVarint(end_, value); }
  void PutSigned(uint64_t value) { Put(ZigZag(value)); }
  // Makes its own room.
  void PutText(std::string_view text) {
    Reserve(1);
    Put(text.size());
    PutBytes(text);
  }
  void PutBytes(std::string_view text) {
    ReserveBytes(text.size());
    end_ = std::copy(text.begin(), text.end(), end_);
  }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes_.get()), used()}; }

 private:
  size_t used() const { return static_cast<size_t>(end_ - bytes_.get()); }
  void ReserveBytes(size_t count) {
    if (static_cast<size_t>(limit_ - end_) >= count) return;
    const size_t size = used(), capacity = std::max(size + count, 2 * size);
    // Not a vector: it would touch the memory of every value that might come.
    auto bytes = std::make_unique_for_overwrite<char8_t[]>(capacity);
    end_ = std::copy(bytes_.get(), end_, bytes.get());
    bytes_ = std::move(bytes);
    limit_ = bytes_.get() + capacity;
  }

  std::unique_ptr<char8_t[]> bytes_;
  char8_t* end_ = nullptr;
  char8_t* limit_ = nullptr;
};

// A column while it is read. After a failure (end reached, varint too long) everything reads as 0 and ok() is false.
class ColumnCursor {
 public:
  ColumnCursor() = default;
  explicit ColumnCursor(std::string_view bytes)
      : at_(reinterpret_cast<const uint8_t*>(bytes.data())), end_(at_ + bytes.size()) {}

  bool ok() const { return ok_; }
  bool AtEnd() const { return at_ == end_; }
  size_t remaining() const { return static_cast<size_t>(end_ - at_); }

  uint8_t GetByte() {
    if (at_ == end_) return static_cast<uint8_t>(Fail());
    return *at_++;
  }
  uint64_t Get() {
    if (at_ != end_ && *at_ < 0x80) return *at_++;
    return GetLong();
  }
  uint64_t GetSigned() { return UnZigZag(Get()); }
  std::string_view GetBytes(uint64_t count) {
    if (count > remaining()) {
      Fail();
      return {};
    }
    std::string_view bytes(reinterpret_cast<const char*>(at_), static_cast<size_t>(count));
    at_ += count;
    return bytes;
  }
  std::string_view GetText() { return GetBytes(Get()); }

 private:
  uint64_t Fail() {
    ok_ = false;
    at_ = end_;
    return 0;
  }
  // Ten bytes at most; the tenth may hold one bit only, so that every value that is accepted fits 64 bits.
  uint64_t GetLong() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) return Fail();
      const uint64_t byte = *at_++;
      if (shift == 63 && byte > 1) return Fail();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return Fail();
  }

  const uint8_t* at_ = nullptr;
  const uint8_t* end_ = nullptr;
  bool ok_ = true;
};

}  // namespace tidemark
