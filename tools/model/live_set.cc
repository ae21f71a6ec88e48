// See live_set.h. Linear probing with backward-shift deletion: no tombstones, so that a long trace of short-lived
// blocks never degrades the table.
#include "tools/model/live_set.h"

namespace tidemark {
namespace {
constexpr int kFirstLog2 = 12;
constexpr uint64_t kTimeMask = (uint64_t{1} << 36) - 1;
}  // namespace

LiveSet::LiveSet() : entries_(size_t{1} << kFirstLog2), shift_(64 - kFirstLog2) {}

LiveSet::Entry LiveSet::Pack(const LiveBlock& block) {
  Entry entry;
  entry.address_and_thread = (block.address >> 4) << 20 | (block.thread & (kMaxLiveThreads - 1));
  entry.size = block.size;
  entry.time_and_stack = (block.tsc >> 16 & kTimeMask) << 28 | (block.stack & ((1u << 28) - 1));
  entry.born = block.born;
  return entry;
}

LiveBlock LiveSet::Unpack(const Entry& entry) {
  LiveBlock block;
  block.address = entry.key() << 4;
  block.size = entry.size;
  block.tsc = entry.time_and_stack >> 28 << 16;
  block.born = entry.born;
  block.stack = entry.time_and_stack & ((1u << 28) - 1);
  block.thread = entry.address_and_thread & (kMaxLiveThreads - 1);
  return block;
}

size_t LiveSet::Find(uint64_t key) const {
  const size_t mask = entries_.size() - 1;
  size_t slot = HomeOf(key);
  while (entries_[slot].key() != 0 && entries_[slot].key() != key) slot = (slot + 1) & mask;
  return slot;
}

void LiveSet::Grow() {
  std::vector<Entry> old(entries_.size() * 2);
  old.swap(entries_);
  --shift_;
  for (const Entry& entry : old) {
    if (entry.key() != 0) entries_[Find(entry.key())] = entry;
  }
}

void LiveSet::Erase(size_t slot) {
  const size_t mask = entries_.size() - 1;
  size_t hole = slot;
  for (size_t next = (hole + 1) & mask; entries_[next].key() != 0; next = (next + 1) & mask) {
    const size_t home = HomeOf(entries_[next].key());
    // May `next` move into the hole? Only when its home is not between them (cyclically).
    if (((next - home) & mask) >= ((next - hole) & mask)) {
      entries_[hole] = entries_[next];
      hole = next;
    }
  }
  entries_[hole] = Entry{};
  --used_;
}

std::optional<LiveBlock> LiveSet::Insert(const LiveBlock& block, bool ordered) {
  const uint64_t key = block.address >> 4;
  const size_t slot = Find(key);
  if (entries_[slot].key() == 0) {
    entries_[slot] = Pack(block);
    if (++used_ * 4 > entries_.size() * 3) Grow();
    return std::nullopt;
  }
  if (!ordered) {
    queues_[key].push_back(block);
    return std::nullopt;
  }
  LiveBlock dead = Unpack(entries_[slot]);
  entries_[slot] = Pack(block);
  return dead;
}

LiveSet::Released LiveSet::Release(uint64_t address, uint64_t tsc) {
  Released released;
  const uint64_t key = address >> 4;
  if (key == 0) return released;
  const size_t slot = Find(key);
  if (entries_[slot].key() == 0) return released;
  released.block = Unpack(entries_[slot]);
  if (!queues_.empty()) {
    if (auto queue = queues_.find(key); queue != queues_.end()) {
      LiveBlock next = queue->second.front();
      queue->second.pop_front();
      // Coarse stamps: one step of slack.
      if (tsc > next.tsc + skew_ + (1 << 16)) {
        released.implied = released.block;
        released.block = next;
        if (queue->second.empty()) {
          Erase(slot);
        } else {
          entries_[slot] = Pack(queue->second.front());
          queue->second.pop_front();
        }
      } else {
        entries_[slot] = Pack(next);
      }
      if (queue->second.empty()) queues_.erase(queue);
      return released;
    }
  }
  Erase(slot);
  return released;
}

std::vector<LiveBlock> LiveSet::TakeOverlapped() {
  std::vector<LiveBlock> dead;
  for (auto& [key, queue] : queues_) {
    const size_t slot = Find(key);
    dead.push_back(Unpack(entries_[slot]));
    for (size_t i = 0; i + 1 < queue.size(); ++i) dead.push_back(queue[i]);
    entries_[slot] = Pack(queue.back());
  }
  queues_.clear();
  return dead;
}

}  // namespace tidemark
