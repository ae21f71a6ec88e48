// One number for every place in the source that calls the allocator.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "tools/frame_names.h"

namespace tidemark {

// Frames that differ only in having been inlined are one site.
class Sites {
 public:
  explicit Sites(const FrameNames& names) : names_(names) {}
  uint32_t Of(uint32_t frame) {
    const NamedFrame& it = names_.frame(frame);
    return sites_.try_emplace({it.function, it.line, it.file}, frame).first->second;
  }

 private:
  const FrameNames& names_;
  std::map<std::tuple<uint32_t, uint32_t, std::string>, uint32_t> sites_;
};

}  // namespace tidemark
