// What every export_*.cc gets: a trace made ready for views, and how paths are shown.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/loaded_trace.h"
#include "tools/shown_paths.h"

namespace tidemark {

// The text goes out piece by piece: a document may be much larger than the model.
using WriteText = std::function<void(std::string_view)>;

struct ExportSource {
  const LoadedTrace& trace;
  ShownPaths paths;

  const HeapModel& model() const { return *trace.model; }
  FrameNames& names() const { return *trace.names; }
  // Looks all names up in the order that the symbolizer likes.
  void PrefetchNames() const {
    std::vector<uint32_t> leaves;
    for (const StackUse& use : model().stacks()) leaves.push_back(use.node);
    names().Prefetch(leaves);
  }
  // The command line as plain text, and the program's file name alone.
  std::string Command() const;
  std::string Program() const;
};

}  // namespace tidemark
