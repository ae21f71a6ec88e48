// A leak verdict as SARIF 2.1.0: one result per leak that is lost, suppressed ones marked and not left out (a code host
// would close and reopen their alerts). What is indirectly lost is told with its leader; still reachable blocks are no
// results. Locations are relative to the source root where they can be.
#include <map>

#include "tools/leak_fingerprint.h"
#include "tools/leak_formats.h"
#include "tools/model_json.h"

namespace tidemark {
namespace {

constexpr LeakKind kRules[] = {kLeakDefinite, kLeakIndirect, kLeakPossible};

// Characters that a URI may not hold as they are.
std::string UriOf(const std::string& path) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  std::string uri = path.starts_with('/') ? "file://" : "";
  for (unsigned char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~/+@,=").find(static_cast<char>(c)) != std::string_view::npos;
    if (plain) {
      uri += static_cast<char>(c);
    } else {
      uri += '%';
      uri += kDigits[c >> 4];
      uri += kDigits[c & 15];
    }
  }
  return uri;
}

Json LocationJson(const std::string& path, uint32_t line, const std::string& function, const std::string& root) {
  Json location = Json::object();
  if (!path.empty()) {
    const std::string relative = RelativePath(path, root);
    Json artifact = {{"uri", UriOf(relative)}};
    if (!relative.starts_with('/')) artifact["uriBaseId"] = "SRCROOT";
    location["physicalLocation"] = {{"artifactLocation", std::move(artifact)}};
    if (line != 0) location["physicalLocation"]["region"] = {{"startLine", line}};
  }
  if (!function.empty())
    location["logicalLocations"] = Json::array({{{"fullyQualifiedName", function}, {"kind", "function"}}});
  return location;
}

Json FrameLocation(const LeakFrame& frame, const std::string& root) {
  Json json = {{"location", LocationJson(frame.file, frame.line, frame.function, root)}};
  if (!frame.module.empty()) json["module"] = BaseName(frame.module);
  return json;
}

const char* LevelOf(const Leak& leak) {
  if (leak.kind == kLeakDefinite) return "error";
  return leak.kind == kLeakPossible ? "warning" : "note";
}

const char* StateOf(BaselineState state) {
  switch (state) {
    case BaselineState::kNone:
      return nullptr;
    case BaselineState::kNew:
      return "new";
    case BaselineState::kKnown:
      return "unchanged";
    case BaselineState::kGrown:
      return "updated";
  }
  return nullptr;
}

Json ResultJson(const Leak& leak, const LeakReport& report) {
  const size_t rule = IndexOf(leak.kind);
  Json json = {{"ruleId", std::string("tidemark/") + WordOf(leak.kind)},
               {"ruleIndex", rule},
               {"level", LevelOf(leak)},
               {"message", {{"text", LeakSentence(leak) + "."}}},
               {"partialFingerprints",
                {{std::string("tidemarkLeak/") + kFingerprintVersion, leak.fingerprint + "/" + WordOf(leak.kind)},
                 {std::string("tidemarkLeakFuzzy/") + kFingerprintVersion, leak.fuzzy + "/" + WordOf(leak.kind)}}}};
  const LeakFrame* source = SourceFrameOf(leak);
  const LeakFrame* own = OwnFrameOf(leak);
  std::string executable;
  if (!leak.processes.empty()) executable = report.verdict.processes[leak.processes.front().process].executable;
  // A result without a file is shown nowhere: the executable stands in for sources that are not known.
  json["locations"] = Json::array();
  json["locations"].push_back(
      source != nullptr ? LocationJson(source->file, source->line, source->function, report.source_root)
                        : LocationJson(executable, 0, own != nullptr ? own->function : "", report.source_root));
  if (!leak.stack.empty()) {
    Json frames = Json::array();
    for (const LeakFrame& frame : leak.stack) frames.push_back(FrameLocation(frame, report.source_root));
    json["stacks"] = Json::array({{{"message", {{"text", "where it was allocated"}}}, {"frames", std::move(frames)}}});
  }
  if (!leak.suppressed_by.empty()) {
    json["suppressions"] =
        Json::array({{{"kind", "external"}, {"justification", leak.suppressed_in + ": " + leak.suppressed_by}}});
  } else {
    json["suppressions"] = Json::array();  // said to be none, so that a viewer need not guess
  }
  if (const char* state = StateOf(leak.baseline)) json["baselineState"] = state;
  json["properties"] = {{"bytes", leak.direct.bytes.Rounded()},
                        {"blocks", leak.direct.blocks.Rounded()},
                        {"indirectBytes", leak.indirect.bytes.Rounded()},
                        {"indirectBlocks", leak.indirect.blocks.Rounded()},
                        {"fails", leak.fails}};
  if (!leak.rule.empty()) json["properties"]["suppression"] = leak.rule;
  return json;
}

// An entry of the baseline that is no longer seen.
Json AbsentJson(const LeakBaseline::Entry& entry) {
  size_t rule = 0;
  for (size_t i = 0; i < std::size(kRules); ++i) {
    if (entry.kind == WordOf(kRules[i])) rule = i;
  }
  return {{"ruleId", std::string("tidemark/") + WordOf(kRules[rule])},
          {"ruleIndex", rule},
          {"level", "none"},
          {"kind", "pass"},
          {"message",
           {{"text", "No longer there: " + std::to_string(entry.bytes) + " bytes in " + std::to_string(entry.blocks) +
                         " blocks" + (entry.site.empty() ? "" : ", allocated in " + entry.site) + "."}}},
          {"partialFingerprints",
           {{std::string("tidemarkLeak/") + kFingerprintVersion, entry.fingerprint + "/" + entry.kind}}},
          {"baselineState", "absent"}};
}

Json RulesJson() {
  const std::map<LeakKind, const char*> help = {
      {kLeakDefinite,
       "Nothing in the process points to these blocks any more, so nobody can release them. The stack shows where they "
       "were allocated; the last pointer was overwritten or went out of scope somewhere else."},
      {kLeakIndirect,
       "Only blocks that are lost themselves point to these. They are told with the block at the head of their "
       "structure, "
       "and go away with it."},
      {kLeakPossible,
       "Only pointers into the middle of these blocks are left, or what points to them could not be looked at. They "
       "may "
       "be in use."}};
  Json rules = Json::array();
  for (LeakKind kind : kRules) {
    std::string name = TitleOf(kind);
    name[0] = static_cast<char>(name[0] & ~0x20);
    rules.push_back({{"id", std::string("tidemark/") + WordOf(kind)},
                     {"shortDescription", {{"text", name + " memory"}}},
                     {"fullDescription", {{"text", help.at(kind)}}},
                     {"defaultConfiguration",
                      {{"level", kind == kLeakDefinite   ? "error"
                                 : kind == kLeakPossible ? "warning"
                                                         : "note"}}}});
  }
  return rules;
}

}  // namespace

