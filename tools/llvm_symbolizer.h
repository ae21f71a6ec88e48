// A running llvm-symbolizer, for DWARF that libdw 0.188 cannot read (split DWARF packages, sections it rejects).
//
// Out of process and fed through a socket; a tool that dies, hangs or answers nonsense costs its module's lines and
// nothing else. It is started without DEBUGINFOD_URLS: symbolizing never contacts the network.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/symbolizer.h"

namespace tidemark {

// Absolute path of the newest llvm-symbolizer in PATH; "" when none is installed.
std::string FindLlvmSymbolizer();

class LlvmSymbolizer {
 public:
  // nullptr and *error (one sentence with the remedy) when the tool cannot be started.
  static std::unique_ptr<LlvmSymbolizer> Start(const std::string& tool, const std::string& object_path,
                                               const std::vector<std::string>& debug_directories, std::string* error);
  ~LlvmSymbolizer();
  LlvmSymbolizer(const LlvmSymbolizer&) = delete;
  LlvmSymbolizer& operator=(const LlvmSymbolizer&) = delete;

  // One result per address, in order. False when the tool failed: then it answers no more, error() says why.
  bool Resolve(const std::vector<uint64_t>& addresses, std::vector<SymbolizedAddress>* results);
  const std::string& error() const { return error_; }

 private:
  LlvmSymbolizer() = default;
  bool Fail(const std::string& why);

  std::string tool_, error_, unread_;
  int socket_ = -1;
  pid_t pid_ = -1;
};

}  // namespace tidemark
