// A stand-in for libtidemark.so: attaches as profiler/session.h says and writes records by hand, right or wrong.
#pragma once

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "profiler/session.h"

namespace tidemark {

class FakeProducer {
 public:
  // Maps a segment that exists already.
  explicit FakeProducer(void* base) : base_(base) {}
  FakeProducer() = default;

  bool Attach(const std::string& session, bool fork_child = false, uint32_t flags = 0) {
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "tidemark-" + session;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) {
      close(fd);
      return false;
    }
    const bool attached = Handshake(fd, fork_child, flags);
    close(fd);
    return attached;
  }

  bool Handshake(int fd, bool fork_child = false, uint32_t flags = 0) {
    const AttachRequest request{kSessionMagic, kSessionVersion, static_cast<uint32_t>(getpid()), fork_child, flags};
    if (send(fd, &request, sizeof request, MSG_NOSIGNAL) != sizeof request) return false;
    AttachReply reply{};
    iovec data{&reply, sizeof reply};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(fd, &message, 0) != sizeof reply || reply.accepted == 0) return false;
    const cmsghdr* rights = CMSG_FIRSTHDR(&message);
    if (rights == nullptr) return false;
    int segment = -1;
    std::memcpy(&segment, CMSG_DATA(rights), sizeof segment);
    bytes_ = reply.segment_bytes;
    base_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, segment, 0);
    close(segment);
    header().attached.store(1, std::memory_order_release);
    return base_ != MAP_FAILED;
  }

  SessionHeader& header() const { return *static_cast<SessionHeader*>(base_); }
  ThreadSlot& slot(uint32_t i) const { return reinterpret_cast<ThreadSlot*>(At(header().thread_slots_offset))[i]; }
  ChunkHeader& chunk(uint32_t i) const { return reinterpret_cast<ChunkHeader*>(At(header().chunk_headers_offset))[i]; }
  uint64_t* words(uint32_t i) const {
    return reinterpret_cast<uint64_t*>(At(header().chunks_offset + uint64_t{i} * header().chunk_bytes));
  }
  void* base() const { return base_; }
  uint64_t bytes() const { return bytes_; }

  // One writing thread of the process.
  struct Thread {
    FakeProducer* producer;
    uint32_t serial, slot, tid;
    uint32_t sequence = 0;
    int64_t chunk = -1;
    size_t used = 0;  // words

    bool Open() {
      SessionHeader& header = producer->header();
      for (int attempt = 0; attempt < 5000 && chunk < 0; ++attempt) {
        for (uint32_t i = 0; i < header.chunk_count && chunk < 0; ++i) {
          const uint64_t bit = uint64_t{1} << (i % 64);
          if ((header.free_chunks[i / 64].fetch_and(~bit, std::memory_order_acquire) & bit) != 0) chunk = i;
        }
        if (chunk < 0) usleep(1000);
      }
      if (chunk < 0) return false;
      ChunkHeader& c = producer->chunk(static_cast<uint32_t>(chunk));
      c.committed.store(0);
      c.thread_serial.store(serial);
      c.tid.store(tid);
      c.sequence.store(sequence++);
      c.slot.store(slot);
      c.first_tsc.store(1000);
      uint64_t name[2] = {};
      std::memcpy(name, "worker", 6);
      c.name[0].store(name[0]);
      c.name[1].store(name[1]);
      c.state.store(kChunkOpen, std::memory_order_release);
      used = 0;
      return true;
    }
    void Close() {
      if (chunk >= 0) {
        producer->chunk(static_cast<uint32_t>(chunk)).state.store(kChunkClosed, std::memory_order_release);
      }
      chunk = -1;
    }
    // Commits a record; opens and closes chunks as needed.
    bool Put(std::initializer_list<uint64_t> record) {
      if (chunk >= 0 && (used + record.size()) * 8 > producer->header().chunk_bytes) Close();
      if (chunk < 0 && !Open()) return false;
      for (uint64_t word : record) producer->words(static_cast<uint32_t>(chunk))[used++] = word;
      producer->chunk(static_cast<uint32_t>(chunk))
          .committed.store(static_cast<uint32_t>(used * 8), std::memory_order_release);
      return true;
    }
    void Count(EventKind kind) { producer->slot(slot).events[kind].fetch_add(1); }
    bool Alloc(uint64_t address, uint64_t size, uint32_t node = 0) {
      const bool ok = Put({1 | size << 8 | uint64_t{node} << 36, address >> 4 | uint64_t{5} << 44});
      if (ok) Count(kKindAlloc);
      return ok;
    }
    bool Free(uint64_t address) {
      const bool ok = Put({2 | (address >> 4) << 4 | uint64_t{3} << 48});
      if (ok) Count(kKindFree);
      return ok;
    }
  };

  Thread NewThread(uint32_t slot_index, uint32_t tid) {
    const uint32_t serial = header().thread_serials.fetch_add(1) + 1;
    slot(slot_index).serial.store(serial);
    slot(slot_index).owner.store(tid, std::memory_order_release);
    return Thread{this, serial, slot_index, tid};
  }
  Thread MainThread() { return NewThread(0, static_cast<uint32_t>(syscall(SYS_gettid))); }

 private:
  char* At(uint64_t offset) const { return static_cast<char*>(base_) + offset; }
  void* base_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace tidemark
