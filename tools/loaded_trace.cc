// See loaded_trace.h.
#include "tools/loaded_trace.h"

#include <cstdio>

#include "tools/text_table.h"

namespace tidemark {

Result<LoadedTrace> LoadTrace(const std::string& path, const LoadOptions& options) {
  Result<std::unique_ptr<TraceReader>> reader = TraceReader::Open(path);
  if (!reader) return reader.error();
  LoadedTrace trace;
  trace.reader = std::move(*reader);
  if (options.history) trace.history = std::make_unique<HeapHistory>(*trace.reader);
  trace.model = std::make_unique<HeapModel>(HeapModel::Build(*trace.reader, trace.history.get(), options.window));
  trace.symbolizer = Symbolizer::Create({});
  trace.names = std::make_unique<FrameNames>(*trace.reader, trace.symbolizer.get(), options.all_frames);
  trace.facts = FactsOf(*trace.reader, *trace.model);
  if (options.quiet) return trace;
  for (const std::string& problem : trace.reader->problems()) {
    std::fprintf(stderr, "tidemark: %s: %s\n", path.c_str(), Printable(problem).c_str());
  }
  if (trace.facts.bypassed) {
    std::fprintf(stderr, "tidemark: %s: the program brings its own malloc, so that none of its allocations were seen\n",
                 path.c_str());
  }
  return trace;
}

}  // namespace tidemark
