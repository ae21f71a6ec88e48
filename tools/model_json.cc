// See model_json.h.
#include "tools/model_json.h"

#include <cmath>

namespace tidemark {
namespace {

Json IntervalJson(const Amount& amount) {
  const Interval interval = amount.Interval95();
  return Json::array({Saturated(std::floor(interval.low)), Saturated(std::ceil(interval.high))});
}

// Null: the whole run; else [from, to], null where the run's own end is meant.
Json WindowJson(const TimeWindow& window) {
  if (window.whole()) return nullptr;
  const auto end = [](const std::optional<int64_t>& ns) { return ns ? Json(*ns) : Json(); };
  return Json::array({end(window.from_ns), end(window.to_ns)});
}

}  // namespace

Json UsageJson(const Usage& usage, bool sampled) {
  Json json = {{"bytes", usage.bytes.Rounded()}, {"blocks", usage.blocks.Rounded()}};
  if (sampled) {
    json["bytes_95"] = IntervalJson(usage.bytes);
    json["blocks_95"] = IntervalJson(usage.blocks);
    json["samples"] = usage.blocks.seen;
  }
  return json;
}

Json TotalsJson(const HeapModel& model, const RunFacts& facts) {
  const bool sampled = model.sampled();
  Json peak = UsageJson(model.total().Peak(model.epoch()), sampled);
  peak["time_ns"] = model.peak_ns();
  const ReallocDetail& realloc = model.reallocs();
  const Oddities& odd = model.oddities();
  return {
      {"allocated", UsageJson(model.total().Allocated(), sampled)},
      {"allocated_bytes_exact",
       sampled && facts.exact_allocated_bytes != 0 ? Json(facts.exact_allocated_bytes) : Json()},
      {"peak", peak},
      {"live_at_end", UsageJson(model.total().Live(), sampled)},
      {"temporary", model.knows_temporary() ? UsageJson(model.total().Temporary(), false) : Json()},
      {"realloc",
       {{"grown", {{"blocks", realloc.grown_blocks}, {"bytes", realloc.grown_bytes}}},
        {"shrunk", {{"blocks", realloc.shrunk_blocks}, {"bytes", realloc.shrunk_bytes}}},
        {"same_size", {{"blocks", realloc.same_size_blocks}}},
        {"moved", {{"blocks", realloc.moved_blocks}, {"bytes", realloc.moved_bytes}}}}},
      {"zero_sized_blocks", odd.zero_sized},
      {"releases_of_unknown_blocks", odd.unknown_releases},
      {"releases_implied", odd.implied_releases},
      {"blocks_without_stack", odd.without_stack},
      {"unusable_events", odd.unusable_events + odd.unknown_nodes},
  };
}

Json RunJson(const HeapModel& model, const RunFacts& facts) {
  Json events = Json::object();
  for (uint32_t kind = 0; kind < kKindCount; ++kind) {
    const Conservation& it = facts.events[kind];
    events[kEventKindNames[kind]] = {
        {"observed", it.observed()}, {"recorded", it.recorded}, {"dropped", it.dropped}, {"skipped", it.skipped}};
  }
  Json unwinding;
  if (facts.unwinding) {
    unwinding = {{"stacks", facts.unwinding->stacks},
                 {"truncated", facts.unwinding->truncated},
                 {"frames_walked", facts.unwinding->frames_walked},
                 {"frames_reused", facts.unwinding->frames_reused},
                 {"rule_misses", facts.unwinding->rule_misses},
                 {"frame_pointer_guesses", facts.unwinding->fp_guesses},
                 {"checked", facts.unwinding->checked},
                 {"wrong", facts.unwinding->wrong}};
  }
  Json ending;
  if (facts.complete) {
    ending = {{"kind", facts.exit_kind.empty() ? "unknown" : facts.exit_kind},
              {"status", facts.exit_kind == "exited" ? Json(facts.exit_number) : Json()},
              {"signal", facts.exit_kind == "signaled" ? Json(facts.exit_number) : Json()}};
  }
  return {
      {"command", facts.command},
      {"executable", facts.executable},
      {"pid", facts.pid},
      {"mode", NameOf(model.mode())},
      {"sample_bytes", model.sampled() ? model.sample_bytes() : 0},
      {"start_realtime_ns", facts.start_realtime_ns},
      {"duration_ns", facts.duration_ns},
      {"window_ns", WindowJson(model.window())},
      {"complete", facts.complete},
      {"bypassed", facts.bypassed},
      {"ending", ending},
      {"events", events},
      {"heap_errors", std::max(model.events().heap_errors, facts.heap_errors)},
      {"guards_given_up", facts.guards_given_up},
      {"marks", model.events().marks},
      {"foreign_frees", facts.foreign_frees},
      {"samples_without_room", {{"blocks", facts.region_full_count}, {"bytes", facts.region_full_bytes}}},
      {"internal_failures", facts.internal_failures},
      {"unwinding", unwinding},
  };
}

std::string Dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace tidemark
