// The call tree of a trace for all metrics at once, cut down to what a page can hold.
//
// Built from the stacks of the model, root first; a function under one parent is one node, as in call_tree.h. When
// there are more than `most_nodes`, those stay whose share of some metric is largest; what goes is joined, per parent,
// to one node that says how many it stands for. Nothing is lost from any sum: a node is kept only if its parents are,
// and a stack whose own node went belongs to the joined one. Must not: know what a page looks like.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/frame_names.h"
#include "tools/model/heap_model.h"

namespace tidemark {

struct PageTree {
  static constexpr uint32_t kJoined = 0xffffffff;  // instead of a function
  struct Node {
    uint32_t parent = 0;
    uint32_t function = 0;  // FrameNames' number, or kJoined
    uint32_t joined = 0;    // how many nodes it stands for
  };
  struct Site {
    uint32_t frame = 0;  // one of those that differ in nothing but having been inlined
  };

  std::vector<Node> nodes;              // parents first, children behind their parent in order of their names; 0: root
  std::vector<uint32_t> node_of_stack;  // by index of HeapModel::stacks()
  std::vector<uint32_t> site_of_stack;  // index into sites
  std::vector<Site> sites;
  uint64_t all_nodes = 0;     // before the cut
  uint64_t joined_nodes = 0;  // of them, no node of their own

  static PageTree Build(const HeapModel& model, FrameNames& names, uint32_t most_nodes);
};

}  // namespace tidemark
