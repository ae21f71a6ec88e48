// Demangling: the languages, the tidying, and the bounds on names made to hurt.
#include <gtest/gtest.h>

#include <chrono>

#include "tools/symbolizer.h"

namespace tidemark {
namespace {

TEST(Demangle, Languages) {
  EXPECT_EQ(Demangle("_ZN3foo3barEi"), "foo::bar(int)");
  EXPECT_EQ(Demangle("_ZNSt6vectorIiSaIiEE9push_backEOi"), "std::vector<int, std::allocator<int> >::push_back(int&&)");
  EXPECT_EQ(Demangle("_ZN3foo3barEi.cold"), "foo::bar(int) [clone .cold]");
  EXPECT_EQ(Demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
  EXPECT_EQ(Demangle("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
  EXPECT_EQ(Demangle("_RNvNtCs1234_7mycrate3foo3bar.llvm.123456789"), "mycrate::foo::bar");
  EXPECT_EQ(Demangle("_D3std5stdio7writelnFZv"), "std.stdio.writeln()");
}

TEST(Demangle, LeavesOthersAlone) {
  for (const std::string name : {"", "_", "main", "malloc", "_start", "_Z", "_Znotmangled!", "_Dynamic", "_RRR",
                                 "_DYNAMIC", "$s4main3fooyyF", "a b c"}) {
    EXPECT_EQ(Demangle(name), name);
  }
  const std::string with_zero("_ZN3foo3barEi\0x", 15);
  EXPECT_EQ(Demangle(with_zero), with_zero);
}

TEST(Demangle, LongTemplateNames) {
  // libiberty on its own gives up beyond 1024 bytes.
  std::string name = "_Z1fI";
  std::string arguments;
  for (int i = 0; i < 400; ++i) arguments += "6Member";
  name += arguments + "EvT_";
  ASSERT_GT(name.size(), 1024u);
  EXPECT_TRUE(Demangle(name).starts_with("void f<Member, Member"));
}

TEST(Demangle, HostileNamesEndSoon) {
  const auto start = std::chrono::steady_clock::now();
  // Every S_ doubles the one before: 2^30 characters when written out.
  std::string doubling = "_Z1fSt4pairIiiE";
  for (int i = 0; i < 30; ++i) {
    const std::string last =
        i == 0 ? "S_" : "S" + std::string(1, static_cast<char>(i <= 10 ? '0' + i - 1 : 'A' + i - 11)) + "_";
    doubling += "St4pairI" + last + last + "E";
  }
  Demangle(doubling);
  Demangle("_Z" + std::string(8000, 'P') + "i");
  Demangle("_Z1f" + std::string(8000, 'P') + "i");
  Demangle("_ZN" + std::string(8000, 'N') + "E");
  Demangle("_R" + std::string(8000, 'N'));
  Demangle("_D3foo" + std::string(8000, 'P') + "i");
  Demangle("_D3fooF" + std::string(4000, 'F') + std::string(4000, 'Z') + "v");
  const std::string huge = "_Z" + std::string(1 << 20, 'x');
  EXPECT_EQ(Demangle(huge), huge);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace tidemark
