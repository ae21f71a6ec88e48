// Where libtidemark.so is, and a path to it that LD_PRELOAD can hold.
//
// ld.so splits LD_PRELOAD at spaces and colons, without any way to quote: a library in "/opt/my tools" is reached
// through a symbolic link in a fresh private directory. Must not: print (the caller says what is wrong).
#pragma once

#include <string>
#include <vector>

#include "tools/result.h"

namespace tidemark {

// Next to this executable in the build tree, where it was installed, or $TIDEMARK_LIBRARY. Absolute.
Result<std::string> FindLibrary();

struct PreloadPath {
  std::string path;               // without space and colon
  std::vector<std::string> made;  // what was created for it: the link, then its directory
};
Result<PreloadPath> MakePreloadPath(const std::string& library);

}  // namespace tidemark
