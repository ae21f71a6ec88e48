// Names for leaks that outlive a build: what baselines, SARIF and dashboards know a leak by.
//
//   exact   the whole stack: function and module of every frame, without lines, versions and addresses
//   fuzzy   the five innermost frames of the program's own code, without template arguments: survives callers that
//           change, inlining of library code, another libc
//
// Both depend on the class no more than on the number of bytes. Must not: change what they are made of without another
// kFingerprintVersion; every baseline would be stale.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace tidemark {

struct Leak;
struct LeakFrame;

inline constexpr const char* kFingerprintVersion = "v1";

// {exact, fuzzy}, 16 hex digits each.
std::pair<std::string, std::string> FingerprintsOf(const Leak& leak);

// "libfoo.so" of "/usr/lib/libfoo.so.1.2.3" and "libfoo-1.2.so".
std::string ModuleStem(std::string_view path);
// "f<>(std::vector<>)" of "f<int>(std::vector<int>)"; operators <, <<, ->, <=> stay as they are.
std::string WithoutTemplateArguments(std::string_view function);
// Code of the C and C++ runtimes: a leak is never theirs when somebody of the program's own called them.
bool IsRuntimeFrame(const LeakFrame& frame);

}  // namespace tidemark
