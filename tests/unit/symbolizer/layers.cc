// The program the symbolizer tests look up addresses in: inlined chains, hidden functions, C linkage, templates.
// Compile it with optimisation, or the chains are not the ones the test expects.
#include "layers.h"

#include <cstdio>

namespace depths {
namespace {

__attribute__((noinline)) int Hidden(int x) {
  LABEL(label_hidden);  // TAG: hidden
  return x + 1;
}

// Inlined and without linkage name: its scope has to come from the DWARF tree.
__attribute__((always_inline)) inline int HiddenInline(int x) {
  LABEL(label_hidden_inline);  // TAG: hidden_inline
  return x * 7;
}

}  // namespace

__attribute__((noinline)) int Physical(int x) {
  Middle<int> middle{x};
  int result = middle.Scale(x);     // TAG: physical_calls_middle
  LABEL(label_physical);            // TAG: physical
  return result + HiddenInline(x);  // TAG: physical_calls_hidden_inline
}

template <typename Function>
__attribute__((noinline)) int Apply(int x, Function function) {
  return function(x) + x;
}

}  // namespace depths

extern "C" __attribute__((noinline)) int plain_c_function(int x) {
  LABEL(label_plain);  // TAG: plain
  return x * x;
}

int main(int argc, char**) {
  int result = depths::Physical(argc) + depths::Hidden(argc) + plain_c_function(argc);
  result += depths::Apply(argc, [](int x) {
    LABEL(label_lambda);  // TAG: lambda
    return x * 11;
  });
  return std::printf("%d\n", result) < 0;
}
