// Stopping the world: everybody stands still, is where it says, goes on afterwards, and sees nothing of it but what the
// header admits. Must not: allocate, print or check between Stop() and Resume() (others may hold the locks for that).
#include "profiler/world_stop.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tidemark {
namespace {

constexpr uint64_t kDeadline_us = 20'000'000;  // whatever the machine is doing
constexpr int kSignals = 64;

uint32_t Tid() { return static_cast<uint32_t>(syscall(SYS_gettid)); }

void WaitUntil(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// Is the thread in this system call?
bool IsIn(uint32_t tid, long call) {
  char path[64], line[64] = "";
  std::snprintf(path, sizeof path, "/proc/self/task/%u/syscall", tid);
  if (std::FILE* file = std::fopen(path, "r")) {
    if (std::fgets(line, sizeof line, file) == nullptr) line[0] = 0;
    std::fclose(file);
  }
  return line[0] >= '0' && line[0] <= '9' && std::strtol(line, nullptr, 10) == call;
}

// Signals whose disposition is not the default one.
std::vector<int> Handled() {
  std::vector<int> found;
  for (int number = 34; number <= kSignals; ++number) {
    struct sigaction action {};
    if (sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_DFL) found.push_back(number);
  }
  return found;
}

// Counts until it is told to end.
class Busy {
 public:
  Busy()
      : thread_([this] {
          tid_ = Tid();
          while (!end_.load(std::memory_order_relaxed)) count_.fetch_add(1, std::memory_order_relaxed);
        }) {
    WaitUntil([this] { return count_ > 0; });
  }
  ~Busy() {
    end_ = true;
    thread_.join();
  }
  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  uint32_t tid() const { return tid_; }

 private:
  std::atomic<uint64_t> count_{0};
  std::atomic<uint32_t> tid_{0};
  std::atomic<bool> end_{false};
  std::thread thread_;
};

const StoppedThread* Of(const std::vector<StoppedThread>& threads, uint32_t count, uint32_t tid) {
  for (uint32_t i = 0; i < count; ++i) {
    if (threads[i].tid == tid) return &threads[i];
  }
  return nullptr;
}

TEST(WorldStop, NobodyElseIsThere) {
  WorldStop world;
  std::vector<StoppedThread> threads(8);
  EXPECT_TRUE(world.Stop(threads.data(), 8, kDeadline_us));
  EXPECT_EQ(world.count(), 0u);
  world.Resume();
  EXPECT_EQ(Handled(), std::vector<int>());
}

TEST(WorldStop, BusyThreadsStandStillAndGoOn) {
  std::vector<std::unique_ptr<Busy>> all;
  for (int i = 0; i < 8; ++i) all.push_back(std::make_unique<Busy>());
  std::vector<StoppedThread> threads(32);
  for (int round = 0; round < 50; ++round) {
    uint64_t before[8], after[8];
    WorldStop world;
    const bool stopped = world.Stop(threads.data(), 32, kDeadline_us);
    for (int i = 0; i < 8; ++i) before[i] = all[static_cast<size_t>(i)]->count();
    for (int i = 0; i < 20; ++i) sched_yield();
    for (int i = 0; i < 8; ++i) after[i] = all[static_cast<size_t>(i)]->count();
    world.Resume();
    ASSERT_TRUE(stopped) << "round " << round << ": " << world.not_still() << " of " << world.count();
    ASSERT_EQ(world.count(), 8u);
    for (int i = 0; i < 8; ++i) ASSERT_EQ(before[i], after[i]);
    for (const auto& busy : all) {
      const StoppedThread* thread = Of(threads, world.count(), busy->tid());
      ASSERT_NE(thread, nullptr);
      ASSERT_TRUE(thread->stopped);
    }
  }
  for (const auto& busy : all) {
    const uint64_t seen = busy->count();
    WaitUntil([&] { return busy->count() > seen; });
  }
  EXPECT_EQ(Handled(), std::vector<int>());
}

// A thread whose registers hold values that are nowhere in its memory; some of them in vector registers.
struct Holder {
  static constexpr uint64_t kRbx = 0x1122334455667788, kR15 = 0x99aabbccddeeff01, kXmm = 0x0102030405060708;
  // Held as complements, so that the words themselves are in no memory.
  volatile uint64_t inverted[3] = {~kRbx, ~kR15, ~kXmm};
  std::atomic<uint32_t> tid{0};
  std::atomic<uint32_t> end{0};
  char* stack_top = nullptr;

  void Run() {
    char here;
    stack_top = &here;
    tid = Tid();
    asm volatile(
        "movq (%0), %%rbx\n notq %%rbx\n"
        "movq 8(%0), %%r15\n notq %%r15\n"
        "movq 16(%0), %%rax\n notq %%rax\n movq %%rax, %%xmm7\n xorl %%eax, %%eax\n"
        "1: pause\n cmpl $0, (%1)\n je 1b\n"
        :
        : "r"(inverted), "r"(&end)
        : "rax", "rbx", "r15", "xmm7", "memory");
  }
};

// Of another thread's stack, where AddressSanitizer has marked what lies between variables.
__attribute__((no_sanitize("address"))) bool Holds(uintptr_t begin, uintptr_t end, uint64_t word) {
  for (uintptr_t at = (begin + 7) & ~uintptr_t{7}; at + 8 <= end; at += 8) {
    if (*reinterpret_cast<volatile uint64_t*>(at) == word) return true;
  }
  return false;
}

void CheckRegisters(bool alternate) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer puts variables on stacks of its own";
#endif
  Holder holder;
  static char alternate_stack[64 << 10];
  std::thread thread([&] {
    stack_t stack{}, before{};  // sanitizers give each thread one
    stack.ss_sp = alternate_stack;
    stack.ss_size = sizeof alternate_stack;
    if (!alternate) stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, &before);
    holder.Run();
    sigaltstack(&before, nullptr);
  });
  WaitUntil([&] { return holder.tid != 0; });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // into the loop
  std::vector<StoppedThread> threads(8);
  WorldStop world;
  const bool stopped = world.Stop(threads.data(), 8, kDeadline_us);
  const StoppedThread* found = Of(threads, world.count(), holder.tid);
  bool holds[3] = {}, in_stack[3] = {};
  for (int i = 0; found != nullptr && i < 3; ++i) {
    const uint64_t word = ~holder.inverted[i];
    holds[i] = Holds(found->registers, found->registers_end, word);
    in_stack[i] = Holds(found->stack_pointer, reinterpret_cast<uintptr_t>(holder.stack_top), word);
  }
  world.Resume();
  holder.end = 1;
  thread.join();
  ASSERT_TRUE(stopped);
  ASSERT_NE(found, nullptr);
  for (const bool held : holds) EXPECT_TRUE(held);
  // By the contract with whoever scans: one range where there is no alternate stack.
  for (const bool held : in_stack) EXPECT_EQ(held, !alternate);
  const auto top = reinterpret_cast<uintptr_t>(holder.stack_top);
  EXPECT_LT(found->stack_pointer, top);
  EXPECT_GT(found->stack_pointer, top - (64 << 10));
}

