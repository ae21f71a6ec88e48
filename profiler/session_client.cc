// The process's side of the handshake; see session_client.h.
#include "profiler/session_client.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "profiler/module_map.h"
#include "profiler/os.h"

namespace tidemark {
namespace {

constexpr long kReplySeconds = 5;

bool SendAll(int fd, const void* bytes, size_t size) {
  constexpr int kFlags = MSG_NOSIGNAL;
  return os::Syscall(SYS_sendto, fd, reinterpret_cast<long>(bytes), static_cast<long>(size), kFlags) ==
         static_cast<long>(size);
}

// Receives the reply and the segment's descriptor (-1: none came).
bool ReceiveReply(int fd, AttachReply* reply, int* segment_fd) {
  *segment_fd = -1;
  iovec io{reply, sizeof(*reply)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  long n;
  do {
    n = os::Syscall(SYS_recvmsg, fd, reinterpret_cast<long>(&message), MSG_CMSG_CLOEXEC);
  } while (n == -4);  // EINTR
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (!os::IsError(n) && header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len >= CMSG_LEN(sizeof(int))) {
    __builtin_memcpy(segment_fd, CMSG_DATA(header), sizeof(int));
  }
  return n == static_cast<long>(sizeof(*reply)) && reply->magic == kSessionMagic && reply->version == kSessionVersion;
}

// Where the parts of the segment are. Each field is read once: what was checked is what is used.
struct Layout {
  explicit Layout(const SessionHeader& shared) {
    const volatile SessionHeader& h = shared;
    magic = h.magic;
    version = h.version;
    segment_bytes = h.segment_bytes;
    chunk_bytes = h.chunk_bytes;
    chunk_count = h.chunk_count;
    slot_count = h.thread_slot_count;
    slots = h.thread_slots_offset;
    chunk_headers = h.chunk_headers_offset;
    chunks = h.chunks_offset;
  }

  bool IsSane(uint64_t bytes) const {
    constexpr uint64_t kAlignment = 64;
    constexpr uint32_t kSmallestChunk = 4096, kLargestChunk = 1 << 20;
    const auto fits = [bytes](uint64_t offset, uint64_t count, uint64_t size) {
      return offset % kAlignment == 0 && offset <= bytes && count * size <= bytes - offset;
    };
    return magic == kSessionMagic && version == kSessionVersion && segment_bytes == bytes && chunk_count > 0 &&
           chunk_count <= kMaxChunks && chunk_bytes >= kSmallestChunk && chunk_bytes <= kLargestChunk &&
           (chunk_bytes & (chunk_bytes - 1)) == 0 && slot_count > 0 && fits(slots, slot_count, sizeof(ThreadSlot)) &&
           fits(chunk_headers, chunk_count, sizeof(ChunkHeader)) && fits(chunks, chunk_count, chunk_bytes);
  }

  uint64_t magic, segment_bytes, slots, chunk_headers, chunks;
  uint32_t version, chunk_bytes, chunk_count, slot_count;
};

// Abstract names have no owner: once the collector is gone, anybody may listen under its name. Only root and the user
// that this process acts as are believed.
bool IsTrusted(int fd) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  const long error = os::Syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, reinterpret_cast<long>(&peer),
                                 reinterpret_cast<long>(&length));
  return !os::IsError(error) && (peer.uid == 0 || static_cast<long>(peer.uid) == os::Syscall(SYS_geteuid));
}

Attach Handshake(int fd, bool forked, bool bypassed, Session* out) {
  timeval timeout{kReplySeconds, 0};
  os::Syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, reinterpret_cast<long>(&timeout), sizeof(timeout));
  os::Syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, reinterpret_cast<long>(&timeout), sizeof(timeout));
  const AttachRequest request{kSessionMagic, kSessionVersion, os::ProcessId(), forked ? 1u : 0u,
                              bypassed ? uint32_t{kAttachBypassed} : 0u};
  AttachReply reply{};
  int segment_fd = -1;
  if (!SendAll(fd, &request, sizeof(request))) return Attach::kNoCollector;
  const bool received = ReceiveReply(fd, &reply, &segment_fd);
  Attach result = Attach::kNoCollector;
  if (received && reply.accepted == 0) result = Attach::kRefused;
  if (received && reply.accepted == 1 && segment_fd >= 0 && reply.segment_bytes >= sizeof(SessionHeader)) {
    if (void* memory = os::MapShared(segment_fd, reply.segment_bytes)) {
      auto* header = static_cast<SessionHeader*>(memory);
      if (const Layout layout(*header); layout.IsSane(reply.segment_bytes)) {
        auto* bytes = static_cast<uint8_t*>(memory);
        out->header = header;
        out->slots = reinterpret_cast<ThreadSlot*>(bytes + layout.slots);
        out->chunk_headers = reinterpret_cast<ChunkHeader*>(bytes + layout.chunk_headers);
        out->chunks = bytes + layout.chunks;
        out->bytes = reply.segment_bytes;
        os::Advise(memory, out->bytes, MADV_DONTDUMP);
        header->pid.store(os::ProcessId(), std::memory_order_relaxed);
        header->bypassed.store(bypassed ? 1 : 0, std::memory_order_relaxed);
        header->attached.store(1, std::memory_order_release);
        result = Attach::kAttached;
      } else {
        os::Unmap(memory, reply.segment_bytes);
      }
    }
  }
  if (segment_fd >= 0) os::Close(segment_fd);
  return result;
}

