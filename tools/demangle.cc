// Mangled names -> what a programmer wrote: C++ (Itanium), Rust (v0 and legacy, hash suffix dropped) and D.
//
// libiberty does the work (the same code as abi::__cxa_demangle, plus Rust and D), under two bounds, because names come
// from untrusted files: its refusal of names over 1 KiB is lifted (ordinary C++ templates exceed it) only up to a
// length whose recursion fits a stack, and its output, which substitutions can make exponentially long, is cut off by
// leaving the demangler from its output callback. Anything that does not demangle comes back unchanged.
#define HAVE_DECL_BASENAME 1  // or libiberty.h declares a basename that contradicts <cstring>'s
#include <libiberty/demangle.h>

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tools/symbolizer.h"

namespace tidemark {
namespace {

constexpr size_t kMaxMangledBytes = 8 << 10;
constexpr size_t kMaxDemangledBytes = 64 << 10;
constexpr size_t kMaxDBackReferences = 40;  // each level of doubling takes two: output stays within megabytes

struct Output {
  std::string text;
  std::jmp_buf too_long;
};

// The demanglers keep their state on the stack in callback mode, so jumping out of them leaks nothing.
void Append(const char* text, size_t length, void* opaque) {
  Output* output = static_cast<Output*>(opaque);
  if (output->text.size() + length > kMaxDemangledBytes) std::longjmp(output->too_long, 1);
  output->text.append(text, length);
}

using CallbackDemangler = int (*)(const char*, int, demangle_callbackref, void*);

bool Run(CallbackDemangler demangler, const char* name, int options, std::string* result) {
  Output output;
  if (setjmp(output.too_long) != 0) return false;
  if (demangler(name, options, &Append, &output) == 0 || output.text.empty()) return false;
  *result = std::move(output.text);
  return true;
}

// LLVM's ThinLTO promotion appends ".llvm.<digits>", which no demangler knows and no reader wants.
std::string WithoutLlvmSuffix(const std::string& name) {
  const size_t at = name.rfind(".llvm.");
  if (at == std::string::npos || at == 0 || at + 6 >= name.size()) return name;
  return name.find_first_not_of("0123456789", at + 6) == std::string::npos ? name.substr(0, at) : name;
}

bool LooksLikeD(const std::string& name) {
  return name.starts_with("_D") && name.size() > 3 && ((name[2] >= '0' && name[2] <= '9') || name == "_Dmain");
}

}  // namespace

std::string Demangle(const std::string& mangled) {
  if (mangled.size() < 3 || mangled[0] != '_' || mangled.size() > kMaxMangledBytes ||
      mangled.find('\0') != std::string::npos) {
    return mangled;
  }
  const std::string name = WithoutLlvmSuffix(mangled);
  std::string result;
  if (name.starts_with("_Z") || name.starts_with("_R")) {
    // Rust first: a legacy Rust name is also a well-formed C++ name, but with its hash as the innermost scope.
    if (Run(&rust_demangle_callback, name.c_str(), DMGL_PARAMS | DMGL_ANSI, &result)) return result;
  }
  if (name.starts_with("_Z")) {
    if (Run(&cplus_demangle_v3_callback, name.c_str(), DMGL_PARAMS | DMGL_ANSI | DMGL_NO_RECURSE_LIMIT, &result)) {
      return result;
    }
  }
  if (LooksLikeD(name) && std::count(name.begin(), name.end(), 'Q') <= static_cast<long>(kMaxDBackReferences)) {
    char* text = dlang_demangle(name.c_str(), DMGL_PARAMS | DMGL_ANSI);
    if (text != nullptr) {
      result.assign(text, strnlen(text, kMaxDemangledBytes));
      std::free(text);
      return result;
    }
  }
  return mangled;
}

}  // namespace tidemark
