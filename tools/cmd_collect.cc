// `tidemark collect`, hidden: the collector of a bare preload. The library starts it, as a detached process, with one
// end of a socket pair over which the first process attaches; fork children come in through the session's name.
//
// Must not: hold anything of the host open (descriptors, terminal, process group), say anything anywhere.

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "profiler/collector.h"
#include "profiler/options.h"
#include "tools/commands.h"
#include "tools/output_file.h"

namespace tidemark {
namespace {

struct CollectOptions {
  int socket_fd = -1;
  std::string session;
  std::string options;
};

Result<ExitStatus> RunCollect(const CollectOptions& given) {
  const Options parsed = ParseOptions(given.options.c_str());
  if (given.socket_fd < 0 || given.session.size() != 32) {
    return Error{ExitStatus::kUsage, "collect is started by libtidemark.so, with --socket-fd, --session and --options"};
  }
  // A trace that cannot be written is not worth a recording. Without an answer the library says that it does not
  // record. Files and links of that name are gone round; what is neither (a pipe, a device) was meant otherwise.
  struct stat there {};
  const bool is_special = lstat(parsed.out, &there) == 0 && !S_ISREG(there.st_mode) && !S_ISLNK(there.st_mode);
  const Result<bool> usable = is_special ? CheckOutput(parsed.out) : CheckDirectory(parsed.out);
  DetachForCollecting({given.socket_fd});
  if (!usable) return usable.error();
  CollectorOptions options;
  options.launch = "preload";
  options.tool_version = TIDEMARK_VERSION;
  options.session_name = given.session;
  options.session.mode = parsed.mode;
  options.session.sample_bytes = parsed.sample_bytes;
  options.session.guard_every = parsed.guard;
  options.session.leak_check = parsed.leak_check;
  options.session.seed = parsed.seed;
  options.session.ring_bytes = parsed.ring_bytes;
  options.output = parsed.out;
  std::string error;
  // Without the name only fork children are missed; the process that started us is still served.
  OwnedFd listener = SessionServer::Listen(options.session_name, &error);
  Collector collector(std::move(options), std::move(listener), OwnedFd());
  collector.Run(OwnedFd(given.socket_fd));
  return ExitStatus::kOk;
}

RunFunction DefineCollect(CLI::App& app) {
  auto options = std::make_shared<CollectOptions>();
  app.add_option("--socket-fd", options->socket_fd, "descriptor of the connected socket");
  app.add_option("--session", options->session, "name to listen on");
  app.add_option("--options", options->options, "TIDEMARK_OPTIONS of the process");
  return [options] { return RunCollect(*options); };
}

}  // namespace

const Command kCollectCommand = {
    "collect",
    "collect the events of a preloaded process",
    "Started by libtidemark.so; not meant to be called.",
    DefineCollect,
    ExitStatus::kUsage,
    /*hidden=*/true,
};

}  // namespace tidemark
