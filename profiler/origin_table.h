// Which event of a section obtained a block last; the writer's side only, and only as far as memory is well spent.
//
// A bucket remembers the last two events whose address fell into it. An event that was forgotten makes a later release
// a few bytes larger, nothing else, so there is no chain to follow and nothing to clear between sections: what a bucket
// says is believed only if the event did obtain this very block. Must not: name an event that did not.
#pragma once

#include <cstdint>
#include <memory>

namespace tidemark {

class OriginTable {
 public:
  static constexpr uint32_t kNone = 0xffffffff;

  void Start(size_t events) {
    if (obtained_capacity_ < events) {
      obtained_capacity_ = events;
      obtained_ = std::make_unique_for_overwrite<Block[]>(events);
    }
    count_ = 0;
  }
  uint32_t count() const { return count_; }
  // The next event obtained a block; `page`: its number among those of the section, to be told again.
  void Obtain(uint64_t units, uint32_t page) {
    obtained_[count_] = {units, page};
    uint32_t& bucket = buckets_[BucketOf(units)];
    bucket = bucket << 16 | count_++;
  }
  uint32_t PageOf(uint32_t event) const { return obtained_[event].page; }
  // The event that obtained it, kNone when it is not known.
  uint32_t Find(uint64_t units) const {
    const uint32_t bucket = buckets_[BucketOf(units)];
    const uint32_t newest = bucket & 0xffff, other = bucket >> 16;
    if (newest < count_ && obtained_[newest].units == units) return newest;
    if (other < count_ && obtained_[other].units == units) return other;
    return kNone;
  }

 private:
  struct Block {
    uint64_t units;
    uint32_t page;
  };
  static constexpr uint32_t kBucketBits = 15;
  static size_t BucketOf(uint64_t units) { return (units * 0x9e3779b97f4a7c15) >> (64 - kBucketBits); }

  std::unique_ptr<uint32_t[]> buckets_ = std::make_unique<uint32_t[]>(size_t{1} << kBucketBits);
  std::unique_ptr<Block[]> obtained_;
  size_t obtained_capacity_ = 0;
  uint32_t count_ = 0;
};

}  // namespace tidemark