std::string LeakSarif(const LeakReport& report) {
  Json results = Json::array(), notifications = Json::array();
  for (const Leak& leak : report.verdict.leaks) {
    // With a leader an indirectly lost block is part of that leader's result.
    if (leak.kind == kLeakReachable || (leak.kind == kLeakIndirect && !leak.leaders.empty())) continue;
    results.push_back(ResultJson(leak, report));
  }
  for (const LeakBaseline::Entry& entry : report.stale) results.push_back(AbsentJson(entry));
  const auto notify = [&notifications](const char* level, const std::string& text) {
    notifications.push_back({{"level", level}, {"message", {{"text", text}}}});
  };
  for (const LeakProcess& process : report.verdict.processes) {
    if (process.could_not_check.empty()) continue;
    notify("error", process.command + " could not be checked: " + process.could_not_check);
  }
  for (const std::string& warning : report.suppressions.warnings) notify("warning", warning);
  for (const std::string& warning : report.warnings) notify("warning", warning);
  Json run = {
      {"tool", {{"driver", {{"name", "tidemark"}, {"version", TIDEMARK_VERSION}, {"rules", RulesJson()}}}}},
      {"invocations", Json::array({{{"executionSuccessful", report.decision.status != ExitStatus::kCouldNotCheck},
                                    {"exitCode", static_cast<int>(report.decision.status)},
                                    {"toolExecutionNotifications", std::move(notifications)}}})},
      {"columnKind", "unicodeCodePoints"},
      {"results", std::move(results)}};
  if (!report.source_root.empty()) {
    run["originalUriBaseIds"] = {{"SRCROOT", {{"uri", UriOf(report.source_root + "/")}}}};
  }
  return Dump(
      {{"$schema", "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"},
       {"version", "2.1.0"},
       {"runs", Json::array({std::move(run)})}});
}

}  // namespace tidemark
