// Asking for a leak check in vain: each reason is told, with what to do. (Verdicts: tests/preload/leak_demand_test.py.)
#include "tools/leak_request.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "profiler/session.h"
#include "profiler/session_server.h"

namespace tidemark {
namespace {

constexpr char kLine[] = "7f0000000000-7f0000100000 rw-s 00000000 00:01 17      /memfd:tidemark-";
constexpr char kName[] = "0123456789abcdef0123456789abcdef";

TEST(LeakRequest, SessionOfASegment) {
  const std::string line = kLine;
  EXPECT_EQ(SessionInMaps(line + kName + " (deleted)\n"), kName);
  EXPECT_EQ(SessionInMaps("00400000-00401000 r-xp 0 0 0 /bin/true\n" + line + kName + "\n"), kName);
  EXPECT_EQ(SessionInMaps(""), "");
  EXPECT_EQ(SessionInMaps(line), "");
  EXPECT_EQ(SessionInMaps(line + "0123456789abcdef0123456789abcde"), "");
  EXPECT_EQ(SessionInMaps(line + "0123456789abcdef0123456789abcdeX (deleted)"), "");
}

TEST(LeakRequest, NoProcess) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  for (const pid_t pid : {child, 0, -1}) {
    const Result<RequestedCheck> check = RequestLeakCheck(pid, {});
    ASSERT_FALSE(check.ok());
    EXPECT_EQ(check.error().status, ExitStatus::kCouldNotCheck);
    EXPECT_NE(check.error().message.find("there is no process"), std::string::npos);
  }
}

TEST(LeakRequest, NotRecorded) {
  const Result<RequestedCheck> check = RequestLeakCheck(getpid(), {});
  ASSERT_FALSE(check.ok());
  EXPECT_NE(check.error().message.find("is not recorded: start it with"), std::string::npos) << check.error().message;
}

// This process, as one that maps a segment, with a collector that does what a test says.
class FakeCollector {
 public:
  explicit FakeCollector(std::function<void(int fd)> serve) : name_(NewSessionName()) {
    fd_ = memfd_create(("tidemark-" + name_).c_str(), MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(fd_, 4096), 0);
    segment_ = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd_, 0);
    if (serve == nullptr) return;
    std::string error;
    listener_ = SessionServer::Listen(name_, &error);
    thread_ = std::thread([this, serve] {
      int fd = -1;
      while (fd < 0) fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      serve(fd);
      close(fd);
    });
  }
  ~FakeCollector() {
    if (thread_.joinable()) thread_.join();
    munmap(segment_, 4096);
    close(fd_);
  }

 private:
  const std::string name_;
  OwnedFd listener_;
  int fd_;
  void* segment_;
  std::thread thread_;
};

std::string MessageOf(std::function<void(int fd)> serve) {
  const FakeCollector collector(std::move(serve));
  const Result<RequestedCheck> check = RequestLeakCheck(getpid(), {});
  return check.ok() ? "fine" : check.error().message;
}

void Reply(int fd, LeakAnswer answer) {
  LeakQuestion question{};
  EXPECT_EQ(recv(fd, &question, sizeof question, 0), static_cast<ssize_t>(sizeof question));
  EXPECT_EQ(question.pid, static_cast<uint32_t>(getpid()));
  LeakReply reply{};
  reply.magic = kLeakQuestionMagic;
  reply.version = kSessionVersion;
  reply.answer = answer;
  reply.check = 3;
  std::string("/tmp/a trace.tmk").copy(reply.path, sizeof reply.path);
  EXPECT_EQ(send(fd, &reply, sizeof reply, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof reply));
}

TEST(LeakRequest, TheCollectorIsGone) {
  EXPECT_NE(MessageOf(nullptr).find("does not answer"), std::string::npos);
  EXPECT_NE(MessageOf([](int) {}).find("has not answered"), std::string::npos);
}

TEST(LeakRequest, EachAnswerHasItsWords) {
  const std::pair<LeakAnswer, const char*> answers[] = {
      {LeakAnswer::kNotRecorded, "not recorded by this collector"},
      {LeakAnswer::kNotPrepared, "record --leak-check"},
      {LeakAnswer::kNoHandler, "handles SIGURG itself"},
      {LeakAnswer::kEnded, "has ended"},
      {LeakAnswer::kNotTaken, "no thread"},
      {LeakAnswer::kNoVerdict, "verdict did not come"},
      {LeakAnswer::kNotWritten, "cannot be written"},
      {static_cast<LeakAnswer>(99), "does not know"},
  };
  for (const auto& [answer, words] : answers) {
    const std::string message = MessageOf([answer = answer](int fd) { Reply(fd, answer); });
    EXPECT_NE(message.find(words), std::string::npos) << message;
  }
}

TEST(LeakRequest, Answered) {
  const FakeCollector collector([](int fd) { Reply(fd, LeakAnswer::kDone); });
  const Result<RequestedCheck> check = RequestLeakCheck(getpid(), {});
  ASSERT_TRUE(check.ok()) << check.error().message;
  EXPECT_EQ(check->trace, "/tmp/a trace.tmk");
  EXPECT_EQ(check->number, 3u);
}

}  // namespace
}  // namespace tidemark
