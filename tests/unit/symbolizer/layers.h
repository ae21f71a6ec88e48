// The middle layer: inlines inner.h into whoever calls it. See inner.h.
#pragma once

#include "inner.h"

namespace depths {

template <typename T>
struct Middle {
  T factor;
  __attribute__((always_inline)) inline T Scale(T x) const {
    T sum = 0;
    for (T i = 0; i < x; ++i) {
      sum += factor;
      asm volatile("" : "+r"(sum));
    }
    LABEL(label_middle);    // TAG: middle
    return sum + Inner(x);  // TAG: middle_calls_inner
  }
};

}  // namespace depths
