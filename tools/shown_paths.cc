// See shown_paths.h.
#include "tools/shown_paths.h"

#include <algorithm>

#include "tools/text_table.h"

namespace tidemark {

std::string ShownPaths::Of(std::string_view path) const {
  if (short_paths_) {
    const size_t slash = path.rfind('/');
    return Printable(slash == std::string_view::npos || slash + 1 == path.size() ? path : path.substr(slash + 1));
  }
  size_t cut = 0;
  for (const std::string& prefix : prefixes_) {
    std::string_view folder = prefix;
    while (!folder.empty() && folder.back() == '/') folder.remove_suffix(1);
    // A folder of the path, not just its first letters.
    if (path.size() <= folder.size() + 1 || path.substr(0, folder.size()) != folder || path[folder.size()] != '/') {
      continue;
    }
    cut = std::max(cut, folder.size() + 1);
  }
  return Printable(path.substr(cut));
}

}  // namespace tidemark
