// See metric.h.
#include "tools/model/metric.h"

namespace tidemark {

const char* NameOf(Metric metric) {
  switch (metric) {
    case Metric::kAllocated:
      return "allocated";
    case Metric::kLive:
      return "live";
    case Metric::kPeak:
      return "peak";
    case Metric::kCount:
      return "count";
    case Metric::kTemporary:
      return "temporary";
    case Metric::kLeaked:
      return "leaked";
  }
  return "";
}

const char* TitleOf(Metric metric) {
  switch (metric) {
    case Metric::kAllocated:
      return "bytes allocated";
    case Metric::kLive:
      return "bytes live at the end";
    case Metric::kPeak:
      return "bytes live at the peak";
    case Metric::kCount:
      return "blocks allocated";
    case Metric::kTemporary:
      return "temporary blocks";
    case Metric::kLeaked:
      return "bytes never freed";
  }
  return "";
}

bool CountsBlocks(Metric metric) { return metric == Metric::kCount || metric == Metric::kTemporary; }

Result<Metric> MetricFromName(const std::string& name) {
  std::string list;
  for (Metric metric : kAllMetrics) {
    if (name == NameOf(metric)) return metric;
    list += list.empty() ? "" : ", ";
    list += NameOf(metric);
  }
  if (name == "cpu") {
    return Error{ExitStatus::kUsage,
                 "this trace holds no CPU samples, so there is no metric 'cpu'; use one of " + list};
  }
  return Error{ExitStatus::kUsage, "there is no metric '" + name + "'; use one of " + list};
}

std::optional<Error> WhyNotAvailable(Metric metric, const HeapModel& model) {
  if (metric == Metric::kTemporary && !model.knows_temporary()) {
    return Error{ExitStatus::kUsage,
                 "the metric 'temporary' needs to see every event, and this trace is sampled; record with --mode full"};
  }
  return std::nullopt;
}

Usage UsageOf(Metric metric, const Tally& tally, uint64_t epoch) {
  switch (metric) {
    case Metric::kAllocated:
    case Metric::kCount:
      return tally.Allocated();
    case Metric::kLive:
    case Metric::kLeaked:
      return tally.Live();
    case Metric::kPeak:
      return tally.Peak(epoch);
    case Metric::kTemporary:
      return tally.Temporary();
  }
  return {};
}

}  // namespace tidemark
