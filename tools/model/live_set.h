// The blocks that are alive, by address. One open-addressing table of 32-byte entries: a trace with a million live
// blocks costs some 60 MB, and memory never depends on the number of events.
//
// Two live blocks at one address: time stamps of different threads may be some 100 ns off, so that "T2 got the block"
// can arrive before "T1 freed it". The younger block then waits in a queue; the next release of the address takes the
// older one. When that release comes so much later that no skew explains it, the older block's own release was lost:
// it is declared dead (`implied`), and the release takes the younger.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

namespace tidemark {

struct LiveBlock {
  uint64_t address = 0;  // multiple of 16, below 2^48
  uint64_t size = 0;
  uint64_t tsc = 0;     // of the allocation, in steps of 2^16
  uint64_t born = 0;    // bytes allocated by then, this block included: HeapModel's second clock
  uint32_t stack = 0;   // below 2^28
  uint32_t thread = 0;  // below kMaxLiveThreads
};
inline constexpr uint32_t kMaxLiveThreads = 1u << 20;

class LiveSet {
 public:
  LiveSet();
  // `skew`: the largest difference in ticks between stamps of threads for what happens at one moment.
  void SetSkew(uint64_t skew) { skew_ = skew; }

  // An address that is already alive: `ordered` says that the stamps cannot be off (one thread only), so the older
  // block is dead and returned; otherwise the new block is queued.
  std::optional<LiveBlock> Insert(const LiveBlock& block, bool ordered);

  struct Released {
    std::optional<LiveBlock> block;    // what died; empty: nothing is known at this address
    std::optional<LiveBlock> implied;  // and an older block whose release was lost
  };
  Released Release(uint64_t address, uint64_t tsc);

  // Blocks that cannot be alive at the end, because a younger one has their address. Empties the queues.
  std::vector<LiveBlock> TakeOverlapped();

  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const Entry& entry : entries_) {
      if (entry.key() != 0) visit(Unpack(entry));
    }
  }
  uint64_t size() const { return used_; }

 private:
  struct Entry {
    uint64_t address_and_thread = 0;  // address / 16: 44 bits, thread: 20 bits
    uint64_t size = 0;
    uint64_t time_and_stack = 0;  // tsc >> 16: 36 bits, stack: 28 bits
    uint64_t born = 0;
    uint64_t key() const { return address_and_thread >> 20; }
  };
  static_assert(sizeof(Entry) == 32);

  static Entry Pack(const LiveBlock& block);
  static LiveBlock Unpack(const Entry& entry);
  size_t HomeOf(uint64_t key) const { return (key * 0x9e3779b97f4a7c15u) >> shift_; }
  size_t Find(uint64_t key) const;  // its slot, or the empty slot where it would go
  void Erase(size_t slot);
  void Grow();

  std::vector<Entry> entries_;
  int shift_;
  uint64_t used_ = 0;
  uint64_t skew_ = 0;
  std::unordered_map<uint64_t, std::deque<LiveBlock>> queues_;  // by key; younger blocks, oldest first
};

}  // namespace tidemark
