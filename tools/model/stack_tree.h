// The call tree of one metric: root at the top, functions below their callers, every node with what its stacks hold.
// Flame graphs are drawn from it. Must not: know how functions are called; a function is a number here.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tools/model/estimator.h"

namespace tidemark {

class StackTree {
 public:
  struct Node {
    uint32_t function = 0;
    std::vector<uint32_t> children;  // indices of nodes
    Amount total;
    Amount self;
  };

  StackTree() : nodes_(1) {}
  // `functions`: root first.
  void Add(const std::vector<uint32_t>& functions, const Amount& amount);
  // After the last Add: orders all children by rank_of_function, so that a picture is the same on every run.
  void SortChildren(const std::vector<uint32_t>& rank_of_function);

  const std::vector<Node>& nodes() const { return nodes_; }  // node 0 is the root
  // Number of frames in the longest stack; 0 for an empty tree.
  uint32_t depth() const { return depth_; }

 private:
  std::vector<Node> nodes_;
  std::unordered_map<uint64_t, uint32_t> children_;  // parent << 32 | function -> node
  uint32_t depth_ = 0;
};

}  // namespace tidemark
