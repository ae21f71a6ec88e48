// Segments, the listener and the answer to a request to attach; see session_server.h.
//
// The answer is given in one go (credentials, pidfd, identity, segment), since the process waits for it inside of its
// first allocation or its start. That is why a spare segment is prepared while nobody waits. Must not: block, keep a
// descriptor of a segment that has been handed over.
#include "profiler/session_server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace tidemark {
namespace {

constexpr uint64_t kSampledRingBytes = 1 << 20;
constexpr uint64_t kFullRingBytes = 8 << 20;
constexpr uint64_t kLeastRingBytes = 64 << 10;
// Many small chunks serve more threads than few large ones; a change of chunk costs a quarter of a microsecond.
constexpr uint32_t kChunkBytes = 4 << 10;
constexpr uint32_t kMostThreadSlots = 4096, kFewestThreadSlots = 64;
constexpr uint64_t kRequestPatience_us = 5'000'000;
constexpr size_t kMaxConnections = 256;
#ifndef SO_PEERPIDFD
constexpr int SO_PEERPIDFD = 77;
#endif

std::string Failed(const char* what) { return std::string(what) + " failed: " + std::strerror(errno); }

// Who connected, as of then.
std::optional<ucred> PeerOf(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  return peer;
}

AttachReply EmptyReply() {
  AttachReply reply{};
  reply.magic = kSessionMagic;
  reply.version = kSessionVersion;
  return reply;
}

}  // namespace

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.Release();
  }
  return *this;
}
OwnedFd::~OwnedFd() {
  if (fd_ >= 0) close(fd_);
}
int OwnedFd::Release() { return std::exchange(fd_, -1); }

std::unique_ptr<Segment> Segment::Create(const SessionOptions& options, uint64_t ring_bytes, const std::string& name,
                                         std::string* error) {
  std::unique_ptr<Segment> segment(new Segment);
  const auto slots =
      static_cast<uint32_t>(std::clamp<uint64_t>(ring_bytes / 512, kFewestThreadSlots, kMostThreadSlots));
  segment->layout_ = SegmentLayout::For(ring_bytes, kChunkBytes, slots);
  const SegmentLayout& layout = segment->layout_;
  segment->fd_ = OwnedFd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!segment->fd_.valid()) {
    *error = Failed("creating the shared segment (memfd_create)");
    return nullptr;
  }
  // Not posix_fallocate: its fallback writes byte by byte into a file that cannot be allocated anyway.
  if (fallocate(segment->fd(), 0, 0, static_cast<off_t>(layout.segment_bytes)) != 0) {
    *error = Failed(errno == EFBIG ? "allocating the shared segment (it is larger than the file size limit, ulimit -f)"
                                   : "allocating the shared segment (memory is short, or a memory limit is reached)");
    return nullptr;
  }
  if (fcntl(segment->fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    *error = Failed("sealing the shared segment");
    return nullptr;
  }
  void* base = mmap(nullptr, layout.segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd(), 0);
  if (base == MAP_FAILED) {
    *error = Failed("mapping the shared segment");
    return nullptr;
  }
  segment->base_ = base;
  SessionHeader& header = *new (base) SessionHeader;
  header.magic = kSessionMagic;
  header.version = kSessionVersion;
  header.mode = static_cast<uint32_t>(options.mode);
  header.segment_bytes = layout.segment_bytes;
  header.sample_bytes = options.mode == Mode::kFull ? 0 : options.sample_bytes;
  header.seed = options.seed;
  header.chunk_bytes = layout.chunk_bytes;
  header.chunk_count = layout.chunk_count;
  header.thread_slot_count = layout.thread_slot_count;
  header.guard_every = options.guard_every;
  header.thread_slots_offset = layout.thread_slots_offset;
  header.chunk_headers_offset = layout.chunk_headers_offset;
  header.chunks_offset = layout.chunks_offset;
  header.full_wait_us = options.full_wait_us;
  for (uint32_t chunk = 0; chunk < layout.chunk_count; ++chunk) {
    header.free_chunks[chunk / 64].fetch_or(uint64_t{1} << (chunk % 64), std::memory_order_relaxed);
  }
  header.tick.store(1, std::memory_order_relaxed);
  // Release is not needed here: sending the descriptor orders all of this before the process sees it.
  header.collector_alive.store(1, std::memory_order_relaxed);
  return segment;
}

