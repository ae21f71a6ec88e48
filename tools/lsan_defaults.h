// Suppressions that a program brings along for LeakSanitizer: the text that its __lsan_default_suppressions() returns.
//
// The function is not run. Nearly all of them return a string constant, which compilers turn into one load of an
// address and a return: that is read from the file. Anything else is said to be out of reach. Must not: execute,
// disassemble more than these few forms.
#pragma once

#include <string>

#include "tools/elf_image.h"

namespace tidemark {

struct EmbeddedSuppressions {
  bool present = false;  // the function is there
  std::string text;
  std::string why_not;  // present, but its text cannot be had
};

EmbeddedSuppressions FindEmbeddedSuppressions(const ElfImage& image);

}  // namespace tidemark
