// Where a view goes: a file that the user named, or stdout for "-". An existing file is replaced only when everything
// was written: the text goes to a new file beside it, which is renamed at the end.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "tools/result.h"

namespace tidemark {

class OutputStream {
 public:
  static Result<OutputStream> Open(const std::string& path);
  OutputStream(OutputStream&& other) noexcept;
  ~OutputStream();  // without Commit: nothing is left behind

  void Write(std::string_view text);
  // Empty: all of it is where it belongs.
  std::optional<Error> Commit();

 private:
  OutputStream(std::string path, std::string temporary, std::FILE* file)
      : path_(std::move(path)), temporary_(std::move(temporary)), file_(file) {}
  Error Failure(const char* what);

  std::string path_;
  std::string temporary_;  // "": written in place (stdout, devices, pipes)
  std::FILE* file_;
  int error_ = 0;  // errno of the first failed write
};

}  // namespace tidemark
