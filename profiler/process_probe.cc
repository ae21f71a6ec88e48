// Reading /proc; see process_probe.h.
//
// Plain reads of whole files, parsed by hand: each answer is about a process that may end between two system calls, so
// a short or missing file is an ordinary case. Must not: keep descriptors open, trust a name in /proc/PID/stat (it may
// hold parentheses and newlines).
#include "profiler/process_probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace tidemark {
namespace {

std::string ProcPath(pid_t pid, const char* entry) { return "/proc/" + std::to_string(pid) + "/" + entry; }

// Whole of a /proc file, up to `limit` bytes; empty when it cannot be read.
std::string ReadFile(const std::string& path, size_t limit = 1 << 20) {
  std::string content;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return content;
  char buffer[16384];
  while (content.size() < limit) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n <= 0) break;
    content.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return content;
}

template <typename T>
T ParseNumber(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  T value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// "Name:   123 kB" -> 123, of the line that starts with `name`.
uint64_t Field(const std::string& content, std::string_view name) {
  size_t at = 0;
  while (at < content.size()) {
    size_t end = content.find('\n', at);
    if (end == std::string::npos) end = content.size();
    const std::string_view line(content.data() + at, end - at);
    if (line.size() > name.size() && line.substr(0, name.size()) == name) {
      return ParseNumber<uint64_t>(line.substr(name.size()));
    }
    at = end + 1;
  }
  return 0;
}

uint64_t ClockNs(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

std::vector<pid_t> NumericEntries(const std::string& path) {
  std::vector<pid_t> ids;
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return ids;
  while (const dirent* entry = readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (!name.empty() && name[0] >= '0' && name[0] <= '9') ids.push_back(ParseNumber<pid_t>(name));
  }
  closedir(directory);
  return ids;
}

std::vector<std::string> ReadCommandLine(pid_t pid) {
  const std::string content = ReadFile(ProcPath(pid, "cmdline"), 256 << 10);
  std::vector<std::string> words;
  size_t at = 0;
  while (at < content.size()) {
    size_t end = content.find('\0', at);
    if (end == std::string::npos) end = content.size();
    words.emplace_back(content, at, end - at);
    at = end + 1;
  }
  return words;
}

std::string ReadExecutable(pid_t pid) {
  char target[4096];
  const ssize_t n = readlink(ProcPath(pid, "exe").c_str(), target, sizeof target);
  return n > 0 ? std::string(target, static_cast<size_t>(n)) : std::string();
}

}  // namespace

std::optional<ProcessStat> ReadProcessStat(pid_t pid) {
  const std::string content = ReadFile(ProcPath(pid, "stat"), 4096);
  // The second field is the name in parentheses and may hold anything: count from the last parenthesis.
  const size_t close = content.rfind(')');
  if (close == std::string::npos || close + 2 >= content.size()) return std::nullopt;
  std::vector<std::string_view> fields;  // fields[0] is field 3 of proc(5)
  size_t at = close + 2;
  while (at < content.size()) {
    size_t end = content.find_first_of(" \n", at);
    if (end == std::string::npos) end = content.size();
    if (end > at) fields.emplace_back(content.data() + at, end - at);
    at = end + 1;
  }
  if (fields.size() < 20) return std::nullopt;
  ProcessStat stat;
  stat.state = fields[0][0];
  stat.parent = ParseNumber<pid_t>(fields[1]);
  stat.start_ticks = ParseNumber<uint64_t>(fields[19]);
  // 0 is also what a kernel shows that does not let us see it; a zombie of our own user is shown truly.
  if (stat.state == 'Z' && fields.size() >= 50) {
    struct stat owner {};
    if (::stat(ProcPath(pid, "").c_str(), &owner) == 0 && (owner.st_uid == geteuid() || geteuid() == 0)) {
      stat.wait_status = ParseNumber<int>(fields[49]);
    }
  }
  return stat;
}

ProcessIdentity ReadIdentity(pid_t pid) {
  ProcessIdentity identity;
  if (const std::optional<ProcessStat> stat = ReadProcessStat(pid)) {
    identity.start_ticks = stat->start_ticks;
    identity.parent = stat->parent;
  }
  identity.command = ReadCommandLine(pid);
  identity.executable = ReadExecutable(pid);
  identity.image_known = ExecutableIdentity(pid, &identity.image_device, &identity.image_inode);
  identity.nested_namespace = ReadNamespacePids(pid, pid).size() > 1;
  return identity;
}

std::string ReadThreadName(pid_t pid, pid_t thread) {
  std::string name = ReadFile(ProcPath(pid, "task/") + std::to_string(thread) + "/comm", 64);
  if (!name.empty() && name.back() == '\n') name.pop_back();
  return name;
}

bool ExecutableIdentity(pid_t pid, dev_t* device, ino_t* inode) {
  struct stat s {};
  if (stat(ProcPath(pid, "exe").c_str(), &s) != 0) return false;
  *device = s.st_dev;
  *inode = s.st_ino;
  return true;
}

std::optional<TraceMemory> ReadMemoryQuick(pid_t pid) {
  const std::string content = ReadFile(ProcPath(pid, "statm"), 256);
  uint64_t pages[3] = {};
  const char* at = content.data();
  const char* const end = at + content.size();
  for (uint64_t& value : pages) {
    while (at < end && *at == ' ') ++at;
    const auto parsed = std::from_chars(at, end, value);
    if (parsed.ec != std::errc()) return std::nullopt;
    at = parsed.ptr;
  }
  if (pages[0] == 0) return std::nullopt;  // a zombie has no memory any more
  const uint64_t page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  TraceMemory memory;
  memory.monotonic_ns = MonotonicNs();
  memory.virtual_size = pages[0] * page_bytes;
  memory.rss = pages[1] * page_bytes;
  memory.file = pages[2] * page_bytes;  // shared pages: file mappings and shmem
  memory.anonymous = memory.rss > memory.file ? memory.rss - memory.file : 0;
  return memory;
}

std::optional<TraceMemory> ReadMemoryFull(pid_t pid) {
  std::optional<TraceMemory> quick = ReadMemoryQuick(pid);
  if (!quick) return std::nullopt;
  const std::string content = ReadFile(ProcPath(pid, "smaps_rollup"), 16384);
  if (content.empty()) return quick;
  TraceMemory memory = *quick;
  memory.monotonic_ns = MonotonicNs();
  memory.rss = Field(content, "Rss:") * 1024;
  memory.pss = Field(content, "Pss:") * 1024;
  memory.anonymous = Field(content, "Anonymous:") * 1024;
  memory.swap = Field(content, "Swap:") * 1024;
  memory.shmem = Field(content, "Pss_Shmem:") * 1024;
  memory.file = memory.rss > memory.anonymous ? memory.rss - memory.anonymous : 0;
  return memory;
}

std::vector<pid_t> ReadNamespacePids(pid_t pid, pid_t task) {
  const std::string content = ReadFile(ProcPath(pid, "task/") + std::to_string(task) + "/status", 16384);
  std::vector<pid_t> pids;
  const size_t line = content.find("\nNSpid:");
  if (line == std::string::npos) return pids;
  const char* at = content.data() + line + 7;
  const char* const end = content.data() + content.size();
  while (at < end && *at != '\n') {
    if (*at == ' ' || *at == '\t') {
      ++at;
      continue;
    }
    pid_t value = 0;
    const auto parsed = std::from_chars(at, end, value);
    if (parsed.ec != std::errc()) break;
    pids.push_back(value);
    at = parsed.ptr;
  }
  return pids;
}

std::vector<pid_t> ListTasks(pid_t pid) { return NumericEntries(ProcPath(pid, "task")); }

std::optional<int> ReapedStatus(int pidfd) {
  // struct pidfd_info of linux/pidfd.h; spelled out because the headers of the build machine may be older.
  struct PidfdInfo {
    uint64_t mask, cgroup_id;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
  };
  static_assert(sizeof(PidfdInfo) == 64);
  constexpr uint64_t kInfoExit = 1 << 3;
  PidfdInfo info{};
  info.mask = kInfoExit;
  if (pidfd < 0 || ioctl(pidfd, _IOWR(0xFF, 11, PidfdInfo), &info) != 0 || (info.mask & kInfoExit) == 0) {
    return std::nullopt;
  }
  return info.exit_code;
}

std::vector<pid_t> FindHeirs(const std::string& needle) {
  std::vector<pid_t> heirs;
  const pid_t self = getpid();
  for (pid_t pid : NumericEntries("/proc")) {
    if (pid == self) continue;
    struct stat owner {};
    if (stat(ProcPath(pid, "").c_str(), &owner) != 0) continue;
    if (geteuid() != 0 && owner.st_uid != geteuid()) continue;
    const std::string environment = ReadFile(ProcPath(pid, "environ"));
    if (environment.find(needle) != std::string::npos ||
        // A bare preload: the options are the user's, the segment is ours. Mappings are long, so only then.
        (environment.find("TIDEMARK_OPTIONS=") != std::string::npos &&
         ReadFile(ProcPath(pid, "maps"), 64 << 20).find(needle) != std::string::npos)) {
      heirs.push_back(pid);
    }
  }
  return heirs;
}

uint64_t ReadTsc() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t value;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
#else
  return MonotonicNs();
#endif
}

uint64_t MonotonicNs() { return ClockNs(CLOCK_MONOTONIC); }

TraceClock ReadClocks() {
  TraceClock best;
  uint64_t best_span = ~uint64_t{0};
  for (int i = 0; i < 5; ++i) {
    TraceClock reading;
    const uint64_t before = ReadTsc();
    reading.monotonic_ns = ClockNs(CLOCK_MONOTONIC);
    reading.realtime_ns = ClockNs(CLOCK_REALTIME);
    const uint64_t span = ReadTsc() - before;
    reading.tsc = before + span / 2;
    if (span < best_span) {
      best_span = span;
      best = reading;
    }
  }
  return best;
}

}  // namespace tidemark
