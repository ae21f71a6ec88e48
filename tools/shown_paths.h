// How paths of source files and modules are shown outside: whole, without a prefix, or as file names alone.
//
// A path tells whose home it lies in and how a company names its trees; whoever passes a profile on may not want that.
// The result is plain text: control characters are gone. Must not: look at the file system.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

class ShownPaths {
 public:
  ShownPaths() = default;
  // `prefixes`: folders that are cut off, the longest that fits. `short_paths`: only the last part is shown.
  ShownPaths(std::vector<std::string> prefixes, bool short_paths)
      : prefixes_(std::move(prefixes)), short_paths_(short_paths) {}

  std::string Of(std::string_view path) const;

 private:
  std::vector<std::string> prefixes_;
  bool short_paths_ = false;
};

}  // namespace tidemark