Segment::~Segment() {
  if (base_ != nullptr) munmap(base_, layout_.segment_bytes);
}

std::string NewSessionName() {
  unsigned char bytes[16];
  size_t have = 0;
  while (have < sizeof bytes) {
    const ssize_t n = getrandom(bytes + have, sizeof bytes - have, 0);
    if (n > 0) have += static_cast<size_t>(n);
  }
  std::string name;
  for (unsigned char byte : bytes) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  return name;
}

OwnedFd SessionServer::Listen(const std::string& session_name, std::string* error) {
  OwnedFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "tidemark-" + session_name;  // abstract: after a NUL, without one at the end
  std::memcpy(address.sun_path + 1, name.data(), std::min(name.size(), sizeof address.sun_path - 1));
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (!fd.valid() || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(fd.get(), 4096) != 0) {
    *error = Failed("opening the session socket");
    return OwnedFd();
  }
  return fd;
}

SessionServer::SessionServer(OwnedFd listener, std::string session_name, SessionOptions options, int epoll_fd,
                             Admit admit)
    : listener_(std::move(listener)),
      session_name_(std::move(session_name)),
      options_(options),
      epoll_fd_(epoll_fd),
      admit_(std::move(admit)) {
  if (listener_.valid()) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = listener_.get()}};
    epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, listener_.get(), &event);
  }
}

SessionServer::~SessionServer() = default;

void SessionServer::Adopt(OwnedFd connection) {
  fcntl(connection.get(), F_SETFL, fcntl(connection.get(), F_GETFL) | O_NONBLOCK);
  fcntl(connection.get(), F_SETFD, FD_CLOEXEC);
  epoll_event event{.events = EPOLLIN, .data = {.fd = connection.get()}};
  epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, connection.get(), &event);
  connections_.push_back({std::move(connection), MonotonicNs() / 1000});
}

bool SessionServer::Owns(int fd) const {
  if (listener_.valid() && listener_.get() == fd) return true;
  return std::any_of(connections_.begin(), connections_.end(), [fd](const Connection& c) { return c.fd.get() == fd; });
}

