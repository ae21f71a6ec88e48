// TIDEMARK_OPTIONS: every key, every suffix, and everything that is not one.
#include "profiler/options.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tidemark {
namespace {

constexpr char kSession[] = "0123456789abcdef0123456789abcdef";

TEST(Options, Defaults) {
  for (const char* text : {static_cast<const char*>(nullptr), "", ",", ",,,"}) {
    const Options o = ParseOptions(text);
    EXPECT_FALSE(o.present);
    EXPECT_STREQ(o.session, "");
    EXPECT_STREQ(o.out, "tidemark.%p.tmk");
    EXPECT_EQ(o.sample_bytes, 512u << 10);
    EXPECT_EQ(o.ring_bytes, 0u);
    EXPECT_EQ(o.seed, 0u);
    EXPECT_EQ(o.guard, 0u);
    EXPECT_FALSE(o.leak_check);
    EXPECT_EQ(o.leak_check_signal, 0u);
    EXPECT_STREQ(o.error, "");
  }
}

TEST(Options, LeakCheck) {
  for (const char* yes : {"leak_check=yes", "leak_check=1"}) EXPECT_TRUE(ParseOptions(yes).leak_check) << yes;
  for (const char* no : {"leak_check=no", "leak_check=0"}) EXPECT_FALSE(ParseOptions(no).leak_check) << no;
  EXPECT_EQ(ParseOptions("leak_check_signal=15").leak_check_signal, 15u);
  for (const char* wrong : {"leak_check=exit", "leak_check=", "leak_check_signal=65", "leak_check_signal=TERM"}) {
    EXPECT_STREQ(ParseOptions(wrong).error, wrong);
  }
}

TEST(Options, EveryKey) {
  const Options o = ParseOptions((std::string("mode=full,out=/a b/%p.tmk,session=") + kSession +
                                  ",sample_bytes=64K,guard=50,seed=7,ring_bytes=16M,follow=no")
                                     .c_str());
  EXPECT_STREQ(o.error, "");
  EXPECT_TRUE(o.present);
  EXPECT_EQ(o.mode, Mode::kFull);
  EXPECT_STREQ(o.out, "/a b/%p.tmk");
  EXPECT_STREQ(o.session, kSession);
  EXPECT_EQ(o.sample_bytes, 64u << 10);
  EXPECT_EQ(o.guard, 50u);
  EXPECT_EQ(o.seed, 7u);
  EXPECT_EQ(o.ring_bytes, 16u << 20);
  const Options sampled = ParseOptions("mode=sampled,follow=yes");
  EXPECT_TRUE(sampled.present);
  EXPECT_EQ(sampled.mode, Mode::kSampled);
  EXPECT_STREQ(sampled.error, "");
}

TEST(Options, Suffixes) {
  const struct {
    const char* text;
    uint64_t value;
  } kCases[] = {{"1", 1},        {"1k", 1 << 10},           {"1K", 1 << 10},           {"3m", 3 << 20},
                {"3M", 3 << 20}, {"2g", uint64_t{2} << 30}, {"2G", uint64_t{2} << 30}, {"007", 7}};
  for (const auto& c : kCases) {
    const Options o = ParseOptions((std::string("sample_bytes=") + c.text).c_str());
    EXPECT_EQ(o.sample_bytes, c.value) << c.text;
    EXPECT_STREQ(o.error, "") << c.text;
  }
}

TEST(Options, EdgesOfNumbers) {
  EXPECT_EQ(ParseOptions("seed=18446744073709551615").seed, ~uint64_t{0});
  EXPECT_EQ(ParseOptions("seed=17179869183G").seed, uint64_t{17179869183} << 30);
  EXPECT_EQ(ParseOptions("sample_bytes=1024G").sample_bytes, uint64_t{1} << 40);
  EXPECT_EQ(ParseOptions("ring_bytes=64K").ring_bytes, 64u << 10);
  EXPECT_EQ(ParseOptions("ring_bytes=1G").ring_bytes, 1u << 30);
  EXPECT_EQ(ParseOptions("guard=0").guard, 0u);
}

// What cannot be understood is reported as it was written, and leaves the value that was there before.
TEST(Options, JunkIsReportedAndChangesNothing) {
  const Options defaults;
  for (const char* text : {"seed=18446744073709551616",
                           "seed=99999999999999999999",
                           "seed=18446744073709551615K",
                           "seed=17179869184G",
                           "seed=",
                           "seed",
                           "seed=-1",
                           "seed=+1",
                           "seed=1.5",
                           "seed= 1",
                           "seed=1 ",
                           "seed=0x10",
                           "seed=1KB",
                           "seed=1KK",
                           "seed=K",
                           "seed=1T",
                           "seed=1\x0b",
                           "sample_bytes=0",
                           "sample_bytes=1025G",
                           "ring_bytes=65535",
                           "ring_bytes=1025M",
                           "ring_bytes=0",
                           "guard=1073741825",
                           "guard=4294967297",
                           "mode=",
                           "mode=Full",
                           "mode=sampledx",
                           "mode",
                           "session=",
                           "session=0123",
                           "session=0123456789abcdef0123456789abcdef0",
                           "out=",
                           "out",
                           "follow=",
                           "follow=maybe",
                           "unknown=1",
                           "unknown",
                           "=",
                           "=1",
                           "Seed=1",
                           " seed=1",
                           "sampl=1",
                           "mode =full"}) {
    const Options o = ParseOptions(text);
    EXPECT_STREQ(o.error, text);
    EXPECT_FALSE(o.present) << text;
    EXPECT_EQ(o.seed, defaults.seed) << text;
    EXPECT_EQ(o.sample_bytes, defaults.sample_bytes) << text;
    EXPECT_EQ(o.ring_bytes, defaults.ring_bytes) << text;
    EXPECT_EQ(o.guard, defaults.guard) << text;
    EXPECT_STREQ(o.session, defaults.session) << text;
    EXPECT_STREQ(o.out, defaults.out) << text;
  }
}

// A session is the name of a socket: nothing but hex digits can be one.
TEST(Options, SessionIsHexadecimal) {
  EXPECT_STREQ(ParseOptions("session=0123456789abcdef0123456789abcdeg").session, "");
  EXPECT_STRNE(ParseOptions("session=0123456789abcdef0123456789abcdeg").error, "");
  EXPECT_STRNE(ParseOptions("session=0123456789ABCDEF0123456789abcdef").error, "");
}

TEST(Options, FirstErrorIsKeptAndTheRestStillCounts) {
  const Options o = ParseOptions("mode=full,bad=1,seed=3,worse=2,guard=9");
  EXPECT_STREQ(o.error, "bad=1");
  EXPECT_TRUE(o.present);
  EXPECT_EQ(o.mode, Mode::kFull);
  EXPECT_EQ(o.seed, 3u);
  EXPECT_EQ(o.guard, 9u);
  const Options again = ParseOptions("mode=full,mode=nonsense");
  EXPECT_TRUE(again.present);
  EXPECT_EQ(again.mode, Mode::kFull);
}

TEST(Options, LongTextIsCutNotOverrun) {
  const std::string word(5000, 'x');
  const Options unknown = ParseOptions(word.c_str());
  EXPECT_EQ(std::string(unknown.error), word.substr(0, sizeof(unknown.error) - 1));
  const Options path = ParseOptions(("out=" + word).c_str());
  EXPECT_STREQ(path.out, "tidemark.%p.tmk");
  EXPECT_EQ(std::string(path.error).substr(0, 8), "out=xxxx");
  Options fits;
  const std::string longest(sizeof(fits.out) - 1, 'y');
  fits = ParseOptions(("out=" + longest).c_str());
  EXPECT_EQ(fits.out, longest);
  EXPECT_STREQ(fits.error, "");
  EXPECT_STRNE(ParseOptions(("out=" + longest + "y").c_str()).error, "");
}

TEST(Options, RandomTextNeverCrashes) {
  std::mt19937_64 random(11);
  const std::string pieces[] = {"mode",
                                "=",
                                "full",
                                ",",
                                "seed",
                                "99999999999999999999999",
                                "K",
                                "out",
                                "session",
                                std::string(40, 'a'),
                                "sample_bytes",
                                "\xff",
                                "%p",
                                " "};
  int errors = 0;
  for (int i = 0; i < 20000; i++) {
    std::string text;
    for (size_t n = random() % 12; n > 0; n--) text += pieces[random() % std::size(pieces)];
    const Options o = ParseOptions(text.c_str());
    EXPECT_LT(strnlen(o.error, sizeof o.error), sizeof o.error);
    EXPECT_LT(strnlen(o.out, sizeof o.out), sizeof o.out);
    EXPECT_LT(strnlen(o.session, sizeof o.session), sizeof o.session);
    EXPECT_GE(o.sample_bytes, 1u);
    errors += o.error[0] != 0;
  }
  EXPECT_GT(errors, 1000);
}

}  // namespace
}  // namespace tidemark
