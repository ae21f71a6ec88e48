// Asking and answering; see leak_questions.h.
#include "profiler/leak_questions.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "profiler/process_probe.h"

namespace tidemark {
namespace {

constexpr uint64_t kFirstInterval_us = 5'000, kLongestInterval_us = 200'000;
constexpr uint64_t kTakenPatience_us = 5'000'000;
// The copy ends by itself after two minutes.
constexpr uint64_t kVerdictPatience_us = 150'000'000;

std::string ReadTaskFile(int pid, int task, const char* name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(task) + "/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool Blocks(const std::string& status, int signal) {
  const size_t at = status.find("\nSigBlk:");
  if (at == std::string::npos) return true;  // it has ended
  const uint64_t mask = std::strtoull(status.c_str() + at + 8, nullptr, 16);
  return (mask >> (signal - 1) & 1) != 0;
}

}  // namespace

int FindThreadToSignal(int own_pid, int signal) {
  int any = 0;
  for (const pid_t task : ListTasks(own_pid)) {
    const std::string status = ReadTaskFile(own_pid, task, "status");
    if (Blocks(status, signal)) continue;
    // "running", or the number and the arguments of the call: a futex without a timeout goes on sleeping.
    const std::string call = ReadTaskFile(own_pid, task, "syscall");
    unsigned long long word = 0, operation = 0, value = 0, timeout = 1;
    long number = -1;
    const bool is_waiting_for_lock =
        std::sscanf(call.c_str(), "%ld %llx %llx %llx %llx", &number, &word, &operation, &value, &timeout) == 5 &&
        number == SYS_futex && timeout == 0;
    if (call.compare(0, 7, "running") == 0 || is_waiting_for_lock) return task;
    if (any == 0) any = task;
  }
  return any;
}

void LeakQuestions::Serve(uint64_t now_us, const std::vector<std::unique_ptr<TracedProcess>>& processes) {
  std::vector<pid_t> served;  // one at a time in a process
  for (size_t i = 0; i < waiting_.size();) {
    Waiting& waiting = waiting_[i];
    const auto pid = static_cast<pid_t>(waiting.asked.pid);
    const auto found =
        std::find_if(processes.begin(), processes.end(), [pid](const auto& process) { return process->pid() == pid; });
    const bool is_turn = std::find(served.begin(), served.end(), pid) == served.end();
    served.push_back(pid);
    if (is_turn && ServeOne(waiting, now_us, found != processes.end() ? found->get() : nullptr)) {
      waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

bool LeakQuestions::ServeOne(Waiting& waiting, uint64_t now_us, TracedProcess* process) {
  if (process == nullptr || (waiting.sent && process->image() != waiting.image)) {
    Answer(waiting, waiting.sent ? LeakAnswer::kEnded : LeakAnswer::kNotRecorded);
    return true;
  }
  if (!waiting.sent) {
    if (!process->looks_for_leaks()) {
      Answer(waiting, LeakAnswer::kNotPrepared);
      return true;
    }
    if (process->leak_signal() == 0) {
      Answer(waiting, LeakAnswer::kNoHandler);
      return true;
    }
    waiting.sent = true;
    waiting.image = process->image();
    waiting.finished_before = process->last_requested_check();
    waiting.request = process->RequestLeaks(waiting.asked.bits);
    waiting.since_us = waiting.next_signal_us = now_us;
    waiting.interval_us = kFirstInterval_us;
  }
  if (process->last_requested_check() != waiting.finished_before) {
    const std::string path = process->FlushTrace();
    Answer(waiting, path.empty() ? LeakAnswer::kNotWritten : LeakAnswer::kDone, process->last_requested_check(), path);
    return true;
  }
  const uint64_t waited_us = now_us - waiting.since_us;
  if (process->leak_taken() == waiting.request) {
    if (waited_us < kVerdictPatience_us) return false;
    Answer(waiting, LeakAnswer::kNoVerdict);
    return true;
  }
  if (waited_us >= kTakenPatience_us) {
    Answer(waiting, LeakAnswer::kNotTaken);
    return true;
  }
  if (now_us >= waiting.next_signal_us) {
    const int signal = static_cast<int>(process->leak_signal());
    if (const int task = FindThreadToSignal(process->pid(), signal); task != 0) {
      syscall(SYS_tgkill, process->pid(), task, signal);
    }
    waiting.next_signal_us = now_us + waiting.interval_us;
    waiting.interval_us = std::min(waiting.interval_us * 2, kLongestInterval_us);
  }
  return false;
}

void LeakQuestions::Answer(const Waiting& waiting, LeakAnswer answer, uint32_t check, const std::string& path) {
  LeakReply reply{};
  reply.magic = kLeakQuestionMagic;
  reply.version = kSessionVersion;
  reply.answer = answer;
  reply.check = check;
  char absolute[PATH_MAX] = "";
  if (!path.empty() && realpath(path.c_str(), absolute) == nullptr) absolute[0] = 0;
  if (answer == LeakAnswer::kDone && (absolute[0] == 0 || std::strlen(absolute) >= sizeof reply.path)) {
    reply.answer = LeakAnswer::kNotWritten;
  } else {
    std::memcpy(reply.path, absolute, std::strlen(absolute));
  }
  (void)send(waiting.asked.fd.get(), &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace tidemark
