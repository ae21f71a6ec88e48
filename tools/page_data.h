// What the interactive page knows of a trace, as bytes: a JSON head (the run, totals, time slices) and columns of
// varints (functions, call tree, stacks, what each did in each slice). tools/page/src/decode.ts reads it; the two are
// one format and change together, so it has no version of its own: the page and its data are one file.
//
//   u32 little-endian: length of the head; the head, {"columns": [[name, bytes], ...], ...}; the columns in that order
//
// Numbers above 2^53 - 1 are written as that: a browser counts no further. Names are made printable and cut at
// kMostNameCells. Holds no addresses, no source text, no environment. Must not: know HTML.
#pragma once

#include <string>

#include "tools/frame_names.h"
#include "tools/model/activity.h"
#include "tools/model/metric.h"
#include "tools/page_tree.h"
#include "tools/run_facts.h"

namespace tidemark {

struct PageFacts {
  std::string title;  // "": the page makes its own
  Metric metric = Metric::kAllocated;
};

std::string PageData(const TraceReader& reader, const HeapModel& model, const FrameNames& names, const RunFacts& facts,
                     const PageFacts& page, const PageTree& tree, const Activity& activity);

}  // namespace tidemark
