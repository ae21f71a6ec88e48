// See page_tree.h.
#include "tools/page_tree.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <string>
#include <tuple>
#include <unordered_map>

#include "tools/model/metric.h"

namespace tidemark {
namespace {

constexpr Metric kShares[] = {Metric::kAllocated, Metric::kLive, Metric::kPeak, Metric::kCount, Metric::kTemporary};
using Shares = std::array<double, std::size(kShares)>;

Shares SharesOf(const Tally& tally, uint64_t epoch) {
  Shares shares;
  for (size_t i = 0; i < shares.size(); ++i)
    shares[i] = AmountOf(kShares[i], UsageOf(kShares[i], tally, epoch)).value();
  return shares;
}

struct WholeNode {
  uint32_t parent = 0, function = 0;
  Shares total{};
};

// All nodes, in the order in which the stacks need them: parents before children.
class WholeTree {
 public:
  WholeTree() : nodes_(1) {}

  uint32_t Leaf(const std::vector<uint32_t>& path) {
    size_t depth = 0;
    while (depth < path.size() && depth < last_path_.size() && path[depth] == last_path_[depth]) ++depth;
    last_path_.resize(depth);
    last_nodes_.resize(depth);
    for (; depth < path.size(); ++depth) {
      const uint32_t parent = depth == 0 ? 0 : last_nodes_[depth - 1];
      const uint64_t key = uint64_t{parent} << 32 | path[depth];
      auto [found, added] = children_.try_emplace(key, static_cast<uint32_t>(nodes_.size()));
      if (added) {
        WholeNode node;
        node.parent = parent;
        node.function = path[depth];
        nodes_.push_back(node);
      }
      last_path_.push_back(path[depth]);
      last_nodes_.push_back(found->second);
    }
    return last_nodes_.empty() ? 0 : last_nodes_.back();
  }
  std::vector<WholeNode>& nodes() { return nodes_; }

 private:
  std::vector<WholeNode> nodes_;
  std::unordered_map<uint64_t, uint32_t> children_;
  std::vector<uint32_t> last_path_, last_nodes_;  // most stacks share the way to the root with the one before
};

// Which nodes stay: the `most` with the largest share of any metric. Shares never grow from parent to child, and among
// equals the older node is the first, so that parents of kept nodes are kept.
std::vector<char> Kept(std::vector<WholeNode>* nodes, uint32_t most) {
  std::vector<char> kept(nodes->size(), 1);
  if (nodes->size() <= most) return kept;
  for (size_t i = nodes->size() - 1; i > 0; --i) {
    WholeNode& parent = (*nodes)[(*nodes)[i].parent];
    for (size_t m = 0; m < parent.total.size(); ++m) parent.total[m] += (*nodes)[i].total[m];
  }
  std::vector<double> share(nodes->size());
  const Shares whole = (*nodes)[0].total;
  for (size_t i = 0; i < share.size(); ++i) {
    for (size_t m = 0; m < whole.size(); ++m) {
      if (whole[m] > 0) share[i] = std::max(share[i], (*nodes)[i].total[m] / whole[m]);
    }
    // Sums of doubles may round upwards from child to parent's other children; a child is never worth more.
    if (i != 0) share[i] = std::min(share[i], share[(*nodes)[i].parent]);
  }
  std::vector<uint32_t> order(nodes->size());
  std::iota(order.begin(), order.end(), 0);
  std::nth_element(order.begin(), order.begin() + most, order.end(),
                   [&](uint32_t a, uint32_t b) { return std::tie(share[b], a) < std::tie(share[a], b); });
  for (size_t i = most; i < order.size(); ++i) kept[order[i]] = 0;
  kept[0] = 1;
  return kept;
}

std::vector<uint32_t> RankOfFunctions(const FrameNames& names) {
  std::vector<uint32_t> order(names.function_count()), rank(names.function_count());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const NamedFunction &left = names.function(a), &right = names.function(b);
    return std::tie(left.name, left.module) < std::tie(right.name, right.module);
  });
  for (uint32_t i = 0; i < order.size(); ++i) rank[order[i]] = i;
  return rank;
}

}  // namespace

