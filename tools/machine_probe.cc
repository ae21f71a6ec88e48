// Checks that do the thing they are about, on a small scale; see machine_probe.h.
//
// A kernel version says little about containers and their filters, so each property is tried out: a segment is made
// and sealed, a page is wiped by a real fork, a test program really attaches. Must not: need a right that recording
// does not need.
#include "tools/machine_probe.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "profiler/session_server.h"
#include "tools/elf_probe.h"
#include "tools/library_path.h"

namespace tidemark {
namespace {

using Outcome = Finding::Outcome;
constexpr int kAttachPatience_ms = 5000;

std::string Reason() { return std::strerror(errno); }

Finding ProbeGlibc() {
  int major = 0, minor = 0;
  const char* version = gnu_get_libc_version();
  if (std::sscanf(version, "%d.%d", &major, &minor) != 2) {
    return {"glibc", Outcome::kUnknown, std::string("version ") + version + " was not understood"};
  }
  if (major > 2 || minor >= 35) return {"glibc", Outcome::kGood, std::string("version ") + version};
  return {"glibc", Outcome::kBad, std::string("version ") + version + "; 2.35 or newer is needed"};
}

Finding ProbeSharedMemory() {
  std::string error;
  SessionOptions full;
  full.mode = Mode::kFull;
  if (Segment::Create(full, 8 << 20, "tidemark-doctor", &error) != nullptr) {
    return {"shared-memory", Outcome::kGood, "a sealed segment of 8 MiB (memfd) can be made"};
  }
  return {"shared-memory", Outcome::kBad,
          error + "; allow memfd_create, and enough memory and file size (ulimit -f) for 8 MiB per process"};
}

Finding ProbePidfd() {
  const OwnedFd fd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (fd.valid()) return {"pidfd", Outcome::kGood, "ends of processes are seen at once"};
  return {"pidfd", Outcome::kGood, "not available (" + Reason() + "); ends of processes are seen within 50 ms"};
}

Finding ProbeWipeOnFork() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {"wipe-on-fork", Outcome::kUnknown, "no memory: " + Reason()};
  const bool works = madvise(memory, page, MADV_WIPEONFORK) == 0;
  const std::string reason = Reason();
  munmap(memory, page);
  if (works) return {"wipe-on-fork", Outcome::kGood, "a forked child can be told from its parent"};
  return {"wipe-on-fork", Outcome::kBad,
          "madvise(MADV_WIPEONFORK) failed: " + reason + "; a kernel of 4.14 or newer is needed to follow fork"};
}

Finding ProbeSocket() {
  std::string error;
  if (SessionServer::Listen(NewSessionName(), &error).valid()) {
    return {"socket", Outcome::kGood, "processes can reach the collector (abstract Unix socket)"};
  }
  return {"socket", Outcome::kBad, error + "; Unix sockets must be allowed"};
}

// Starts this very executable under the library and waits for it to come up at a socket of ours.
Finding ProbeAttach(const std::string& preload) {
  std::string error;
  const std::string session = NewSessionName();
  OwnedFd listener = SessionServer::Listen(session, &error);
  const OwnedFd epoll(epoll_create1(EPOLL_CLOEXEC));
  const OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!listener.valid() || !epoll.valid() || !null.valid()) return {"attach", Outcome::kUnknown, "no socket: " + error};
  SessionServer server(std::move(listener), session, SessionOptions(), epoll.get(),
                       [](pid_t, uid_t uid) { return uid == geteuid(); });
  const pid_t pid = fork();
  if (pid == 0) {
    for (int fd = 0; fd <= 2; ++fd) dup2(null.get(), fd);
    setenv("LD_PRELOAD", preload.c_str(), 1);
    setenv("TIDEMARK_OPTIONS", ("mode=sampled,session=" + session).c_str(), 1);
    execl("/proc/self/exe", "tidemark", "--version", nullptr);
    _exit(127);
  }
  if (pid < 0) return {"attach", Outcome::kUnknown, "no test process: " + Reason()};
  bool attached = false;
  int status = 0;
  bool ended = false;
  for (int waited_ms = 0; waited_ms < kAttachPatience_ms && !ended; waited_ms += 10) {
    epoll_event event;
    if (epoll_wait(epoll.get(), &event, 1, 10) > 0) attached |= !server.ServePending(0).empty();
    ended = waitpid(pid, &status, WNOHANG) == pid;
  }
  if (!ended) {
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return {"attach", Outcome::kBad, "a test program did not end under the library; please report it"};
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return {"attach", Outcome::kBad, "a test program failed under the library; please report it"};
  }
  if (attached) return {"attach", Outcome::kGood, "a test program attached"};
  return {"attach", Outcome::kBad, "a test program ran, but the library did not come up in it; reinstall tidemark"};
}

}  // namespace

std::vector<Finding> ProbeMachine() {
  return {ProbeGlibc(), ProbeSharedMemory(), ProbePidfd(), ProbeWipeOnFork(), ProbeSocket()};
}

std::vector<Finding> ProbeLibrary() {
  Result<std::string> library = FindLibrary();
  if (!library) return {{"library", Outcome::kBad, library.error().message}};
  std::vector<Finding> findings = {{"library", Outcome::kGood, *library}};
  if (const std::string why = WhyLibraryDoesNotLoad(*library); !why.empty()) {
    findings.push_back({"dependencies", Outcome::kBad, why});
    return findings;
  }
  findings.push_back({"dependencies", Outcome::kGood, "the libraries that it needs load"});
  Result<PreloadPath> preload = MakePreloadPath(*library);
  if (!preload) {
    findings.push_back({"preload-path", Outcome::kBad, preload.error().message});
    return findings;
  }
  findings.push_back({"preload-path", Outcome::kGood,
                      preload->made.empty()
                          ? "LD_PRELOAD can hold the path"
                          : "LD_PRELOAD cannot hold the path; a link in a private directory is used"});
  findings.push_back(ProbeAttach(preload->path));
  for (const std::string& path : preload->made) {
    if (unlink(path.c_str()) != 0) rmdir(path.c_str());
  }
  return findings;
}

std::string WhyLibraryDoesNotLoad(const std::string& library) {
  const ProgramProbe probe = ProbeProgram(library);
  if (!probe.elf || !probe.same_machine) return library + " is not a library for this machine; rebuild or reinstall it";
  for (const std::string& needed : probe.needed) {
    // In a child, so that the caller does not carry another malloc afterwards.
    const pid_t pid = fork();
    if (pid == 0) _exit(dlopen(needed.c_str(), RTLD_LAZY | RTLD_LOCAL) != nullptr ? 0 : 1);
    int status = 0;
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1) {
      return needed + ", which libtidemark.so needs, does not load; install it";
    }
  }
  return {};
}

}  // namespace tidemark
