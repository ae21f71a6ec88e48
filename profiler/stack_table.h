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

// The node for `ip` below `parent`; creates and publishes it when it is new. 0: no room in the ring or the table.
uint32_t StackNode(ThreadState* thread, uint32_t parent, uintptr_t ip, uint32_t flags);

}  // namespace tidemark