TEST(WorldStop, RegistersAreOnTheInterruptedStack) { CheckRegisters(false); }
TEST(WorldStop, RegistersAreOnTheAlternateStack) { CheckRegisters(true); }

// What threads wait for: nothing of it comes, but by Wake().
struct Waiting {
  Waiting() {
    EXPECT_EQ(pipe(pipe_fds), 0);
    EXPECT_EQ(sem_init(&semaphore, 0, 0), 0);
  }
  ~Waiting() {
    for (const int fd : {pipe_fds[0], pipe_fds[1], epoll_fd}) close(fd);
  }
  void Wake() {
    EXPECT_EQ(write(pipe_fds[1], "x", 1), 1);
    EXPECT_EQ(sem_post(&semaphore), 0);
  }

  int pipe_fds[2], epoll_fd = epoll_create1(0);
  sem_t semaphore;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
};

constexpr int kSleep_ms = 400;

timespec Later() {
  timespec until{};
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += kSleep_ms * 1'000'000;
  until.tv_sec += until.tv_nsec / 1'000'000'000;
  until.tv_nsec %= 1'000'000'000;
  return until;
}

// A call that sleeps, and what it answers to a stop that signals everybody: -errno, or 0.
struct Sleeper {
  const char* name;
  long call;  // its number
  bool is_interrupted;
  std::function<long(Waiting&)> sleep;
};

long Answer(long result) { return result < 0 ? -errno : 0; }

