// Debug sections compressed with zstd, unpacked into an image libdw can read (libdw 0.188 knows only zlib).
#pragma once

#include <memory>
#include <string>

#include "tools/elf_image.h"

namespace tidemark {

// A copy of `image` with its segments and debug sections only, the zstd ones unpacked; nullptr and *error (one phrase)
// when a section is damaged or unpacks to more than any real debug file holds.
std::unique_ptr<ElfImage> UnpackZstdSections(const ElfImage& image, std::string* error);

}  // namespace tidemark
