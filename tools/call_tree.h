// The call tree of a trace under one metric: stacks of the model, named, root first.
#pragma once

#include "tools/frame_names.h"
#include "tools/model/metric.h"
#include "tools/model/stack_tree.h"

namespace tidemark {

// Functions of the tree are FrameNames' function numbers; children are ordered by name, then module.
StackTree BuildCallTree(const HeapModel& model, FrameNames& names, Metric metric);

}  // namespace tidemark
