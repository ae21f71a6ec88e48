// The interactive page: one HTML file with everything in it, that needs no network and may run no foreign script.
//
// The page itself is built from TypeScript and committed (tools/page); this adds the data, compressed and in base64, so
// that no name of a program can ever be taken for markup or script. The size is bounded whatever the trace:
// first the slices of time become coarser, then the call tree is cut (page_tree.h).
#pragma once

#include <string>

#include "tools/page_data.h"

namespace tidemark {

struct PageLimits {
  uint32_t most_nodes = 100000;      // kept as they are; joined ones come in addition, at most as many
  size_t most_bytes = 10 * 1000000;  // of the file
};

std::string RenderFlamegraphPage(TraceReader& reader, const HeapModel& model, FrameNames& names, const RunFacts& facts,
                                 const PageFacts& page, const PageLimits& limits = {});

}  // namespace tidemark