void SessionServer::Refuse(int fd) {
  ++refused_;
  const AttachReply reply = EmptyReply();
  (void)send(fd, &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void SessionServer::Accept() {
  while (listener_.valid() && connections_.size() < kMaxConnections) {
    OwnedFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    // The name is no secret: strangers' connections must not keep others waiting.
    constexpr ptrdiff_t kMaxStrangers = 16;
    const std::optional<ucred> peer = PeerOf(fd.get());
    const bool is_stranger = peer && peer->uid != 0 && peer->uid != geteuid();
    if (is_stranger && std::count_if(connections_.begin(), connections_.end(),
                                     [](const Connection& c) { return c.is_stranger; }) >= kMaxStrangers) {
      Refuse(fd.get());
      continue;
    }
    Adopt(std::move(fd));
    connections_.back().is_stranger = is_stranger;
  }
}

std::vector<Attached> SessionServer::ServePending(size_t live_sessions) {
  std::vector<Attached> all;
  Accept();
  std::vector<int> fds;
  for (const Connection& connection : connections_) fds.push_back(connection.fd.get());
  for (int fd : fds) {
    if (std::optional<Attached> attached = Answer(fd, live_sessions + all.size())) all.push_back(std::move(*attached));
  }
  return all;
}

void SessionServer::TakeLeakQuestion(OwnedFd connection, const LeakQuestion& question) {
  const std::optional<ucred> peer = PeerOf(connection.get());
  if (!peer || (peer->uid != 0 && peer->uid != geteuid()) || question.version != kSessionVersion) return;
  if (leak_questions_.size() >= kMaxConnections) return;
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, connection.get(), nullptr);
  leak_questions_.push_back({std::move(connection), question.pid, question.bits});
}

std::optional<Attached> SessionServer::Answer(int fd, size_t live_sessions) {
  const auto found =
      std::find_if(connections_.begin(), connections_.end(), [fd](const Connection& c) { return c.fd.get() == fd; });
  if (found == connections_.end()) return std::nullopt;
  union {
    AttachRequest attach;
    LeakQuestion question;
  } packet{};
  static_assert(sizeof packet.attach == sizeof packet.question);  // the magic tells them apart
  const ssize_t n = recv(fd, &packet, sizeof packet, MSG_DONTWAIT | MSG_TRUNC);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  OwnedFd connection = std::move(found->fd);  // one request per connection: it ends here, whatever happens
  connections_.erase(found);
  if (n == sizeof packet && packet.attach.magic == kLeakQuestionMagic) {
    TakeLeakQuestion(std::move(connection), packet.question);
    return std::nullopt;
  }
  const AttachRequest& request = packet.attach;
  if (n != sizeof request || request.magic != kSessionMagic) return std::nullopt;

  const std::optional<ucred> known = PeerOf(fd);
  if (!known || request.version != kSessionVersion || !admit_(known->pid, known->uid)) {
    Refuse(fd);
    return std::nullopt;
  }
  const ucred peer = *known;
  AttachReply reply = EmptyReply();
  Attached attached;
  attached.pid = peer.pid;
  attached.own_pid = static_cast<pid_t>(request.pid);
  attached.fork_child = request.parent_session != 0;
  attached.bypassed = (request.flags & kAttachBypassed) != 0;
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) != 0) {
    pidfd = static_cast<int>(syscall(SYS_pidfd_open, peer.pid, 0));
  }
  attached.pidfd = OwnedFd(pidfd);
  attached.identity = ReadIdentity(peer.pid);
  attached.segment = TakeSegment(live_sessions);
  if (attached.segment == nullptr) {
    ++refused_;
    (void)send(fd, &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT);
    return std::nullopt;
  }
  reply.accepted = 1;
  reply.segment_bytes = attached.segment->layout().segment_bytes;
  iovec data{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int segment_fd = attached.segment->fd();
  std::memcpy(CMSG_DATA(rights), &segment_fd, sizeof segment_fd);
  if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof reply) return std::nullopt;  // it has gone
  attached.segment->CloseFd();
  return attached;
}

// Memory is bounded by the number of processes too: a build with hundreds of compilers gets smaller rings.
uint64_t SessionServer::RingBytes(size_t live_sessions) const {
  const uint64_t wanted = options_.ring_bytes != 0
                              ? options_.ring_bytes
                              : (options_.mode == Mode::kFull ? kFullRingBytes : kSampledRingBytes);
  if (options_.ring_bytes != 0 || live_sessions < 32) return wanted;
  return std::min(wanted, live_sessions < 128 ? uint64_t{2} << 20 : kSampledRingBytes);
}

std::unique_ptr<Segment> SessionServer::TakeSegment(size_t live_sessions) {
  // Most recordings are of one process: for those a spare would be 2 ms of CPU for nothing.
  spare_wanted_ = ++taken_segments_ >= 2;
  const uint64_t ring_bytes = RingBytes(live_sessions);
  if (spare_ != nullptr && spare_->layout().segment_bytes <= ring_bytes) return std::move(spare_);
  std::string error;
  // Where memory is short or limited, a small ring is better than none: what it cannot take is counted.
  for (uint64_t bytes = ring_bytes; bytes >= kLeastRingBytes; bytes /= 2) {
    std::string reason;
    std::unique_ptr<Segment> segment = Segment::Create(options_, bytes, "tidemark-" + session_name_, &reason);
    if (segment != nullptr) return segment;
    if (error.empty()) error = reason;
  }
  error_ = error;
  return nullptr;
}

void SessionServer::Idle(uint64_t now_us, size_t live_sessions) {
  std::erase_if(connections_, [now_us](const Connection& c) { return now_us > c.since_us + kRequestPatience_us; });
  if (!spare_wanted_) return;
  spare_wanted_ = false;  // once per attach: when memory is short, not at every poll
  std::string ignored;    // the attach that finds no spare will say it
  if (spare_ == nullptr) {
    spare_ = Segment::Create(options_, RingBytes(live_sessions), "tidemark-" + session_name_, &ignored);
  }
}

}  // namespace tidemark
