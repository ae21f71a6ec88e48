// See stack_tree.h.
#include "tools/model/stack_tree.h"

#include <algorithm>

namespace tidemark {

void StackTree::Add(const std::vector<uint32_t>& functions, const Amount& amount) {
  uint32_t at = 0;
  nodes_[0].total += amount;
  for (uint32_t function : functions) {
    const uint64_t key = uint64_t{at} << 32 | function;
    auto [found, added] = children_.try_emplace(key, static_cast<uint32_t>(nodes_.size()));
    if (added) {
      Node node;
      node.function = function;
      nodes_.push_back(std::move(node));
      nodes_[at].children.push_back(found->second);
    }
    at = found->second;
    nodes_[at].total += amount;
  }
  nodes_[at].self += amount;
  depth_ = std::max(depth_, static_cast<uint32_t>(functions.size()));
}

void StackTree::SortChildren(const std::vector<uint32_t>& rank_of_function) {
  for (Node& node : nodes_) {
    std::sort(node.children.begin(), node.children.end(), [&](uint32_t a, uint32_t b) {
      return rank_of_function[nodes_[a].function] < rank_of_function[nodes_[b].function];
    });
  }
}

}  // namespace tidemark
