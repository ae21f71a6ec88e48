// See leak_fingerprint.h.
#include "tools/leak_fingerprint.h"

#include <fmt/format.h>

#include <cctype>
#include <cstdint>

#include "tools/leak_verdict.h"

namespace tidemark {
namespace {

constexpr size_t kFuzzyFrames = 5;

// FNV-1a, 64 bits: these are names, nobody attacks them.
class Fingerprint {
 public:
  void Add(std::string_view text) {
    for (unsigned char byte : text) Step(byte);
    Step(0xff);  // in no UTF-8: where a name ends
  }
  std::string Text() const { return fmt::format("{:016x}", hash_); }

 private:
  void Step(unsigned char byte) { hash_ = (hash_ ^ byte) * 0x100000001b3; }
  uint64_t hash_ = 0xcbf29ce484222325;
};

// Frames before main and before a thread's function: they say which libc it was.
bool IsStartFrame(const LeakFrame& frame) {
  for (std::string_view name : {"_start", "__libc_start_main", "__libc_start_call_main", "start_thread", "clone",
                                "clone3", "__clone", "__clone3", "thread_start"}) {
    if (frame.function == name || frame.function.starts_with(std::string(name) + "@")) return true;
  }
  return frame.function.starts_with("__libc_start_main");
}

// A placeholder holds an address, which says nothing tomorrow.
std::string NameOf(const LeakFrame& frame) { return frame.known ? frame.function : std::string(); }

bool EndsInOperator(std::string_view text) {
  constexpr std::string_view kOperator = "operator";
  if (!text.ends_with(kOperator)) return false;
  if (text.size() == kOperator.size()) return true;
  const char before = text[text.size() - kOperator.size() - 1];
  return std::isalnum(static_cast<unsigned char>(before)) == 0 && before != '_';
}

// The operator with an angle bracket that the text begins with: parameters or template arguments follow it.
std::string_view OperatorAt(std::string_view text) {
  for (std::string_view symbol : {"<=>", "->*", "<<=", ">>=", "<<", ">>", "<=", ">=", "->", "<", ">"}) {
    if (!text.starts_with(symbol)) continue;
    if (text.size() == symbol.size() || text[symbol.size()] == '(' || text[symbol.size()] == '<') return symbol;
  }
  return {};
}

}  // namespace

std::string ModuleStem(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (const size_t so = name.find(".so"); so != std::string_view::npos && so > 0) {
    std::string stem(name.substr(0, so));
    // "libfoo-1.2": the version of the old naming.
    const size_t dash = stem.rfind('-');
    if (dash != std::string::npos && dash + 1 < stem.size() &&
        stem.find_first_not_of("0123456789.", dash + 1) == std::string::npos) {
      stem.resize(dash);
    }
    return stem + ".so";
  }
  return std::string(name);
}

std::string WithoutTemplateArguments(std::string_view function) {
  std::string kept;
  size_t depth = 0;
  for (size_t i = 0; i < function.size(); ++i) {
    if (depth == 0 && EndsInOperator(kept)) {
      const std::string_view symbol = OperatorAt(function.substr(i));
      if (!symbol.empty()) {
        kept += symbol;
        i += symbol.size() - 1;
        continue;
      }
    }
    const char c = function[i];
    if (c == '<') {
      if (depth++ == 0) kept += "<>";
    } else if (c == '>' && depth > 0) {
      --depth;
    } else if (depth == 0) {
      kept += c;
    }
  }
  return kept;
}

bool IsRuntimeFrame(const LeakFrame& frame) {
  const std::string stem = ModuleStem(frame.module);
  for (std::string_view runtime : {"libc.so", "libm.so", "libpthread.so", "libdl.so", "librt.so", "libstdc++.so",
                                   "libc++.so", "libc++abi.so", "libgcc_s.so", "libtidemark.so", "libmimalloc.so"}) {
    if (stem == runtime) return true;
  }
  if (stem.starts_with("ld-linux") || stem.starts_with("ld-musl")) return true;
  const std::string_view name = frame.function;
  return IsStartFrame(frame) || name.starts_with("std::") || name.starts_with("__gnu_cxx::") ||
         name.starts_with("operator new") || name.starts_with("void std::");
}

std::pair<std::string, std::string> FingerprintsOf(const Leak& leak) {
  Fingerprint exact, fuzzy;
  size_t own_frames = 0;
  for (const LeakFrame& frame : leak.stack) {
    if (IsStartFrame(frame)) continue;
    exact.Add(NameOf(frame));
    exact.Add(ModuleStem(frame.module));
    if (own_frames == kFuzzyFrames || IsRuntimeFrame(frame)) continue;
    ++own_frames;
    fuzzy.Add(WithoutTemplateArguments(NameOf(frame)));
    fuzzy.Add(ModuleStem(frame.module));
  }
  // Nothing of the program's own: the runtime's frames are all there is.
  return {exact.Text(), own_frames != 0 ? fuzzy.Text() : exact.Text()};
}

}  // namespace tidemark
