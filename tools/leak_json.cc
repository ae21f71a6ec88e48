// A leak verdict as JSON: docs/json-schema/leaks.json says what each key means.
#include "tools/leak_formats.h"
#include "tools/model_json.h"

namespace tidemark {
namespace {

Json FrameJson(const LeakFrame& frame) {
  return {{"function", frame.function},
          {"known", frame.known},
          {"module", frame.module.empty() ? Json() : Json(frame.module)},
          {"file", frame.file.empty() ? Json() : Json(frame.file)},
          {"line", frame.line != 0 ? Json(frame.line) : Json()},
          {"inlined", frame.inlined}};
}

const char* WordOf(BaselineState state) {
  switch (state) {
    case BaselineState::kNone:
      break;
    case BaselineState::kNew:
      return "new";
    case BaselineState::kKnown:
      return "known";
    case BaselineState::kGrown:
      return "grown";
  }
  return nullptr;
}

template <typename Value>
Json OrNull(const std::optional<Value>& value) {
  return value ? Json(*value) : Json();
}

Json LeakObject(const Leak& leak, bool sampled) {
  Json json = {{"class", WordOf(leak.kind)},
               {"root", leak.kind == kLeakReachable ? Json(WordOf(leak.root)) : Json()},
               {"direct", UsageJson(leak.direct, sampled)},
               {"indirect", UsageJson(leak.indirect, sampled)},
               {"allocator", leak.allocator},
               {"stack", Json::array()},
               {"structure", Json::array()},
               {"leaders", leak.leaders},
               {"processes", Json::array()},
               {"threads", leak.threads},
               {"first_ns", OrNull(leak.first_ns)},
               {"last_ns", OrNull(leak.last_ns)},
               {"lost_while_running", leak.lost_running},
               {"lost_by_destructors", leak.lost_at_end},
               {"sizes_of_heap", leak.heap_sized},
               {"fingerprint", leak.fingerprint},
               {"fuzzy", leak.fuzzy},
               {"suppressed_by", leak.suppressed_by.empty() ? Json() : Json(leak.suppressed_by)},
               {"suppressed_in", leak.suppressed_in.empty() ? Json() : Json(leak.suppressed_in)},
               {"baseline", WordOf(leak.baseline) != nullptr ? Json(WordOf(leak.baseline)) : Json()},
               {"fails", leak.fails},
               {"suppression", leak.rule.empty() ? Json() : Json(leak.rule)},
               {"valgrind_suppression", leak.stack.empty() ? Json() : Json(ValgrindEntry(leak))}};
  for (const LeakFrame& frame : leak.stack) json["stack"].push_back(FrameJson(frame));
  for (const LeakPart& part : leak.structure) {
    json["structure"].push_back({{"site", part.site}, {"held", UsageJson(part.held, sampled)}});
  }
  for (const LeakShare& share : leak.processes) {
    json["processes"].push_back({{"process", share.process}, {"direct", UsageJson(share.direct, sampled)}});
  }
  return json;
}

Json GrowthObject(const LeakGrowth& growth) {
  Json json = {{"process", growth.process},
               {"verdict", NameOf(growth.verdict.growth)},
               {"stack", Json::array()},
               {"live_bytes", growth.live_bytes},
               {"per_allocated", growth.verdict.line.slope},
               {"per_allocated_95", {growth.verdict.line.low, growth.verdict.line.high}},
               {"p_value", growth.verdict.trend.p_value},
               {"released_share", growth.verdict.released_share}};
  for (const LeakFrame& frame : growth.stack) json["stack"].push_back(FrameJson(frame));
  return json;
}

Json ProcessObject(const LeakProcess& process) {
  Json check;
  if (process.check) {
    const TraceLeakCheck& it = *process.check;
    check = {{"number", it.number},
             {"trigger", NameOf(it.trigger)},
             {"method", NameOf(it.method)},
             {"threads", it.threads},
             {"threads_not_stopped", it.threads_not_stopped},
             {"pause_us", it.pause_us},
             {"scan_us", it.scan_us},
             {"root_bytes", it.root_bytes},
             {"live_blocks", it.live_blocks},
             {"live_bytes", it.live_bytes}};
  }
  return {{"trace", process.trace},
          {"pid", process.pid},
          {"command", process.command},
          {"executable", process.executable},
          {"ending", process.ending},
          {"mode", process.sampled ? "sampled" : "full"},
          {"sample_bytes", process.sample_bytes},
          {"check", check},
          {"could_not_check", process.could_not_check.empty() ? Json() : Json(process.could_not_check)},
          {"notes", process.notes},
          {"inherited", UsageJson(process.inherited, false)}};
}

}  // namespace

std::string LeakJson(const LeakReport& report) {
  const LeakVerdict& verdict = report.verdict;
  const bool sampled = verdict.sampled();
  const ExitStatus status = report.decision.status;
  Json json = {{"schema", "tidemark.leaks/1"},
               {"verdict", status == ExitStatus::kOk        ? "fine"
                           : status == ExitStatus::kFinding ? "leaks"
                                                            : "could not check"},
               {"exit_status", static_cast<int>(status)},
               {"reasons", report.decision.reasons},
               {"failing", report.decision.failing},
               {"processes", Json::array()},
               {"totals", Json::object()},
               {"growth", Json::array()},
               {"leaks", Json::array()},
               {"suppressions", Json::array()},
               {"stale", Json::array()},
               {"warnings", report.suppressions.warnings}};
  for (const std::string& warning : report.warnings) json["warnings"].push_back(warning);
  for (const LeakProcess& process : verdict.processes) json["processes"].push_back(ProcessObject(process));
  for (LeakKind kind : kLeakKinds) json["totals"][WordOf(kind)] = UsageJson(verdict.totals[IndexOf(kind)], sampled);
  for (const LeakGrowth& growth : report.growth) json["growth"].push_back(GrowthObject(growth));
  for (const Leak& leak : verdict.leaks) json["leaks"].push_back(LeakObject(leak, sampled));
  for (const SuppressionOutcome::Used& used : report.suppressions.used) {
    json["suppressions"].push_back({{"rule", used.rule},
                                    {"where", used.where},
                                    {"leaks", used.leaks},
                                    {"whole", UsageJson(used.amount, sampled)}});
  }
  for (const LeakBaseline::Entry& entry : report.stale) json["stale"].push_back(entry.json);
  return Dump(json);
}

}  // namespace tidemark
