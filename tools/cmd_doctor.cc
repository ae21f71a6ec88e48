// `tidemark doctor [-- CMD]`: would recording work here, and on this program, and why not.
//
// One line per check. Must not: run CMD (it may have effects), change anything.

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/commands.h"
#include "tools/elf_probe.h"
#include "tools/machine_probe.h"

namespace tidemark {
namespace {

using Outcome = Finding::Outcome;

struct DoctorOptions {
  bool json = false;
};

const char* Word(Outcome outcome) {
  switch (outcome) {
    case Outcome::kGood:
      return "ok";
    case Outcome::kBad:
      return "bad";
    case Outcome::kUnknown:
      break;
  }
  return "unknown";
}

std::vector<Finding> ProbeCommand(const std::string& name, ProgramProbe* probe) {
  bool denied = false;
  const std::string path = FindProgram(name, &denied);
  if (path.empty()) {
    return {{"program", Outcome::kUnknown,
             denied ? "'" + name + "' is not a program that may be executed" : "there is no program '" + name + "'"}};
  }
  *probe = ProbeProgram(path);
  std::vector<Finding> findings = {{"program", Outcome::kGood, path}};
  for (const std::string& script : probe->scripts) {
    findings.push_back({"script", Outcome::kGood, script + " is a script; " + probe->path + " runs it"});
  }
  switch (probe->verdict) {
    case Verdict::kWorks:
      findings.push_back({"preload", Outcome::kGood, probe->path + " can be recorded"});
      break;
    case Verdict::kNoEffect:
      findings.push_back({"preload", Outcome::kBad, probe->path + " " + probe->reason});
      break;
    case Verdict::kUnknown:
      findings.push_back({"preload", Outcome::kUnknown, probe->path + " " + probe->reason});
      break;
  }
  return findings;
}

nlohmann::json ToJson(const std::vector<Finding>& findings, const ProgramProbe* probe, ExitStatus status) {
  nlohmann::json checks = nlohmann::json::array();
  for (const Finding& finding : findings) {
    checks.push_back({{"name", finding.name}, {"outcome", Word(finding.outcome)}, {"detail", finding.detail}});
  }
  nlohmann::json json = {{"works", status == ExitStatus::kOk}, {"checks", checks}, {"program", nullptr}};
  if (probe != nullptr) {
    json["program"] = {{"path", probe->path},
                       {"scripts", probe->scripts},
                       {"interpreter", probe->interpreter},
                       {"needed", probe->needed},
                       {"elf", probe->elf},
                       {"same_machine", probe->same_machine},
                       {"own_malloc", probe->own_malloc},
                       {"sanitizer", probe->sanitizer},
                       {"set_id", probe->set_id},
                       {"capabilities", probe->capabilities}};
  }
  return json;
}

Result<ExitStatus> RunDoctor(const DoctorOptions& options, const std::vector<std::string>& command) {
  std::vector<Finding> findings = ProbeMachine();
  for (Finding& finding : ProbeLibrary()) findings.push_back(std::move(finding));
  ProgramProbe probe;
  if (!command.empty()) {
    for (Finding& finding : ProbeCommand(command[0], &probe)) findings.push_back(std::move(finding));
  }
  ExitStatus status = ExitStatus::kOk;
  for (const Finding& finding : findings) {
    if (finding.outcome == Outcome::kBad) status = ExitStatus::kFinding;
    if (finding.outcome == Outcome::kUnknown && status == ExitStatus::kOk) status = ExitStatus::kCouldNotCheck;
  }
  if (options.json) {
    const nlohmann::json json = ToJson(findings, command.empty() ? nullptr : &probe, status);
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return status;
  }
  for (const Finding& finding : findings) {
    fmt::print("{:<8} {:<14} {}\n", Word(finding.outcome), finding.name, finding.detail);
  }
  if (status == ExitStatus::kOk) fmt::print("recording works here\n");
  if (status == ExitStatus::kFinding) fmt::print("recording does not work here: see the lines marked bad\n");
  if (status == ExitStatus::kCouldNotCheck)
    fmt::print("not everything could be checked: see the lines marked unknown\n");
  return status;
}

RunFunction DefineDoctor(CLI::App& app) {
  auto options = std::make_shared<DoctorOptions>();
  app.add_flag("--json", options->json, "print JSON");
  return [options] { return RunDoctor(*options, TrailingCommand()); };
}

}  // namespace

const Command kDoctorCommand = {
    "doctor",
    "check whether recording works here, and on a program",
    "Checks what recording needs of this machine, and whether CMD, which is not run, can be recorded: static, musl, "
    "setuid and sanitizer builds and programs with a malloc of their own cannot.\n\n"
    "Exit status: 0 it works, 1 it does not, 4 something could not be checked.",
    DefineDoctor,
    ExitStatus::kUsage,
    /*hidden=*/false,
    /*takes_command=*/true,
};

}  // namespace tidemark