size_t Append(char* out, size_t at, size_t capacity, const char* text) {
  while (*text != 0 && at + 1 < capacity) out[at++] = *text++;
  out[at] = 0;
  return at;
}

// Connects to a collector's socket; 0 and a descriptor, or a negative errno.
long Connect(const char* session_name, int flags, int* out) {
  const long fd = os::Syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
  if (os::IsError(fd)) return fd;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  size_t n = Append(address.sun_path, 1, sizeof(address.sun_path), "tidemark-");  // leading NUL: abstract
  n = Append(address.sun_path, n, sizeof(address.sun_path), session_name);
  const long length = static_cast<long>(offsetof(sockaddr_un, sun_path) + n);
  const long error = os::Syscall(SYS_connect, fd, reinterpret_cast<long>(&address), length);
  if (os::IsError(error)) {
    os::Close(static_cast<int>(fd));
    return error;
  }
  *out = static_cast<int>(fd);
  return 0;
}

size_t DecimalTo(char* out, size_t capacity, uint32_t value) {
  char digits[12];
  size_t n = sizeof(digits);
  digits[--n] = 0;
  do {
    digits[--n] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return Append(out, 0, capacity, digits + n);
}

// The command-line tool's path relative to this library: build tree, then the installed places.
bool FindTool(char* out, size_t capacity) {
  ModuleView self;
  if (!FindModule(reinterpret_cast<uintptr_t>(&FindTool), &self)) return false;
  const char* path = ModulePath(self);
  const char* slash = nullptr;
  for (const char* p = path; *p != 0; p++) {
    if (*p == '/') slash = p;
  }
  if (slash == nullptr) return false;
  for (const char* relative : {"../tools/tidemark", "../../bin/tidemark", "../../../bin/tidemark"}) {
    if (static_cast<size_t>(slash - path) + 1 >= capacity) return false;
    __builtin_memcpy(out, path, static_cast<size_t>(slash - path) + 1);
    const size_t at = Append(out, static_cast<size_t>(slash - path) + 1, capacity, relative);
    if (at + 1 < capacity && os::Syscall(SYS_access, reinterpret_cast<long>(out), 1) == 0) return true;
  }
  return false;
}

}  // namespace

Attach AttachToCollector(const char* session_name, bool forked, bool bypassed, Session* out) {
  if (forked) os::LocateThreadId();
  int fd;
  if (Connect(session_name, 0, &fd) != 0) return Attach::kNoCollector;
  const Attach result = IsTrusted(fd) ? Handshake(fd, forked, bypassed, out) : Attach::kNoCollector;
  os::Close(fd);
  return result;
}

bool CollectorListens(const char* session_name) {
  constexpr long kRefused = -111;  // ECONNREFUSED
  int fd;
  const long error = Connect(session_name, SOCK_NONBLOCK, &fd);
  if (error == 0) os::Close(fd);
  return error != kRefused;
}

Attach StartCollector(const char* options_text, char session_name[33], Session* out) {
  char tool[4096];
  if (!FindTool(tool, sizeof(tool))) return Attach::kNoCollector;
  uint8_t random[16] = {};
  if (os::Syscall(SYS_getrandom, reinterpret_cast<long>(random), sizeof(random), 0) != sizeof(random)) {
    return Attach::kNoCollector;
  }
  for (size_t i = 0; i < sizeof(random); i++) {
    session_name[2 * i] = "0123456789abcdef"[random[i] >> 4];
    session_name[2 * i + 1] = "0123456789abcdef"[random[i] & 15];
  }
  session_name[32] = 0;
  int pair[2];
  if (os::IsError(
          os::Syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reinterpret_cast<long>(pair)))) {
    return Attach::kNoCollector;
  }
  char fd_text[12];
  DecimalTo(fd_text, sizeof(fd_text), static_cast<uint32_t>(pair[1]));
  const char* const arguments[] = {tool,         "collect",   "--socket-fd", fd_text, "--session",
                                   session_name, "--options", options_text,  nullptr};
  const char* const environment[] = {nullptr};
  // Two forks with exit signal 0: the first is reaped here, the second belongs to init. The host never sees a SIGCHLD
  // nor a child of its own. Raw clone: no atfork handlers run in a process that is only passing through.
  const long first = os::Syscall(SYS_clone, 0, 0, 0, 0, 0);
  if (first == 0) {
    os::Syscall(SYS_setsid);
    const long second = os::Syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (second == 0) {
      os::Syscall(SYS_fcntl, pair[1], F_SETFD, 0);
      os::Syscall(SYS_execve, reinterpret_cast<long>(tool), reinterpret_cast<long>(arguments),
                  reinterpret_cast<long>(environment));
    }
    os::Syscall(SYS_exit_group, 0);
  }
  os::Close(pair[1]);
  Attach result = Attach::kNoCollector;
  if (!os::IsError(first)) {
    os::Syscall(SYS_wait4, first, 0, __WALL, 0);
    result = Handshake(pair[0], false, false, out);
  }
  os::Close(pair[0]);
  return result;
}

void DetachSession(Session* session) {
  if (session->header != nullptr) os::Unmap(session->header, session->bytes);
  *session = Session{};
}

}  // namespace tidemark
