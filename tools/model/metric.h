// The metrics that views can be made of, by the names the command line uses; docs/metrics.md defines them.
#pragma once

#include <optional>
#include <string>

#include "tools/model/heap_model.h"
#include "tools/result.h"

namespace tidemark {

enum class Metric { kAllocated, kLive, kPeak, kCount, kTemporary, kLeaked };
inline constexpr Metric kAllMetrics[] = {Metric::kAllocated, Metric::kLive,      Metric::kPeak,
                                         Metric::kCount,     Metric::kTemporary, Metric::kLeaked};

const char* NameOf(Metric metric);
// "bytes allocated", for titles and headers.
const char* TitleOf(Metric metric);
// Counted in blocks; otherwise in bytes.
bool CountsBlocks(Metric metric);

// Says which metrics there are, and why `name` is none or cannot be told of this model (exit status 2).
Result<Metric> MetricFromName(const std::string& name);
std::optional<Error> WhyNotAvailable(Metric metric, const HeapModel& model);

Usage UsageOf(Metric metric, const Tally& tally, uint64_t epoch);
// The amount the metric is about: its bytes or its blocks.
inline const Amount& AmountOf(Metric metric, const Usage& usage) {
  return CountsBlocks(metric) ? usage.blocks : usage.bytes;
}

}  // namespace tidemark