const std::vector<Sleeper>& Sleepers() {
  static const std::vector<Sleeper> all = {
      {"poll", SYS_poll, true, [](Waiting&) { return Answer(poll(nullptr, 0, kSleep_ms)); }},
      {"epoll_wait", SYS_epoll_wait, true,
       [](Waiting& waiting) {
         epoll_event event;
         return Answer(epoll_wait(waiting.epoll_fd, &event, 1, kSleep_ms));
       }},
      {"nanosleep", SYS_clock_nanosleep, true,
       [](Waiting&) {
         const timespec time{0, kSleep_ms * 1'000'000};
         return Answer(nanosleep(&time, nullptr));
       }},
      {"sem_timedwait", SYS_futex, true,
       [](Waiting& waiting) {
         const timespec until = Later();
         const long answer = Answer(sem_timedwait(&waiting.semaphore, &until));
         return answer == -ETIMEDOUT ? 0 : answer;
       }},
      {"pthread_cond_timedwait", SYS_futex, false,  // libc hides it
       [](Waiting& waiting) {
         const timespec until = Later();
         pthread_mutex_lock(&waiting.mutex);
         int answer = 0;
         while (answer == 0) answer = pthread_cond_timedwait(&waiting.condition, &waiting.mutex, &until);
         pthread_mutex_unlock(&waiting.mutex);
         return answer == ETIMEDOUT ? 0L : -answer;
       }},
      {"read", SYS_read, false,
       [](Waiting& waiting) {
         char byte;
         return Answer(read(waiting.pipe_fds[0], &byte, 1));
       }},
      {"sem_wait", SYS_futex, false, [](Waiting& waiting) { return Answer(sem_wait(&waiting.semaphore)); }},
  };
  return all;
}

void StopSleepers(StopManner manner) {
  for (const Sleeper& sleeper : Sleepers()) {
    Waiting waiting;
    std::atomic<uint32_t> tid{0};
    std::atomic<long> answer{1};
    std::thread thread([&] {
      tid = Tid();
      answer = sleeper.sleep(waiting);
    });
    WaitUntil([&] { return tid != 0 && IsIn(tid, sleeper.call); });
    std::vector<StoppedThread> threads(16);
    WorldStop world;
    const bool stopped = world.Stop(threads.data(), 16, kDeadline_us, manner);
    const bool still = world.StillAsleep(threads.data());
    world.Resume();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    waiting.Wake();
    thread.join();
    EXPECT_TRUE(stopped) << sleeper.name;
    EXPECT_TRUE(still) << sleeper.name;
    const StoppedThread* found = Of(threads, world.count(), tid);
    ASSERT_NE(found, nullptr) << sleeper.name;
    EXPECT_NE(found->stack_pointer, 0u) << sleeper.name;
    const bool restarted = std::string(sleeper.name) == "sem_wait";
    EXPECT_EQ(found->stopped, manner == StopManner::kExact || restarted) << sleeper.name;
    EXPECT_EQ(found->asleep, !found->stopped) << sleeper.name;
    const bool interrupted = manner == StopManner::kExact && sleeper.is_interrupted;
    EXPECT_EQ(answer, interrupted ? -EINTR : 0) << sleeper.name;
  }
}

TEST(WorldStop, ExactlyStoppedSleepersAreInterruptedAsDocumented) { StopSleepers(StopManner::kExact); }
TEST(WorldStop, ConsiderateStopsInterruptNobody) { StopSleepers(StopManner::kConsiderate); }

TEST(WorldStop, SleepersThatWakeAreNoticed) {
  Waiting waiting;
  std::atomic<uint32_t> tid{0};
  std::thread thread([&] {
    tid = Tid();
    char byte;
    for (int i = 0; i < 2; ++i) EXPECT_EQ(read(waiting.pipe_fds[0], &byte, 1), 1);
  });
  WaitUntil([&] { return tid != 0 && IsIn(tid, SYS_read); });
  std::vector<StoppedThread> threads(16);
  WorldStop world;
  const bool stopped = world.Stop(threads.data(), 16, kDeadline_us, StopManner::kConsiderate);
  const bool before = world.StillAsleep(threads.data());
  EXPECT_EQ(write(waiting.pipe_fds[1], "x", 1), 1);
  bool after = true;
  for (int i = 0; i < 10000 && after; ++i) {
    sched_yield();
    after = world.StillAsleep(threads.data());
  }
  world.Resume();
  EXPECT_EQ(write(waiting.pipe_fds[1], "x", 1), 1);
  thread.join();
  EXPECT_TRUE(stopped);
  EXPECT_TRUE(before);
  EXPECT_FALSE(after);
}

