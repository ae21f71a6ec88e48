// A shared library for the tests of symbol tables: stripped, only Exported is left; with .gnu_debugdata, Local too.
#include "inner.h"

__attribute__((noinline)) static int Local(int x) {
  LABEL(label_local);
  return x - 5;
}

namespace depths {
int Exported(int x) {
  LABEL(label_exported);
  return Local(x) * 2;
}
}  // namespace depths

extern "C" __attribute__((alias("_ZN6depths8ExportedEi"))) int __exported_alias(int x);