PageTree PageTree::Build(const HeapModel& model, FrameNames& names, uint32_t most_nodes) {
  PageTree tree;
  std::vector<uint32_t> leaves, by_leaf(model.stacks().size()), path;
  for (const StackUse& use : model.stacks()) leaves.push_back(use.node);
  names.Prefetch(leaves);
  std::iota(by_leaf.begin(), by_leaf.end(), 0);
  // Neighbours in the trace's own tree share most of their frames.
  std::sort(by_leaf.begin(), by_leaf.end(), [&](uint32_t a, uint32_t b) { return leaves[a] < leaves[b]; });

  WholeTree whole;
  std::vector<uint32_t> whole_of_stack(leaves.size());
  tree.site_of_stack.resize(leaves.size());
  std::map<std::tuple<uint32_t, uint32_t, std::string>, uint32_t> sites;
  std::unordered_map<uint32_t, uint32_t> site_of_frame;
  for (uint32_t stack : by_leaf) {
    const std::vector<uint32_t>& frames = names.StackOf(leaves[stack]);
    auto [site, is_new] = site_of_frame.try_emplace(frames.front(), 0);
    if (is_new) {
      const NamedFrame& frame = names.frame(frames.front());
      auto [known, added] =
          sites.try_emplace({frame.function, frame.line, frame.file}, static_cast<uint32_t>(tree.sites.size()));
      if (added) tree.sites.push_back({frames.front()});
      site->second = known->second;
    }
    tree.site_of_stack[stack] = site->second;
    path.clear();
    for (auto frame = frames.rbegin(); frame != frames.rend(); ++frame) path.push_back(names.frame(*frame).function);
    const uint32_t leaf = whole.Leaf(path);
    whole_of_stack[stack] = leaf;
    const Shares own = SharesOf(model.stacks()[stack].tally, model.epoch());
    for (size_t m = 0; m < own.size(); ++m) whole.nodes()[leaf].total[m] += own[m];
  }
  // Joined nodes and what is below them come in addition: where some must go, go so far that there is room for those.
  const bool fits = whole.nodes().size() <= most_nodes;
  const std::vector<char> kept = Kept(&whole.nodes(), fits ? most_nodes : std::max(most_nodes / 3, 1u));

  // The nodes that stay and, per parent, one for what goes; then in preorder, children by name.
  struct Entry {
    uint32_t parent, function, joined;
  };
  const std::vector<WholeNode>& nodes = whole.nodes();
  std::vector<Entry> entries{{0, 0, 0}};
  std::vector<uint32_t> entry_of(nodes.size()), joined_of(nodes.size());
  for (uint32_t i = 1; i < nodes.size(); ++i) {
    const uint32_t parent = nodes[i].parent;
    if (kept[i]) {
      entry_of[i] = static_cast<uint32_t>(entries.size());
      entries.push_back({entry_of[parent], nodes[i].function, 0});
      continue;
    }
    ++tree.joined_nodes;
    if (!kept[parent]) {
      entry_of[i] = entry_of[parent];
    } else {
      if (joined_of[parent] == 0) {
        joined_of[parent] = static_cast<uint32_t>(entries.size());
        entries.push_back({entry_of[parent], kJoined, 0});
      }
      entry_of[i] = joined_of[parent];
    }
    ++entries[entry_of[i]].joined;
  }
  tree.all_nodes = nodes.size() - 1;

  // Who asked for the memory stays to be seen even there: below a joined node, one node per function at the leaf.
  std::unordered_map<uint64_t, uint32_t> leaf_of;
  std::vector<uint32_t> entry_of_stack(leaves.size());
  for (size_t stack = 0; stack < leaves.size(); ++stack) {
    uint32_t entry = entry_of[whole_of_stack[stack]];
    if (entries[entry].function == kJoined) {
      const uint32_t function = names.frame(tree.sites[tree.site_of_stack[stack]].frame).function;
      auto [leaf, added] = leaf_of.try_emplace(uint64_t{entry} << 32 | function, static_cast<uint32_t>(entries.size()));
      if (added) entries.push_back({entry, function, 0});
      entry = leaf->second;
    }
    entry_of_stack[stack] = entry;
  }

  const std::vector<uint32_t> rank = RankOfFunctions(names);
  auto rank_of = [&](uint32_t entry) {
    return entries[entry].function == kJoined ? kJoined : rank[entries[entry].function];
  };
  std::vector<uint32_t> order(entries.size() - 1), first_child(entries.size() + 1);
  std::iota(order.begin(), order.end(), 1);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::tuple(entries[a].parent, rank_of(a), a) < std::tuple(entries[b].parent, rank_of(b), b);
  });
  for (size_t i = 1; i < entries.size(); ++i) ++first_child[entries[i].parent + 1];
  for (size_t i = 1; i < first_child.size(); ++i) first_child[i] += first_child[i - 1];
  std::vector<uint32_t> place(entries.size()), pending{0};
  while (!pending.empty()) {
    const uint32_t entry = pending.back();
    pending.pop_back();
    place[entry] = static_cast<uint32_t>(tree.nodes.size());
    tree.nodes.push_back({place[entries[entry].parent], entries[entry].function, entries[entry].joined});
    for (uint32_t i = first_child[entry + 1]; i > first_child[entry]; --i) pending.push_back(order[i - 1]);
  }
  for (uint32_t entry : entry_of_stack) tree.node_of_stack.push_back(place[entry]);
  return tree;
}

}  // namespace tidemark
