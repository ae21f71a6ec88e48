// Who is it? Groups what a model counted by site, function, module, thread or size, largest first.
//
// A site is the innermost frame that is not the allocator's: function, file and line. "self" is what a group asked for
// itself, "total" also what was asked for further down its calls; a recursive function counts once per stack.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/frame_names.h"
#include "tools/model/heap_model.h"
#include "tools/model/metric.h"

namespace tidemark {

enum class Grouping { kSite, kFunction, kModule, kThread, kSize };
const char* NameOf(Grouping grouping);
Result<Grouping> GroupingFromName(const std::string& name);

struct Caller {
  uint32_t frame = 0;
  Amount amount;  // of the site's, what came through this caller and those before it
};

struct Hotspot {
  std::string name;
  std::string module;  // "" when it has none
  std::string place;   // "file.cc:12", sites only
  std::string file;    // whole path, sites only
  uint32_t line = 0;
  uint32_t serial = 0;                   // threads only
  uint32_t tid = 0;                      // threads only
  uint64_t size_low = 0, size_high = 0;  // sizes only
  Usage self, total;                     // total == self but for functions and modules
  std::vector<Caller> callers;           // sites only: the heaviest way up, innermost caller first
};

struct Hotspots {
  Metric metric = Metric::kAllocated;
  Grouping grouping = Grouping::kSite;
  bool has_totals = false;    // self and total differ
  std::vector<Hotspot> rows;  // the first `top`
  size_t all_rows = 0;        // how many there are
  Usage whole;                // of the process
};

// `callers`: how many to show per site.
Hotspots FindHotspots(const TraceReader& reader, const HeapModel& model, FrameNames& names, Grouping grouping,
                      Metric metric, size_t top, size_t callers);

}  // namespace tidemark
