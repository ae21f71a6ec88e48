// The model's numbers as JSON, the same in every command: docs/json-schema/*.json describes what comes out.
// Numbers are exact integers (bytes, blocks, nanoseconds), never localised; estimates carry their 95 % interval.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tools/model/heap_model.h"
#include "tools/run_facts.h"

namespace tidemark {

using Json = nlohmann::ordered_json;  // fields in the order in which they are written

// {"bytes": 12, "blocks": 1}; sampled: also "bytes_95", "blocks_95" ([low, high]) and "samples".
Json UsageJson(const Usage& usage, bool sampled);
// Totals of the process: allocated, peak, live, temporary (null when sampled), realloc detail, oddities.
Json TotalsJson(const HeapModel& model, const RunFacts& facts);
// The process and its recording: command, pid, mode, duration, ending, losses, unwinding.
Json RunJson(const HeapModel& model, const RunFacts& facts);
// One line per document end; text that is no UTF-8 is repaired.
std::string Dump(const Json& json);

}  // namespace tidemark
