// A copy of the process: sees the memory of the moment, keeps nothing of the host's, and the host sees nothing of it.
#include "profiler/snapshot.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "profiler/os.h"

namespace tidemark {
namespace {

// What host and copy share.
struct Shared {
  std::atomic<uint32_t> done;
  std::atomic<uint32_t> go;  // 0: the copy waits
  uint32_t pid, parent;
  uint64_t seen, later;
  uint32_t open_descriptors;
  uint64_t blocked;
  long nice;
};

Shared* NewShared() {
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(memory, MAP_FAILED);
  return static_cast<Shared*>(memory);
}

volatile uint64_t value = 0;

void Look(void* argument) {
  auto* shared = static_cast<Shared*>(argument);
  shared->pid = os::ProcessId();
  shared->seen = value;
  for (long fd = 0; fd < 1024; ++fd) shared->open_descriptors += !os::IsError(os::Syscall(SYS_fcntl, fd, F_GETFD));
  os::Syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, reinterpret_cast<long>(&shared->blocked), 8);
  shared->nice = 20 - os::Syscall(SYS_getpriority, PRIO_PROCESS, 0);
  while (shared->go.load() == 0) os::Syscall(SYS_sched_yield);
  shared->later = value;
  shared->parent = static_cast<uint32_t>(os::Syscall(SYS_getppid));
  shared->done = 1;
}

void WaitUntil(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// It has ended, whether or not init has looked yet.
bool IsGone(uint32_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return true;
  const size_t name_end = line.rfind(") ");
  return name_end != std::string::npos && (line[name_end + 2] == 'Z' || line[name_end + 2] == 'X');
}

TEST(Snapshot, SeesTheMoment) {
  Shared* shared = NewShared();
  value = 17;
  ASSERT_TRUE(RunInSnapshot(Look, shared));
  ReapSnapshot();
  value = 18;
  shared->go = 1;
  WaitUntil([&] { return shared->done != 0; });
  EXPECT_EQ(shared->seen, 17u);
  EXPECT_EQ(shared->later, 17u);
  EXPECT_NE(shared->pid, static_cast<uint32_t>(getpid()));
  EXPECT_NE(shared->parent, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(shared->open_descriptors, 0u);
  EXPECT_EQ(shared->blocked & uint64_t{1} << (SIGTERM - 1), uint64_t{1} << (SIGTERM - 1));
  EXPECT_EQ(shared->nice, getpriority(PRIO_PROCESS, 0) + 5);
  WaitUntil([&] { return IsGone(shared->pid); });
  munmap(shared, sizeof *shared);
}

std::atomic<int> children_ended{0};

TEST(Snapshot, TheHostSeesNoChild) {
  struct sigaction count {
  }, old{};
  count.sa_handler = [](int) { ++children_ended; };
  ASSERT_EQ(sigaction(SIGCHLD, &count, &old), 0);
  Shared* shared = NewShared();
  ASSERT_TRUE(RunInSnapshot(Look, shared));
  errno = 0;
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1) << "none that only waits for clones see, either";
  shared->go = 1;
  WaitUntil([&] { return shared->done != 0 && IsGone(shared->pid); });
  EXPECT_EQ(children_ended, 0);
  sigaction(SIGCHLD, &old, nullptr);
  munmap(shared, sizeof *shared);
}

// A reaper gets all orphans below it for its children: there the copy is one from the start, and is waited for.
TEST(Snapshot, AReaperSeesNoChildEither) {
  struct sigaction count {
  }, old{};
  count.sa_handler = [](int) { ++children_ended; };
  ASSERT_EQ(sigaction(SIGCHLD, &count, &old), 0);
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  Shared* shared = NewShared();
  const bool made = RunInSnapshot(Look, shared);
  EXPECT_TRUE(made);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  shared->go = 1;
  ReapSnapshot();
  EXPECT_EQ(shared->done, 1u);
  EXPECT_EQ(shared->parent, static_cast<uint32_t>(getpid()));
  EXPECT_TRUE(IsGone(shared->pid));
  EXPECT_EQ(children_ended, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  sigaction(SIGCHLD, &old, nullptr);
  munmap(shared, sizeof *shared);
}

void Fault(void* argument) {
  static_cast<Shared*>(argument)->pid = os::ProcessId();
  static_cast<Shared*>(argument)->done = 1;
  *reinterpret_cast<volatile int*>(8) = 1;
}

void Hang(void* argument) {
  static_cast<Shared*>(argument)->pid = os::ProcessId();
  static_cast<Shared*>(argument)->done = 1;
  for (;;) os::Syscall(SYS_sched_yield);
}

// The program's own handlers are not for the copy.
TEST(Snapshot, FaultsEndTheCopyOnly) {
  struct sigaction report {
  }, old{};
  report.sa_handler = [](int) { _exit(99); };
  ASSERT_EQ(sigaction(SIGSEGV, &report, &old), 0);
  Shared* shared = NewShared();
  ASSERT_TRUE(RunInSnapshot(Fault, shared));
  WaitUntil([&] { return shared->done != 0 && IsGone(shared->pid); });
  sigaction(SIGSEGV, &old, nullptr);
  munmap(shared, sizeof *shared);
}

TEST(Snapshot, TheWatchdogEndsACopyThatHangs) {
  Shared* shared = NewShared();
  SnapshotLimits limits;
  limits.seconds = 1;
  ASSERT_TRUE(RunInSnapshot(Hang, shared, limits));
  WaitUntil([&] { return shared->done != 0 && IsGone(shared->pid); });
  munmap(shared, sizeof *shared);
}

int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

bool Answer(long call, uint32_t action) {
  sock_filter filter[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},  // seccomp_data.nr
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<uint32_t>(call)},
      {BPF_RET | BPF_K, 0, 0, action},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog program{4, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

constexpr int kNoSeccomp = 77, kUnprivileged = 65534;

// One that refuses: no copy, and no harm. One that kills whoever makes a process is known, and none is made.
TEST(Snapshot, Sandboxes) {
  Shared* shared = NewShared();
  const int refusing = InChild([&] {
    if (!Answer(SYS_clone, SECCOMP_RET_ERRNO | EPERM)) return kNoSeccomp;
    return RunInSnapshot(Look, shared) ? 1 : 0;
  });
  if (refusing == kNoSeccomp) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(refusing, 0);
  EXPECT_EQ(InChild([&] {
              os::Forbid(SYS_clone);  // as sandbox::OnFilter() does
              if (!Answer(SYS_clone, SECCOMP_RET_KILL_PROCESS)) return kNoSeccomp;
              return RunInSnapshot(Look, shared) ? 1 : 0;
            }),
            0);
  EXPECT_EQ(shared->pid, 0u);
  munmap(shared, sizeof *shared);
}

TEST(Snapshot, NoMoreProcessesAllowed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  Shared* shared = NewShared();
  EXPECT_EQ(InChild([&] {
              const rlimit none{0, 0};
              if (setrlimit(RLIMIT_NPROC, &none) != 0 || setresuid(kUnprivileged, kUnprivileged, kUnprivileged) != 0)
                return 2;
              return RunInSnapshot(Look, shared) ? 1 : 0;
            }),
            0);
  EXPECT_EQ(shared->pid, 0u);
  munmap(shared, sizeof *shared);
}

}  // namespace
}  // namespace tidemark