// Blocks all signals and waits; then lets them come.
TEST(WorldStop, ThreadsThatBlockSignalsAreListedAndLive) {
  Waiting waiting;
  std::atomic<uint32_t> tid{0};
  std::thread thread([&] {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    tid = Tid();
    char byte;
    EXPECT_EQ(read(waiting.pipe_fds[0], &byte, 1), 1);
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
  });
  WaitUntil([&] { return tid != 0 && IsIn(tid, SYS_read); });
  std::vector<StoppedThread> threads(16);
  WorldStop world;
  const bool stopped = world.Stop(threads.data(), 16, kDeadline_us);
  world.Resume();
  waiting.Wake();
  thread.join();
  EXPECT_TRUE(stopped);
  const StoppedThread* found = Of(threads, world.count(), tid);
  ASSERT_NE(found, nullptr);
  EXPECT_FALSE(found->stopped);
  EXPECT_TRUE(found->asleep);
  EXPECT_NE(found->stack_pointer, 0u);
  EXPECT_EQ(Handled(), std::vector<int>());
}

// A thread that waits for its vfork child takes the signal only after that has ended: long after the stop.
TEST(WorldStop, ASignalThatIsNotTakenIsForgotten) {
  static int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  std::atomic<uint32_t> tid{0};
  std::atomic<bool> alive{false};
  std::thread thread([&] {
    tid = Tid();
    const pid_t child = vfork();
    if (child == 0) {
      char byte;
      (void)!read(fds[0], &byte, 1);
      _exit(0);
    }
    EXPECT_EQ(waitpid(child, nullptr, 0), child);
    alive = true;
  });
  WaitUntil([&] { return tid != 0 && (IsIn(tid, SYS_vfork) || IsIn(tid, SYS_clone)); });
  std::vector<StoppedThread> threads(16);
  WorldStop world;
  const bool stopped = world.Stop(threads.data(), 16, 30'000);
  world.Resume();
  EXPECT_EQ(Handled(), std::vector<int>());
  EXPECT_EQ(write(fds[1], "x", 1), 1);
  thread.join();
  for (const int fd : fds) close(fd);
  EXPECT_TRUE(stopped);
  const StoppedThread* found = Of(threads, world.count(), tid);
  ASSERT_NE(found, nullptr);
  EXPECT_FALSE(found->stopped);
  EXPECT_TRUE(found->asleep);
  EXPECT_TRUE(alive);
}

TEST(WorldStop, ThreadsThatAreBeingMadeAreStoppedToo) {
  std::atomic<bool> end{false};
  std::atomic<uint64_t> made{0};
  std::vector<std::thread> makers;
  for (int i = 0; i < 3; ++i) {
    makers.emplace_back([&] {
      while (!end) {
        std::thread([&] { ++made; }).join();
      }
    });
  }
  std::vector<StoppedThread> threads(64);
  uint32_t moved = 0, failed = 0;
  for (int round = 0; round < 200; ++round) {
    WorldStop world;
    failed += !world.Stop(threads.data(), 64, kDeadline_us);
    const uint64_t before = made.load();
    for (int i = 0; i < 10; ++i) sched_yield();
    moved += made.load() != before;
    world.Resume();
    const uint64_t seen = made.load();
    WaitUntil([&] { return made.load() > seen; });
  }
  end = true;
  for (std::thread& maker : makers) maker.join();
  EXPECT_EQ(failed, 0u);
  EXPECT_EQ(moved, 0u);
}

TEST(WorldStop, AThousandThreads) {
  constexpr uint32_t kThreads = 1000;
  pthread_barrier_t ready;
  ASSERT_EQ(pthread_barrier_init(&ready, nullptr, kThreads + 1), 0);
  std::vector<pthread_t> all(kThreads);
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  static pthread_barrier_t* barrier = &ready;
  for (pthread_t& thread : all) {
    const auto run = [](void*) -> void* {
      pthread_barrier_wait(barrier);
      pthread_barrier_wait(barrier);
      return nullptr;
    };
    ASSERT_EQ(pthread_create(&thread, &small, run, nullptr), 0);
  }
  pthread_barrier_wait(&ready);
  std::vector<StoppedThread> threads(2 * kThreads);
  WorldStop few;
  const bool enough_room = few.Stop(threads.data(), 10, kDeadline_us);
  const uint32_t listed = few.count(), not_listed = few.not_still();
  few.Resume();
  WorldStop world;
  const bool stopped = world.Stop(threads.data(), 2 * kThreads, kDeadline_us);
  world.Resume();
  pthread_barrier_wait(&ready);
  for (const pthread_t thread : all) pthread_join(thread, nullptr);
  EXPECT_FALSE(enough_room);
  EXPECT_EQ(listed, 10u);
  EXPECT_EQ(not_listed, kThreads - 10);
  EXPECT_TRUE(stopped);
  EXPECT_EQ(world.count(), kThreads);
  uint32_t in_handler = 0;
  for (uint32_t i = 0; i < world.count(); ++i) in_handler += threads[i].stopped;
  EXPECT_EQ(in_handler, kThreads);
}

TEST(WorldStop, OneAtATime) {
  WorldStop first, second;
  std::vector<StoppedThread> threads(8);
  const bool one = first.Stop(threads.data(), 8, kDeadline_us), two = second.Stop(threads.data(), 8, kDeadline_us);
  second.Resume();
  first.Resume();
  const bool three = second.Stop(threads.data(), 8, kDeadline_us);
  second.Resume();
  EXPECT_TRUE(one);
  EXPECT_FALSE(two);
  EXPECT_TRUE(three);
}

// A program that uses the highest signals keeps them, whatever it does with them.
TEST(WorldStop, SignalsInUseAreNotTaken) {
  static std::atomic<int> taken{0};
  struct sigaction ours {
  }, old{};
  ours.sa_handler = [](int) { ++taken; };
  ASSERT_EQ(sigaction(64, &ours, &old), 0);
  sigset_t awaited;
  sigemptyset(&awaited);
  sigaddset(&awaited, 63);
  pthread_sigmask(SIG_BLOCK, &awaited, nullptr);  // and the next thread inherits it
  {
    Busy busy;
    ASSERT_EQ(pthread_kill(pthread_self(), 63), 0);  // pending
    std::vector<StoppedThread> threads(8);
    WorldStop world;
    const bool stopped = world.Stop(threads.data(), 8, kDeadline_us);
    const bool in_handler = threads[0].stopped;
    world.Resume();
    EXPECT_TRUE(stopped);
    EXPECT_TRUE(in_handler);
  }
  EXPECT_EQ(taken, 0);
  EXPECT_EQ(Handled(), std::vector<int>({64}));
  const timespec at_once{0, 0};
  EXPECT_EQ(sigtimedwait(&awaited, nullptr, &at_once), 63);
  sigaction(64, &old, nullptr);
  pthread_sigmask(SIG_UNBLOCK, &awaited, nullptr);
}

// Runs `body` in a child; its wait status.
int InChild(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

TEST(WorldStop, SignalsOfOthersStillEndTheProcess) {
  const int status = InChild([] {
    std::vector<StoppedThread> threads(8);
    WorldStop world;
    std::thread([] { pause(); }).detach();
    world.Stop(threads.data(), 8, kDeadline_us);
    kill(getpid(), 64);  // of the kind that everybody may send
    sched_yield();
    world.Resume();
    pause();
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), 64);
}

TEST(WorldStop, ASandboxThatForbidsTheSignalIsSaid) {
  const int status = InChild([] {
    Busy busy;
    sock_filter filter[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},  // seccomp_data.nr
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_tgkill},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    const sock_fprog program{4, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      _exit(77);
    std::vector<StoppedThread> threads(8);
    WorldStop world;
    const bool stopped = world.Stop(threads.data(), 8, 50'000);
    const uint64_t before = busy.count();
    world.Resume();
    WaitUntil([&] { return busy.count() > before; });
    _exit(!stopped && world.count() == 1 && world.not_still() == 1 && !threads[0].stopped ? 0 : 1);
  });
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A child that was forked while its parent's threads stood still can stop its own.
TEST(WorldStop, ForkedWhileStopped) {
  Busy busy;
  std::vector<StoppedThread> threads(8);
  WorldStop world;
  const bool stopped = world.Stop(threads.data(), 8, kDeadline_us);
  const auto child = static_cast<pid_t>(syscall(SYS_fork));
  if (child == 0) {
    WorldStop again;
    const bool alone = again.Stop(threads.data(), 8, kDeadline_us) && again.count() == 0;
    again.Resume();
    _exit(alone ? 0 : 1);
  }
  world.Resume();
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(stopped);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace tidemark
