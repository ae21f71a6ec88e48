// See llvm_symbolizer.h. Protocol: one "0x<address>" a line in, one JSON object a line out, in order.
#include "tools/llvm_symbolizer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>

namespace tidemark {
namespace {

constexpr int kNewestVersion = 22, kOldestVersion = 14;  // 14 is the first with usable JSON output
constexpr int kSilenceMs = 120'000;                      // indexing gigabytes of DWARF takes minutes, not hours
constexpr size_t kMaxLineBytes = 64 << 20;
constexpr size_t kMaxInFlight = 4096;

std::string FindInPath(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string_view directory = rest.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
    if (directory.empty() || directory[0] != '/') continue;  // never a tool from the current directory
    const std::string candidate = std::string(directory) + "/" + name;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

bool ParseAnswer(std::string_view line, SymbolizedAddress* result) {
  const nlohmann::json answer = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object()) return false;
  const auto symbols = answer.find("Symbol");
  if (symbols == answer.end()) return answer.contains("Error");
  if (!symbols->is_array()) return false;
  const auto text = [](const nlohmann::json& object, const char* key) {
    const auto value = object.find(key);
    return value != object.end() && value->is_string() ? value->get<std::string>() : std::string();
  };
  for (const nlohmann::json& symbol : *symbols) {
    if (!symbol.is_object()) return false;
    SymbolFrame frame;
    frame.function = Demangle(text(symbol, "FunctionName"));
    frame.file = text(symbol, "FileName");
    const auto line_number = symbol.find("Line");
    if (line_number != symbol.end() && line_number->is_number_unsigned()) frame.line = line_number->get<uint32_t>();
    if (frame.function.empty() && frame.file.empty()) continue;
    result->frames.push_back(std::move(frame));
  }
  for (size_t i = 0; i + 1 < result->frames.size(); ++i) result->frames[i].inlined = true;
  return true;
}

}  // namespace

std::string FindLlvmSymbolizer() {
  for (int version = kNewestVersion; version >= kOldestVersion; --version) {
    std::string path = FindInPath("llvm-symbolizer-" + std::to_string(version));
    if (!path.empty()) return path;
  }
  return FindInPath("llvm-symbolizer");
}

std::unique_ptr<LlvmSymbolizer> LlvmSymbolizer::Start(const std::string& tool, const std::string& object_path,
                                                      const std::vector<std::string>& debug_directories,
                                                      std::string* error) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    *error = std::string("no socket for llvm-symbolizer: ") + std::strerror(errno);
    return nullptr;
  }
  std::vector<std::string> arguments = {tool,        "--output-style=JSON", "--functions=linkage", "--no-demangle",
                                        "--inlines", "--obj=" + object_path};
  for (const std::string& directory : debug_directories) arguments.push_back("--debug-file-directory=" + directory);
  std::vector<char*> argv, envp;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("DEBUGINFOD_")) envp.push_back(*variable);
  }
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, sockets[1], 0);
  posix_spawn_file_actions_adddup2(&actions, sockets[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::unique_ptr<LlvmSymbolizer> started(new LlvmSymbolizer);
  const int status = posix_spawn(&started->pid_, tool.c_str(), &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  close(sockets[1]);
  started->socket_ = sockets[0];
  started->tool_ = tool;
  if (status != 0) {
    started->pid_ = -1;
    *error = tool + " cannot be started: " + std::strerror(status);
    return nullptr;
  }
  return started;
}

LlvmSymbolizer::~LlvmSymbolizer() {
  if (socket_ >= 0) close(socket_);
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

bool LlvmSymbolizer::Fail(const std::string& why) {
  error_ = tool_ + " " + why;
  close(socket_);
  socket_ = -1;
  return false;
}

bool LlvmSymbolizer::Resolve(const std::vector<uint64_t>& addresses, std::vector<SymbolizedAddress>* results) {
  results->clear();
  if (socket_ < 0) return false;
  std::string unsent;
  size_t asked = 0;
  // Both directions at once: a tool that waits for its reader must not wait for a writer that waits for the tool.
  while (results->size() < addresses.size()) {
    while (asked < addresses.size() && asked - results->size() < kMaxInFlight) {
      char line[32];
      std::snprintf(line, sizeof(line), "0x%llx\n", static_cast<unsigned long long>(addresses[asked++]));
      unsent += line;
    }
    pollfd event = {socket_, static_cast<short>(POLLIN | (unsent.empty() ? 0 : POLLOUT)), 0};
    const int ready = poll(&event, 1, kSilenceMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Fail("did not answer for two minutes");
    if ((event.revents & POLLOUT) != 0) {
      const ssize_t sent = send(socket_, unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) unsent.erase(0, static_cast<size_t>(sent));
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return Fail("ended early");
    }
    if ((event.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    char buffer[64 << 10];
    const ssize_t got = recv(socket_, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) return Fail("ended early");
    unread_.append(buffer, static_cast<size_t>(got));
    size_t begin = 0;
    for (size_t end; (end = unread_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const std::string_view line = std::string_view(unread_).substr(begin, end - begin);
      if (line.empty()) continue;
      SymbolizedAddress result;
      if (results->size() == addresses.size() || !ParseAnswer(line, &result))
        return Fail("gave an answer that is no JSON");
      results->push_back(std::move(result));
    }
    unread_.erase(0, begin);
    if (unread_.size() > kMaxLineBytes) return Fail("gave an endless answer");
  }
  return true;
}

}  // namespace tidemark
