// The LEAKS sections of a trace, put together: checks in order of their numbers, each with the rows of all its parts.
//
// Must not: judge what a row says (class, root and node may be anything); only rows that do not decode are refused.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "profiler/trace_writer.h"

namespace tidemark {

struct TraceLeaks {
  TraceLeakCheck check;  // the numbers of its last part; of its latest one when the last is missing
  bool whole = false;    // every part from 0 to the last one is there
  std::vector<TraceLeakRow> rows;
};

class LeakParts {
 public:
  // False, and nothing is kept, when the section is not sound or all sections together have more than `limit` rows.
  bool Append(std::string_view payload, uint64_t limit);
  // Call once, after all sections.
  std::vector<TraceLeaks> Take();

 private:
  struct Part {
    TraceLeakCheck check;
    bool last = false;
    std::vector<TraceLeakRow> rows;
  };
  std::map<uint32_t, std::map<uint32_t, Part>> checks_;  // by number, by part; of copies the first
  uint64_t rows_ = 0;
};

}  // namespace tidemark
