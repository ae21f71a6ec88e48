// Finding the collector, and its answers in words; see leak_request.h.
#include "tools/leak_request.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <sstream>

#include "profiler/session.h"
#include "profiler/session_server.h"

namespace tidemark {
namespace {

constexpr size_t kNameDigits = 32;

Error CannotCheck(std::string message) { return Error{ExitStatus::kCouldNotCheck, std::move(message)}; }

Result<std::string> SessionOf(pid_t pid) {
  if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH)) {
    return CannotCheck(fmt::format("there is no process {}: give the number of one that is running", pid));
  }
  std::ifstream file("/proc/" + std::to_string(pid) + "/maps");
  std::stringstream maps;
  maps << file.rdbuf();
  const std::string session = SessionInMaps(maps.str());
  if (!session.empty()) return session;
  if (maps.str().empty()) {
    return CannotCheck(fmt::format(
        "process {} cannot be looked at: it is another user's, or has just ended; ask as its user or as root", pid));
  }
  return CannotCheck(fmt::format(
      "process {} is not recorded: start it with `tidemark record --leak-check -- CMD`, or it has not allocated yet",
      pid));
}

std::string InWords(LeakAnswer answer, pid_t pid) {
  switch (answer) {
    case LeakAnswer::kNotRecorded:
      return fmt::format("process {} is not recorded by this collector any more", pid);
    case LeakAnswer::kNotPrepared:
      return fmt::format("process {} is recorded without leak checks: start it with `tidemark record --leak-check`",
                         pid);
    case LeakAnswer::kNoHandler:
      return fmt::format(
          "process {} handles SIGURG itself, so it cannot be asked; its leaks are looked for when it ends", pid);
    case LeakAnswer::kEnded:
      return fmt::format("process {} has ended, or executed another program, before the check was done", pid);
    case LeakAnswer::kNotTaken:
      return fmt::format(
          "no thread of process {} has answered: all block SIGURG, the process is stopped, or it has taken SIGURG for "
          "itself",
          pid);
    case LeakAnswer::kNoVerdict:
      return fmt::format(
          "process {} has begun a check whose verdict did not come: its copy was killed, or ran too long", pid);
    case LeakAnswer::kNotWritten:
      return fmt::format("the trace of process {} cannot be written: is its disk full, or was the file removed?", pid);
    case LeakAnswer::kDone:
      break;
  }
  return fmt::format("the collector of process {} gave an answer that this version does not know", pid);
}

}  // namespace

std::string SessionInMaps(const std::string& maps) {
  const std::string prefix = "/memfd:tidemark-";
  const size_t at = maps.find(prefix);
  if (at == std::string::npos || maps.size() < at + prefix.size() + kNameDigits) return "";
  const std::string name = maps.substr(at + prefix.size(), kNameDigits);
  return name.find_first_not_of("0123456789abcdef") == std::string::npos ? name : "";
}

Result<RequestedCheck> RequestLeakCheck(pid_t pid, const LeakRequestOptions& options) {
  const Result<std::string> session = SessionOf(pid);
  if (!session) return session.error();
  const OwnedFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "tidemark-" + *session;  // abstract: after a NUL, without one at the end
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (!fd.valid() || connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) {
    return CannotCheck(fmt::format("the collector of process {} does not answer ({}): it was killed, or runs elsewhere",
                                   pid, std::strerror(errno)));
  }
  // The name has no owner: whoever listens must be root, or the user who owns the process and us.
  ucred peer{};
  socklen_t peer_length = sizeof peer;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &peer_length) != 0 ||
      (peer.uid != 0 && peer.uid != geteuid() && geteuid() != 0)) {
    return CannotCheck(fmt::format("process {} is recorded by user {}: ask as that user or as root", pid, peer.uid));
  }
  LeakQuestion question{};
  question.magic = kLeakQuestionMagic;
  question.version = kSessionVersion;
  question.pid = static_cast<uint32_t>(pid);
  question.bits = (options.exact ? kLeakExact : 0u) | (options.in_place ? kLeakInPlace : 0u);
  LeakReply reply{};
  if (send(fd.get(), &question, sizeof question, MSG_NOSIGNAL) != sizeof question) {
    return CannotCheck(fmt::format("asking the collector of process {} failed: {}", pid, std::strerror(errno)));
  }
  ssize_t n;
  do {
    n = recv(fd.get(), &reply, sizeof reply, 0);
  } while (n < 0 && errno == EINTR);
  if (n != sizeof reply || reply.magic != kLeakQuestionMagic || reply.version != kSessionVersion) {
    return CannotCheck(
        fmt::format("the collector of process {} has not answered: the process has ended, or the collector is of "
                    "another version or "
                    "another user's",
                    pid));
  }
  reply.path[sizeof reply.path - 1] = 0;
  if (reply.answer != LeakAnswer::kDone) return CannotCheck(InWords(reply.answer, pid));
  return RequestedCheck{reply.path, reply.check};
}

}  // namespace tidemark
