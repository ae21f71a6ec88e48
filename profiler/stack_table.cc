// Lock-free hash table of stack nodes; see stack_table.h.
#include "profiler/stack_table.h"

#include "profiler/os.h"
#include "profiler/own_memory.h"
#include "profiler/reserved_memory.h"
#include "profiler/ring_writer.h"

namespace tidemark {
namespace {

struct Node {
  uint64_t key;  // ip 48 | flags 4
  uint32_t parent;
  uint32_t next;  // older node of the same bucket; 0: end
};

// Sampled mode sees thousands of nodes, complete mode a million; both reserve the same and touch what they use.
constexpr uint32_t kCapacity = 1u << 24;
constexpr uint32_t kBucketsSampled = 1u << 14, kBucketsFull = 1u << 20;
constexpr size_t kNodeBytes = size_t{kCapacity} * sizeof(Node);
constexpr size_t kBucketBytes = size_t{kBucketsFull} * sizeof(uint32_t);

Node* nodes = nullptr;
std::atomic<size_t> accessible{0};  // bytes of nodes[]
std::atomic<uint32_t>* buckets = nullptr;
std::atomic<uint32_t> used{1};
uint32_t bucket_mask = 0;
std::atomic<uint32_t> epoch{0};

std::atomic<uint32_t>& Bucket(uint64_t hash) { return buckets[hash & bucket_mask]; }

}  // namespace

uint32_t StackTableEpoch() { return epoch.load(std::memory_order_acquire); }

bool ResetStackTable(bool new_session) {
  const bool full = session.header->mode == static_cast<uint32_t>(Mode::kFull);
  if (nodes == nullptr) {
    nodes = static_cast<Node*>(own_memory::Map(kNodeBytes, PROT_NONE));
    buckets = static_cast<std::atomic<uint32_t>*>(own_memory::Map(kBucketBytes));
    if (nodes == nullptr || buckets == nullptr) {
      if (nodes != nullptr) own_memory::Unmap(nodes, kNodeBytes);
      nodes = nullptr;
      return false;
    }
    os::Advise(nodes, kNodeBytes, MADV_NOHUGEPAGE);
    os::Advise(buckets, kBucketBytes, MADV_NOHUGEPAGE);
  } else {
    // Zero-fills both. Another thread may be walking a chain: it finds an empty bucket or a node with key 0 and goes
    // on to create its own.
    os::Advise(buckets, kBucketBytes, MADV_DONTNEED);
    if (new_session) os::Advise(nodes, kNodeBytes, MADV_DONTNEED);
  }
  if (new_session) {
    used.store(1, std::memory_order_relaxed);
    bucket_mask = (full ? kBucketsFull : kBucketsSampled) - 1;
  }
  epoch.fetch_add(1, std::memory_order_release);
  return true;
}

uint32_t NextStackNode() { return used.load(std::memory_order_relaxed); }

void PrefetchPath(uint64_t hash) { __builtin_prefetch(&Bucket(hash)); }

StackPath ExtendPath(ThreadState* thread, const StackPath& parent, uintptr_t ip, uint32_t flags, uint32_t remark) {
  const uint64_t key = (ip & 0xffffffffffffu) << 4 | (flags & 15);
  const uint64_t hash = PathHash(parent.hash, ip, flags);
  std::atomic<uint32_t>& bucket = Bucket(hash);
  // Looks through the chain from `from` up to, without, `end`.
  const auto find = [key, &parent](uint32_t from, uint32_t end) {
    uint32_t n = from;
    while (n != end && n != 0 && (nodes[n].key != key || nodes[n].parent != parent.node)) n = nodes[n].next;
    return n != end ? n : 0;
  };
  uint32_t head = bucket.load(std::memory_order_acquire);
  if (const uint32_t found = find(head, 0); found != 0) return {found, hash};
  if (!ReserveWords(thread, 2)) return {};
  const uint32_t number = used.fetch_add(1, std::memory_order_relaxed);
  if (number >= kCapacity || !MakeAccessible(nodes, (size_t{number} + 1) * sizeof(Node), kNodeBytes, &accessible)) {
    if (number >= kCapacity) used.store(kCapacity, std::memory_order_relaxed);
    session.header->internal_failures.fetch_add(1, std::memory_order_relaxed);
    return {};
  }
  nodes[number].key = key;
  nodes[number].parent = parent.node;
  PutWord(thread, static_cast<uint64_t>(RecordKind::kNode) | uint64_t{number} << 4 | uint64_t{parent.node} << 32 |
                      uint64_t{(flags | remark) & 15} << 60);
  PutWord(thread, ip);
  Commit(thread);
  // Release: whoever reads the number from the bucket sees the node, and its definition is already in the ring.
  // Acquire: pairs with that release of another thread, which may have been first; then ours stays unused.
  for (;;) {
    const uint32_t seen = head;
    nodes[number].next = head;
    if (bucket.compare_exchange_weak(head, number, std::memory_order_release, std::memory_order_acquire)) break;
    if (const uint32_t found = find(head, seen); found != 0) return {found, hash};
  }
  return {number, hash};
}

}  // namespace tidemark
