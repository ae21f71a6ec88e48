// See call_tree.h.
#include "tools/call_tree.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace tidemark {

StackTree BuildCallTree(const HeapModel& model, FrameNames& names, Metric metric) {
  std::vector<uint32_t> leaves;
  for (const StackUse& use : model.stacks()) {
    if (UsageOf(metric, use.tally, model.epoch()).blocks.seen != 0) leaves.push_back(use.node);
  }
  names.Prefetch(leaves);
  StackTree tree;
  std::vector<uint32_t> path;
  for (const StackUse& use : model.stacks()) {
    const Usage usage = UsageOf(metric, use.tally, model.epoch());
    if (usage.blocks.seen == 0) continue;
    const std::vector<uint32_t>& stack = names.StackOf(use.node);
    path.clear();
    for (auto frame = stack.rbegin(); frame != stack.rend(); ++frame) path.push_back(names.frame(*frame).function);
    tree.Add(path, AmountOf(metric, usage));
  }
  std::vector<uint32_t> order(names.function_count()), rank(names.function_count());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const NamedFunction &left = names.function(a), &right = names.function(b);
    return std::tie(left.name, left.module) < std::tie(right.name, right.module);
  });
  for (uint32_t i = 0; i < order.size(); ++i) rank[order[i]] = i;
  tree.SortChildren(rank);
  return tree;
}

}  // namespace tidemark
