// The collector as a process: attaching, ends of every kind, names, and hosts that misbehave. Profiled processes are
// forked fakes (fake_producer.h), so that nothing here depends on the library.
#include "profiler/collector.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "tests/unit/fake_producer.h"
#include "tools/trace_reader.h"

namespace tidemark {
namespace {

namespace fs = std::filesystem;

class CollectorTest : public testing::Test {
 protected:
  CollectorTest() {
    char name[] = "/tmp/tidemark-collector-test-XXXXXX";
    directory_ = mkdtemp(name);
    options_.session_name = NewSessionName();
    options_.output = directory_ + "/trace.tmk";
    options_.tool_version = "test";
  }
  ~CollectorTest() override {
    control_ = OwnedFd();
    if (collector_ > 0) {
      kill(collector_, SIGKILL);
      waitpid(collector_, nullptr, 0);
    }
    fs::remove_all(directory_);
  }

  // Forks a process that waits until the collector knows its pid, then runs `body`; it exits with what that returns.
  template <typename Body>
  pid_t Fork(Body body) {
    int gate[2];
    EXPECT_EQ(pipe(gate), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      close(gate[1]);
      char byte;
      (void)!read(gate[0], &byte, 1);
      _exit(body());
    }
    close(gate[0]);
    gates_.push_back(gate[1]);
    return pid;
  }
  void Go() {
    for (int gate : gates_) close(gate);
    gates_.clear();
  }

  // Starts the collector for the process `launched`; `limit`: bytes that it may write into one file.
  void Start(pid_t launched, rlim_t limit = RLIM_INFINITY) {
    options_.launched_pid = launched;
    std::string error;
    OwnedFd listener = SessionServer::Listen(options_.session_name, &error);
    ASSERT_TRUE(listener.valid()) << error;
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    collector_ = fork();
    if (collector_ == 0) {
      for (int gate : gates_) close(gate);
      DetachForCollecting({listener.get(), pair[1]});
      const rlimit file_limit{limit, limit};
      setrlimit(RLIMIT_FSIZE, &file_limit);
      {
        Collector collector(options_, std::move(listener), OwnedFd(pair[1]));
        collector.Run(OwnedFd());
      }
      _exit(0);
    }
    close(pair[1]);
    control_ = OwnedFd(pair[0]);
  }

