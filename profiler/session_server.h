// Creates session segments and hands them to processes that ask: an abstract Unix SOCK_SEQPACKET listener.
//
// The socket's name holds 128 random bits, but /proc/net/unix shows it to everybody: who may attach is decided by the
// kernel's word (SO_PEERCRED), not by knowing the name. A segment is a memfd of its own per process image, sealed
// against resizing and fully allocated before it is handed over, so that neither side can ever get SIGBUS from it.
//
// Context: collector process, one thread, nothing blocks. Must not: look into a segment (ring_reader.h does).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "profiler/process_probe.h"
#include "profiler/ring_reader.h"
#include "profiler/session.h"

namespace tidemark {

struct SessionOptions {
  Mode mode = Mode::kSampled;
  uint64_t sample_bytes = 512 << 10;
  uint32_t guard_every = 0;
  bool leak_check = false;  // the process does it; here it is known for the trace
  uint64_t seed = 0;
  uint64_t ring_bytes = 0;  // 0: by mode
  // Full mode waits this long for the collector before it drops an event.
  uint64_t full_wait_us = 10'000'000;
};

// A descriptor that is closed when it goes.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.Release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  ~OwnedFd();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release();

 private:
  int fd_ = -1;
};

// One segment, mapped here; unmapped when it goes. The descriptor is only needed until the process has it.
class Segment {
 public:
  // `name` shows in /proc/PID/maps of the process. nullptr and *error: one sentence.
  static std::unique_ptr<Segment> Create(const SessionOptions& options, uint64_t ring_bytes, const std::string& name,
                                         std::string* error);
  ~Segment();
  Segment(const Segment&) = delete;

  const SegmentLayout& layout() const { return layout_; }
  void* base() const { return base_; }
  SessionHeader& header() const { return *static_cast<SessionHeader*>(base_); }
  int fd() const { return fd_.get(); }
  void CloseFd() { fd_ = OwnedFd(); }

 private:
  Segment() = default;
  SegmentLayout layout_;
  OwnedFd fd_;
  void* base_ = nullptr;
};

// 32 hex digits of randomness.
std::string NewSessionName();

// A process that was given a segment.
struct Attached {
  pid_t pid = 0;      // in our pid namespace
  pid_t own_pid = 0;  // as it sees itself
  OwnedFd pidfd;      // may be invalid: an old kernel, or it is gone already
  bool fork_child = false;
  bool bypassed = false;
  ProcessIdentity identity;
  std::unique_ptr<Segment> segment;
};

// Somebody wants to know whether a process leaks; `fd` is for the answer.
struct AskedForLeaks {
  OwnedFd fd;
  uint32_t pid = 0;
  uint32_t bits = 0;  // LeakRequestBits
};

class SessionServer {
 public:
  // Says who may attach: pid and uid by the kernel's word.
  using Admit = std::function<bool(pid_t pid, uid_t uid)>;

  // Descriptor of a listener on the abstract name "tidemark-NAME", or an invalid one and *error.
  static OwnedFd Listen(const std::string& session_name, std::string* error);

  // `listener` may be invalid: then only Adopt()ed connections are served. `epoll_fd` watches our descriptors for
  // input with data.fd = the descriptor; such an event calls for ServePending.
  SessionServer(OwnedFd listener, std::string session_name, SessionOptions options, int epoll_fd, Admit admit);
  ~SessionServer();

  // Takes over a connection that exists already (bare preload: the socketpair's end).
  void Adopt(OwnedFd connection);
  bool Owns(int fd) const;
  // Accepts and answers everything that is pending, without waiting.
  std::vector<Attached> ServePending(size_t live_sessions);
  // What was asked since the last call, by root or our own user.
  std::vector<AskedForLeaks> TakeLeakQuestions() { return std::exchange(leak_questions_, {}); }
  // Closes connections whose request has not come for long; creates the next segment ahead when none is there.
  void Idle(uint64_t now_us, size_t live_sessions);
  bool has_connections() const { return !connections_.empty(); }
  // The last reason why a process could not be given a segment; empty: none.
  const std::string& error() const { return error_; }
  uint64_t refused() const { return refused_; }

 private:
  struct Connection {
    OwnedFd fd;
    uint64_t since_us = 0;
    bool is_stranger = false;  // another user's, who is not root
  };
  void Accept();
  void Refuse(int fd);
  std::optional<Attached> Answer(int fd, size_t live_sessions);
  void TakeLeakQuestion(OwnedFd connection, const LeakQuestion& question);
  std::unique_ptr<Segment> TakeSegment(size_t live_sessions);
  uint64_t RingBytes(size_t live_sessions) const;

  OwnedFd listener_;
  const std::string session_name_;
  const SessionOptions options_;
  const int epoll_fd_;
  const Admit admit_;
  std::vector<Connection> connections_;
  std::vector<AskedForLeaks> leak_questions_;
  std::unique_ptr<Segment> spare_;  // prepared while idle: allocating 8 MiB takes longer than all the rest of an attach
  bool spare_wanted_ = true;
  uint64_t taken_segments_ = 0;
  std::string error_;
  uint64_t refused_ = 0;
};

}  // namespace tidemark
