// The small sections of a trace: modules, stack nodes, threads, clock and memory samples, index.
//
// Each function appends the rows of one decoded payload, all of them or none: false means that the section is not
// sound. `limit` bounds how many rows a file may bring in altogether, so that a small file cannot claim the memory of
// the machine. Must not: judge what the rows say, but for what would lead readers in circles (stack parents).
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "profiler/trace_writer.h"

namespace tidemark {

bool AppendModules(std::string_view payload, uint64_t limit, std::vector<TraceModule>* modules);
bool AppendThreads(std::string_view payload, uint64_t limit, std::vector<TraceThread>* threads);
bool AppendClocks(std::string_view payload, uint64_t limit, std::vector<TraceClock>* clocks);
bool AppendMemory(std::string_view payload, uint64_t limit, std::vector<TraceMemory>* samples);

struct StackNodes {
  std::vector<TraceStackNode> nodes;  // by id; [0] is the root
  std::vector<bool> present;          // by id
  uint64_t bad_parents = 0;           // parent not older than the node: taken for the root
  uint64_t out_of_range = 0;          // ids beyond `limit`, left out
};
bool AppendStacks(std::string_view payload, uint64_t limit, StackNodes* stacks);

// Type and subject of sections by their offset; only good for naming what is damaged.
struct IndexedSection {
  uint16_t type = 0;
  uint32_t subject = 0;
};
bool ReadIndex(std::string_view payload, uint64_t limit, std::map<uint64_t, IndexedSection>* index);

// A JSON object of bounded depth; discarded (is_discarded()) when it is not one.
nlohmann::json ParseJsonObject(std::string_view payload);

}  // namespace tidemark
