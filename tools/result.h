// Errors of the tools: returned upward with context, printed once in main. No exceptions.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace tidemark {

// Exit statuses of all subcommands but `record` (which passes the profiled command's status through).
enum class ExitStatus : int { kOk = 0, kFinding = 1, kUsage = 2, kUnreadable = 3, kCouldNotCheck = 4 };

struct Error {
  ExitStatus status = ExitStatus::kUnreadable;
  std::string message;  // one sentence: what happened, where, what to do
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : value_(std::move(error)) {}  // NOLINT: implicit by design
  bool ok() const { return std::holds_alternative<T>(value_); }
  explicit operator bool() const { return ok(); }
  T& operator*() { return std::get<T>(value_); }
  const T& operator*() const { return std::get<T>(value_); }
  T* operator->() { return &std::get<T>(value_); }
  const T* operator->() const { return &std::get<T>(value_); }
  const Error& error() const { return std::get<Error>(value_); }

 private:
  std::variant<T, Error> value_;
};

}  // namespace tidemark
