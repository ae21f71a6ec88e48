// Stacks as a tree: a node is (parent, return address); a stack is the number of its leaf node.
//
// Shared prefixes towards the root are stored once, a new stack costs only its new frames, and equality of stacks is
// equality of numbers. A node is published once: its definition is committed to the ring before its number can be seen
// by any other thread, so whoever reads all committed records knows every node that is used.
//
// Lock-free: hash buckets are heads of chains that only grow at the head. Memory is reserved once, touched as needed.
// Context: any thread, signal-safe under the recorder's guard, no allocation but one mapping at start.
#pragma once

#include <cstdint>

#include "profiler/thread_state.h"

namespace tidemark {

// Forgets all nodes (new session after fork, or code addresses that changed meaning). Numbers are not reused within a
// session. False: no memory.
bool ResetStackTable(bool new_session);

// Incremented by every reset: previous stacks of an older epoch hold dead numbers.
uint32_t StackTableEpoch();

// Every node from now on has this number or a higher one.
uint32_t NextStackNode();

// The hash of a path that is one frame longer. It does not need the node, so whoever has several frames to name knows
// all hashes, and can prefetch, before the first number is found.
inline uint64_t PathHash(uint64_t parent, uintptr_t ip, uint32_t flags) {
  const uint64_t mixed = (parent ^ (ip << 4 | flags)) * 0x9e3779b97f4a7c15u;
  return mixed ^ mixed >> 32;
}
void PrefetchPath(uint64_t hash);

// The path that goes on from `parent` to `ip`; creates and publishes its node when it is new. Node 0: no room in the
// ring or the table. `remark`: flags that are published, but do not tell one node from another.
StackPath ExtendPath(ThreadState* thread, const StackPath& parent, uintptr_t ip, uint32_t flags, uint32_t remark = 0);

}  // namespace tidemark
