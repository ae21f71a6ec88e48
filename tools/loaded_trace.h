// A trace made ready for a view: opened, counted, with names at hand. What every reading command starts with.
#pragma once

#include <memory>
#include <string>

#include "tools/frame_names.h"
#include "tools/model/heap_history.h"
#include "tools/model/heap_model.h"
#include "tools/result.h"
#include "tools/run_facts.h"
#include "tools/symbolizer.h"
#include "tools/trace_reader.h"

namespace tidemark {

struct LoadedTrace {
  std::unique_ptr<TraceReader> reader;
  std::unique_ptr<Symbolizer> symbolizer;
  std::unique_ptr<HeapModel> model;
  std::unique_ptr<HeapHistory> history;  // null unless asked for
  std::unique_ptr<FrameNames> names;
  RunFacts facts;
};

struct LoadOptions {
  bool all_frames = false;  // see FrameNames
  bool history = false;     // lifetimes and the like, too: takes about as long again
  bool quiet = false;       // say nothing on stderr
  TimeWindow window;
};

// Says on stderr what is missing in the trace, one line each.
Result<LoadedTrace> LoadTrace(const std::string& path, const LoadOptions& options);
inline Result<LoadedTrace> LoadTrace(const std::string& path, bool all_frames) {
  return LoadTrace(path, LoadOptions{all_frames, false, false, {}});
}

}  // namespace tidemark
