// Draws a call tree as one self-contained SVG: no network, no external fonts, a small script for hover, zoom and
// search.
//
// The picture is an icicle: the root is at the top, so that what is seen first needs no scrolling. Widths are exact;
// what is too narrow to see is merged into "(n frames below 0.1 %)", so that every level still adds up. Without its
// script (as an <img>, or printed) the picture is complete, with shorter labels. Colours: hue by module, shade by
// function, the same on every run; light and dark by the viewer's preference.
#pragma once

#include <string>

#include "tools/frame_names.h"
#include "tools/model/stack_tree.h"

namespace tidemark {

struct FlamegraphOptions {
  std::string title;
  std::string subtitle;
  std::string program;       // module name of the executable: gets a colour of its own
  bool bytes = true;         // otherwise blocks
  double min_percent = 0.1;  // frames below are merged; 0: none
};

std::string RenderFlamegraph(const StackTree& tree, const FrameNames& names, const FlamegraphOptions& options);

// Text that may stand in XML text and attributes: escaped, valid UTF-8, no forbidden characters.
std::string XmlText(std::string_view text);

}  // namespace tidemark