  // As record does at the end of CMD.
  CollectorReport Report(int wait_status) {
    ControlMessage message;
    message.kind = ControlMessage::kEnded;
    message.wait_status = wait_status;
    EXPECT_EQ(send(control_.get(), &message, sizeof message, MSG_NOSIGNAL), ssize_t(sizeof message));
    std::string packet(1 << 20, '\0');
    const ssize_t n = recv(control_.get(), packet.data(), packet.size(), 0);
    packet.resize(n > 0 ? size_t(n) : 0);
    CollectorReport report;
    EXPECT_TRUE(FromPacket(packet, &report));
    return report;
  }
  CollectorReport WaitAndReport(pid_t pid) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return Report(status);
  }
  // True when the collector ends by itself within ten seconds.
  bool CollectorEnds() {
    for (int i = 0; i < 1000; ++i) {
      int status = 0;
      if (waitpid(collector_, &status, WNOHANG) == collector_) {
        collector_ = 0;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
      }
      usleep(10'000);
    }
    return false;
  }

  static std::unique_ptr<TraceReader> Open(const std::string& path) {
    Result<std::unique_ptr<TraceReader>> reader = TraceReader::Open(path);
    EXPECT_TRUE(reader.ok()) << (reader.ok() ? "" : reader.error().message);
    return reader.ok() ? std::move(*reader) : nullptr;
  }
  static std::vector<TraceEvent> Events(TraceReader& trace) {
    std::vector<TraceEvent> events;
    trace.ForEachEvent([&](uint32_t, const TraceEvent& event) { events.push_back(event); });
    return events;
  }

  std::string directory_;
  CollectorOptions options_;
  OwnedFd control_;
  pid_t collector_ = 0;
  std::vector<int> gates_;
};

TEST_F(CollectorTest, WritesEveryEventAndTheExitStatus) {
  constexpr uint64_t kPairs = 30'000;  // several times the ring: chunks must come back
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    auto thread = producer.MainThread();
    for (uint64_t i = 1; i <= kPairs; ++i) {
      if (!thread.Alloc(i * 16, i) || !thread.Free(i * 16)) return 2;
    }
    return 7;
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  ASSERT_EQ(report.traces.size(), 1u);
  EXPECT_TRUE(report.launched_attached);
  EXPECT_EQ(report.traces[0].path, options_.output);
  EXPECT_EQ(report.events, 2 * kPairs);
  EXPECT_EQ(report.missing, 0u);
  EXPECT_EQ(report.error, "");
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  EXPECT_TRUE(trace->problems().empty());
  EXPECT_EQ(trace->end()["exit"]["kind"], "exited");
  EXPECT_EQ(trace->end()["exit"]["status"], 7);
  EXPECT_EQ(trace->end()["recorded"]["alloc"], kPairs);
  EXPECT_EQ(trace->end()["received"]["free"], kPairs);
  EXPECT_EQ(trace->info()["pid"], pid);
  EXPECT_EQ(trace->info()["mode"], "sampled");
  const std::vector<TraceEvent> events = Events(*trace);
  ASSERT_EQ(events.size(), 2 * kPairs);
  for (uint64_t i = 1; i <= kPairs; ++i) {
    ASSERT_EQ(events[2 * i - 2].size, i);
    ASSERT_EQ(events[2 * i - 1].address, i * 16);
  }
  struct stat s {};
  ASSERT_EQ(stat(options_.output.c_str(), &s), 0);
  EXPECT_EQ(s.st_mode & 0777, 0600u);
  EXPECT_TRUE(CollectorEnds());
}

TEST_F(CollectorTest, SigkillLosesNothingThatWasCommitted) {
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    auto thread = producer.MainThread();
    for (uint64_t i = 1; i <= 100; ++i) thread.Alloc(i * 16, i);
    return kill(getpid(), SIGKILL);
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  EXPECT_EQ(report.events, 100u);
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->end()["exit"]["kind"], "signaled");
  EXPECT_EQ(trace->end()["exit"]["signal"], SIGKILL);
  EXPECT_EQ(Events(*trace).size(), 100u);
}

// Numbers are the collector's; rows of nothing that is under way are nobody's; what was cut off is said to be.
TEST_F(CollectorTest, LeakChecksAreWrittenAndUnfinishedOnesTold) {
  constexpr uint64_t kCheck = static_cast<uint64_t>(RecordKind::kLeakCheck);
  constexpr uint64_t kRow = static_cast<uint64_t>(RecordKind::kLeakRow);
  constexpr uint64_t kEnded = 1 << 4, kExitAfter = uint64_t{2} << 32, kInPlace = uint64_t{1} << 40;
  const auto number = [](uint64_t n, unsigned shift) { return n << shift; };
  const auto row = [&](uint64_t check, uint64_t leak_class, uint64_t node) {
    return kRow | leak_class << 4 | number(node, 20) | number(check, 48);
  };
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    auto thread = producer.MainThread();
    for (uint64_t node : {5, 6}) thread.Put({4 | node << 4, 0x401000 + node});
    thread.Put({row(7, 3, 1), 0x1000, 1, 0x1000});
    thread.Put({kCheck | number(7, 16) | kExitAfter | kInPlace, 5000});
    for (uint64_t i = 1; i <= 70'000; ++i) thread.Put({row(7, 3, 5), i * 16, i, i * 16});
    thread.Put({row(8, 3, 1), 0x1000, 1, 0x1000});
    thread.Put({kCheck | number(9, 16), 6000});  // of a copy, while the other goes on
    thread.Put({row(9, 2, 5), 0x20, 3, 0x10});
    thread.Put({row(7, 0, 6), 0, 640, 10});
    thread.Put({kCheck | kEnded | number(7, 16) | kExitAfter | kInPlace | uint64_t{1} << 56, 5001, 11, 12,
                3 | uint64_t{2} << 32, 4096, 70'010, 99});
    thread.Put({row(9, 2, 5), 0x40, 3, 0x10});
    return kill(getpid(), SIGKILL);
  });
  Start(pid);
  Go();
  WaitAndReport(pid);
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->end()["leak_checks"], nlohmann::json({{"begun", 2}, {"finished", 1}}));
  ASSERT_EQ(trace->leak_checks().size(), 2u);
  const TraceLeaks& first = trace->leak_checks()[0];
  EXPECT_TRUE(first.whole);
  EXPECT_EQ(first.check.number, 1u);
  EXPECT_EQ(first.check.trigger, LeakTrigger::kExitAfter);
  EXPECT_EQ(first.check.outcome, LeakOutcome::kDone);
  EXPECT_EQ(first.check.flags, uint32_t{kLeaksThreadsRan});
  EXPECT_EQ(std::tuple(first.check.pause_us, first.check.scan_us, first.check.threads, first.check.threads_not_stopped),
            std::tuple(11u, 12u, 3u, 2u));
  ASSERT_EQ(first.rows.size(), 70'001u);
  EXPECT_EQ(first.rows[69'999].address, 70'000u * 16);
  EXPECT_EQ(first.rows[69'999].node, 5u);
  EXPECT_EQ(first.rows[70'000].blocks, 10u);
  const TraceLeaks& second = trace->leak_checks()[1];
  EXPECT_EQ(second.check.outcome, LeakOutcome::kUnfinished);
  ASSERT_EQ(second.rows.size(), 2u);
  EXPECT_EQ(second.rows[0].leader, 0x10u);
}

TEST_F(CollectorTest, AnExecEndsOneTraceAndStartsTheNext) {
  const pid_t pid = Fork([&] {
    FakeProducer before, after, last;
    if (!before.Attach(options_.session_name)) return 1;
    before.MainThread().Alloc(16, 1);
    if (!after.Attach(options_.session_name)) return 2;
    after.MainThread().Alloc(32, 2);
    return last.Attach(options_.session_name) ? 0 : 3;
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  EXPECT_EQ(report.trace_count, 3u);
  // FILE is what the launched process became in the end.
  auto first = Open(options_.output + "." + std::to_string(pid));
  auto second = Open(options_.output + "." + std::to_string(pid) + ".2");
  auto third = Open(options_.output);
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(first->end()["exit"]["kind"], "exec");
  EXPECT_EQ(first->info()["image"], 0);
  EXPECT_EQ(second->end()["exit"]["kind"], "exec");
  EXPECT_EQ(second->info()["image"], 1);
  EXPECT_EQ(third->end()["exit"]["kind"], "exited");
  EXPECT_EQ(report.traces[0].path, options_.output);
}

TEST_F(CollectorTest, ForkChildrenGetTheirOwnTraceAndParent) {
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    const pid_t child = fork();
    if (child == 0) {
      FakeProducer own;
      if (!own.Attach(options_.session_name, true)) _exit(1);
      own.MainThread().Alloc(16, 5);
      _exit(9);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status) == 9 ? 0 : 2;
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  ASSERT_EQ(report.trace_count, 2u);
  ASSERT_EQ(report.traces.size(), 2u);
  EXPECT_EQ(report.traces[0].pid, pid);
  auto child = Open(options_.output + "." + std::to_string(report.traces[1].pid));
  ASSERT_NE(child, nullptr);
  ASSERT_TRUE(child->info()["parent"].is_object());
  EXPECT_EQ(child->info()["parent"]["pid"], pid);
  EXPECT_EQ(Events(*child).size(), 1u);
}

TEST_F(CollectorTest, RefusesChildrenThatAreNotToBeFollowed) {
  options_.follow_children = false;
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    const pid_t child = fork();
    if (child == 0) _exit(FakeProducer().Attach(options_.session_name, true) ? 1 : 0);
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  EXPECT_EQ(report.trace_count, 1u);
  EXPECT_EQ(report.refused, 1u);
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->end()["exit"]["status"], 0);
}

TEST_F(CollectorTest, FreesWhatADeadThreadHeldWhileItsProcessLives) {
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    producer.MainThread();
    std::thread([&] {
      auto thread = producer.NewThread(1, static_cast<uint32_t>(syscall(SYS_gettid)));
      thread.Alloc(16, 1);  // leaves its chunk open
    }).join();
    for (int i = 0; i < 300 && producer.slot(1).owner.load() != kSlotDead; ++i) usleep(10'000);
    if (producer.slot(1).owner.load() != kSlotDead) return 2;
    return producer.slot(0).owner.load() == static_cast<uint32_t>(getpid()) ? 0 : 3;
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  EXPECT_EQ(report.events, 1u);
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->end()["exit"]["status"], 0);
}

TEST_F(CollectorTest, ReportsAtTheEndOfTheCommandAndGoesOnForDaemons) {
  int hold[2];
  ASSERT_EQ(pipe(hold), 0);
  const pid_t pid = Fork([&] {
    close(hold[1]);
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    int ready[2];
    if (pipe(ready) != 0) return 2;
    if (fork() == 0) {
      setsid();
      FakeProducer own;
      const bool attached = own.Attach(options_.session_name, true);
      (void)!write(ready[1], "x", 1);
      char byte;
      (void)!read(hold[0], &byte, 1);  // until the test lets it
      if (attached) own.MainThread().Alloc(16, 1);
      _exit(0);
    }
    char byte;
    return read(ready[0], &byte, 1) == 1 ? 0 : 3;
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  EXPECT_EQ(report.trace_count, 1u);
  EXPECT_EQ(report.still_running, 1u);
  close(hold[0]);
  close(hold[1]);
  ASSERT_TRUE(CollectorEnds());
  size_t traces = 0;
  for (const auto& entry : fs::directory_iterator(directory_)) {
    auto trace = Open(entry.path());
    ASSERT_NE(trace, nullptr);
    EXPECT_FALSE(trace->end().is_null());
    EXPECT_EQ(Events(*trace).size(), entry.path() == options_.output ? 0u : 1u);
    ++traces;
  }
  EXPECT_EQ(traces, 2u);
}

TEST_F(CollectorTest, OutlivesRecordAndSigtermLeavesWholeTraces) {
  int hold[2];
  ASSERT_EQ(pipe(hold), 0);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t pid = Fork([&] {
    close(hold[1]);
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    auto thread = producer.MainThread();
    thread.Alloc(16, 1);
    (void)!write(ready[1], "x", 1);
    char byte;
    (void)!read(hold[0], &byte, 1);
    return producer.header().collector_alive.load() == 0 ? 0 : 2;
  });
  Start(pid);
  Go();
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  control_ = OwnedFd();  // record is killed
  usleep(100'000);
  ASSERT_EQ(waitpid(collector_, nullptr, WNOHANG), 0);
  kill(collector_, SIGTERM);
  EXPECT_TRUE(CollectorEnds());
  close(hold[1]);
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);  // was told that nobody drains the ring any more
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->end()["exit"]["kind"], "running");
  EXPECT_EQ(Events(*trace).size(), 1u);
}

TEST_F(CollectorTest, NeverOverwritesUnlessTold) {
  std::ofstream(options_.output) << "precious";
  const pid_t pid = Fork([&] { return FakeProducer().Attach(options_.session_name) ? 0 : 1; });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  ASSERT_EQ(report.traces.size(), 1u);
  EXPECT_EQ(report.traces[0].path, directory_ + "/trace-2.tmk");
  std::string content;
  std::ifstream(options_.output) >> content;
  EXPECT_EQ(content, "precious");
}

TEST_F(CollectorTest, AFullDiskIsReportedAndLeavesAReadablePrefix) {
  constexpr uint64_t kEvents = 250'000;  // of more than 10 bytes, in sections of 45,000
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    auto thread = producer.MainThread();
    std::mt19937_64 random(1);
    for (uint64_t i = 1; i <= kEvents; ++i) {
      if (!thread.Alloc((random() >> 20) << 4, random() % 100'000'000)) return 2;  // does not compress
    }
    return 0;
  });
  Start(pid, 1'500'000);  // more than a segment takes
  Go();
  const CollectorReport report = WaitAndReport(pid);
  EXPECT_EQ(report.events, kEvents);
  EXPECT_NE(report.error, "");
  EXPECT_GT(report.unwritten, 0u);
  EXPECT_LT(report.unwritten, kEvents);
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  const size_t readable = Events(*trace).size();
  EXPECT_GT(readable, 0u);
  EXPECT_EQ(readable + report.unwritten, kEvents);
  if (!trace->end().is_null()) {
    EXPECT_EQ(trace->end()["received"]["alloc"], readable);
  }
}

TEST_F(CollectorTest, SurvivesAHostileProcess) {
  const pid_t pid = Fork([&] {
    FakeProducer producer;
    if (!producer.Attach(options_.session_name)) return 1;
    std::mt19937_64 random(7);
    auto* words = static_cast<uint64_t*>(producer.base());
    const uint64_t end_ms = 500;
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(end_ms)) {
      for (int i = 0; i < 10'000; ++i)
        words[random() % (producer.bytes() / 8)] = random() % 3 ? random() % 16 : random();
    }
    return 0;
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  ASSERT_EQ(report.trace_count, 1u);
  auto trace = Open(options_.output);
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->end()["exit"]["status"], 0);
  EXPECT_TRUE(CollectorEnds());
}

TEST_F(CollectorTest, IgnoresConnectionsThatMakeNoSense) {
  const pid_t pid = Fork([&] {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "tidemark-" + options_.session_name;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    for (int i = 0; i < 600; ++i) {  // more than are kept; some stay silent, some talk nonsense
      const int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
      if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) return 1;
      if (i % 2 == 0 && send(fd, "nonsense", 8, MSG_NOSIGNAL) < 0) return 2;
      if (i % 3 == 0) close(fd);
    }
    for (int fd = 3; fd < 1000; ++fd) close(fd);
    return FakeProducer().Attach(options_.session_name) ? 0 : 3;
  });
  Start(pid);
  Go();
  const CollectorReport report = WaitAndReport(pid);
  EXPECT_EQ(report.trace_count, 1u);
}

TEST_F(CollectorTest, AttachIsQuickForManyShortProcesses) {
  constexpr int kProcesses = 200;
  const pid_t pid = Fork([&] {
    for (int i = 0; i < kProcesses; ++i) {
      const pid_t child = fork();
      if (child == 0) _exit(FakeProducer().Attach(options_.session_name, true) ? 0 : 1);
      int status = 0;
      waitpid(child, &status, 0);
      if (status != 0) return 1;
    }
    return 0;
  });
  Start(pid);
  const auto start = std::chrono::steady_clock::now();
  Go();
  const CollectorReport report = WaitAndReport(pid);
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  RecordProperty("us_per_process", static_cast<int>(1000 * ms / kProcesses));
  std::printf("%.0f us per process\n", 1000 * ms / kProcesses);
  EXPECT_EQ(report.trace_count, uint64_t{kProcesses});
  EXPECT_LT(ms, kProcesses * 50.0);  // it must not wait for the collector's idle sleep
  EXPECT_EQ(report.traces.size(), CollectorReport::kMaxTraces);
}

}  // namespace
}  // namespace tidemark
