// Innermost of the functions the symbolizer tests look up: inlined through two files. `TAG:` comments name the lines
// the test expects; labels name the addresses it asks for.
#pragma once

// A symbol at this very instruction; "used once" is up to the caller (an always_inline function inlined once).
#define LABEL(name) asm volatile(".globl " #name "\n" #name ": nop")

namespace depths {

static inline __attribute__((always_inline)) int Inner(int x) {
  LABEL(label_inner);  // TAG: inner
  return x * 3;
}

}  // namespace depths
