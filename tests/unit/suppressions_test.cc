// Suppression files of LeakSanitizer and Valgrind: what their manuals promise, what is refused, and what it costs.
//
// fnmatch(3) is the second opinion about wildcards. Must not: depend on how long anything takes; the tests of cost
// would not end if it grew with more than the product of the lengths.
#include "tools/suppressions.h"

#include <fnmatch.h>
#include <gtest/gtest.h>

#include <random>

namespace tidemark {
namespace {

NamePattern Sanitizer(const std::string& text) {
  std::string why;
  std::optional<NamePattern> pattern = NamePattern::FromLeakSanitizer(text, &why);
  EXPECT_TRUE(pattern) << text << " " << why;
  return pattern.value_or(NamePattern());
}

NamePattern Valgrind(const std::string& text) {
  std::string why;
  std::optional<NamePattern> pattern = NamePattern::FromValgrind(text, &why);
  EXPECT_TRUE(pattern) << text << " " << why;
  return pattern.value_or(NamePattern());
}

TEST(NamePattern, LeakSanitizersMatchAnywhereUnlessAnchored) {
  EXPECT_TRUE(Sanitizer("Bar").Matches("FooBarBaz"));
  EXPECT_FALSE(Sanitizer("Bar").Matches("FooBaBaz"));
  EXPECT_TRUE(Sanitizer("^Foo").Matches("FooBar"));
  EXPECT_FALSE(Sanitizer("^Bar").Matches("FooBar"));
  EXPECT_TRUE(Sanitizer("Bar$").Matches("FooBar"));
  EXPECT_FALSE(Sanitizer("Foo$").Matches("FooBar"));
  EXPECT_TRUE(Sanitizer("^main$").Matches("main"));
  EXPECT_FALSE(Sanitizer("^main$").Matches("main2"));
  EXPECT_FALSE(Sanitizer("^main$").Matches("domain"));
  EXPECT_TRUE(Sanitizer("a*c").Matches("xxabbbcxx"));
  EXPECT_FALSE(Sanitizer("a*c").Matches("ca"));
  EXPECT_TRUE(Sanitizer("^a*c$").Matches("ac"));
  EXPECT_FALSE(Sanitizer("^ab*ba$").Matches("aba"));  // the pieces must not share a byte
  EXPECT_TRUE(Sanitizer("ab$").Matches("abab"));      // the end, not the first place
  EXPECT_TRUE(Sanitizer("*Func*").Matches("LeakingFunc"));
  EXPECT_TRUE(Sanitizer("^*").Matches("anything"));
  EXPECT_TRUE(Sanitizer("a?c").Matches("a?c"));  // no wildcard here
  EXPECT_FALSE(Sanitizer("a?c").Matches("abc"));
}

TEST(NamePattern, ValgrindsMatchTheWholeName) {
  EXPECT_TRUE(Valgrind("__mbr*toc").Matches("__mbrtowtoc"));
  EXPECT_FALSE(Valgrind("malloc").Matches("malloc_hook"));
  EXPECT_FALSE(Valgrind("malloc").Matches("xmalloc"));
  EXPECT_TRUE(Valgrind("*/libX11.so*").Matches("/usr/lib/libX11.so.6.2"));
  EXPECT_TRUE(Valgrind("_Z?wm").Matches("_Znwm"));
  EXPECT_FALSE(Valgrind("_Z?wm").Matches("_Zwm"));
  EXPECT_TRUE(Valgrind("???").Matches("???"));
  EXPECT_TRUE(Valgrind("^a$").Matches("^a$"));  // no anchors here
  EXPECT_TRUE(Valgrind("*?*").Matches("x"));
  EXPECT_FALSE(Valgrind("*?*").Matches(""));
}

TEST(NamePattern, SaysWhichOnesMatchEverything) {
  EXPECT_TRUE(Sanitizer("*").matches_all());
  EXPECT_TRUE(Sanitizer("^**$").matches_all());
  EXPECT_TRUE(Valgrind("*").matches_all());
  EXPECT_FALSE(Valgrind("*?").matches_all());
  EXPECT_FALSE(Sanitizer("m").matches_all());
}

TEST(NamePattern, AgreesWithFnmatch) {
  std::mt19937 random(7);
  const auto text = [&random](const char* letters, size_t count, size_t longest) {
    std::string made;
    for (size_t left = random() % (longest + 1); left != 0; --left) made += letters[random() % count];
    return made;
  };
  uint64_t matches = 0;
  for (int i = 0; i < 200'000; ++i) {
    const std::string name = text("ab", 2, 12), glob = text("ab*?", 4, 8), words = text("ab*", 3, 8);
    if (!glob.empty()) {
      const bool expected = fnmatch(glob.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
      ASSERT_EQ(Valgrind(glob).Matches(name), expected) << glob << " on " << name;
      matches += expected;
    }
    if (words.empty()) continue;
    const bool start = random() % 2 != 0, end = random() % 2 != 0;
    const std::string whole = (start ? "" : "*") + words + (end ? "" : "*");
    const bool expected = fnmatch(whole.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
    const std::string pattern = (start ? "^" : "") + words + (end ? "$" : "");
    ASSERT_EQ(Sanitizer(pattern).Matches(name), expected) << pattern << " on " << name;
    matches += expected;
  }
  EXPECT_GT(matches, 10'000u);
}

// With backtracking each of these would take longer than the machine will last.
TEST(NamePattern, ManyStarsCostNoMoreThanFew) {
  std::string stars, question;
  for (int i = 0; i < 1000; ++i) stars += "a*";
  for (int i = 0; i < 200; ++i) question += "a?*";
  const std::string name(60'000, 'a');
  EXPECT_FALSE(Sanitizer(stars + "b").Matches(name));
  EXPECT_FALSE(Valgrind(stars + "b").Matches(name));
  EXPECT_FALSE(Valgrind(question + "b").Matches(name));
  EXPECT_FALSE(Valgrind("*" + std::string(30'000, 'a') + "b*").Matches(name));
  EXPECT_FALSE(Valgrind("*" + std::string(254, 'a') + "?b*").Matches(name));
}

TEST(NamePattern, RefusesWhatCannotBeMeant) {
  std::string why;
  for (const std::string text : {"", "^", "$", "^$", "a$b", "$x"}) {
    EXPECT_FALSE(NamePattern::FromLeakSanitizer(text, &why)) << text;
    EXPECT_FALSE(why.empty());
    why.clear();
  }
  EXPECT_FALSE(NamePattern::FromLeakSanitizer(std::string(65'536, 'a'), &why));
  EXPECT_FALSE(NamePattern::FromValgrind("", &why));
  EXPECT_FALSE(NamePattern::FromValgrind(std::string(65'536, 'a'), &why));
  EXPECT_FALSE(NamePattern::FromValgrind(std::string(256, 'a') + "?", &why));
  EXPECT_TRUE(NamePattern::FromValgrind(std::string(255, 'a') + "?*" + std::string(1000, 'a'), &why));
}

// --- Files ----------------------------------------------------------------------------------------------------------

const std::vector<SuppressionFrame> kStack = {
    {"malloc", "malloc", "", "/lib/libtidemark.so"},
    {"operator new(unsigned long)", "_Znwm", "new_op.cc", "/lib/libstdc++.so.6", 50},
    {"Shop::Open(int)", "_ZN4Shop4OpenEi", "/home/me/src/shop.cc", "/opt/shop/bin/shop", 321},
    {"main", "main", "/home/me/src/main.cc", "/opt/shop/bin/shop", 9},
    {"", "", "", "/lib/libc.so.6"},
    {"", "", "", ""},
};

Suppressions Parse(const std::string& text) { return ParseSuppressions(text, "my.supp"); }

bool Hides(const std::string& text, LeakKind kind = kLeakDefinite) {
  Suppressions suppressions = Parse(text);
  EXPECT_EQ(suppressions.problem_count(), 0u) << suppressions.problems().front();
  EXPECT_EQ(suppressions.rules().size(), 1u) << text;
  return suppressions.Match(kStack, kind) != nullptr;
}

bool EntryHides(const std::string& frames, LeakKind kind = kLeakDefinite) {
  return Hides("{\n name\n Memcheck:Leak\n" + frames + "}\n", kind);
}

TEST(Suppressions, LeakSanitizersLookAtFunctionFileAndModuleOfAnyFrame) {
  EXPECT_TRUE(Hides("leak:Shop::Open"));
  EXPECT_TRUE(Hides("leak:src/shop.cc"));
  EXPECT_TRUE(Hides("leak:/opt/shop/bin/shop"));
  EXPECT_TRUE(Hides("leak:libstdc++.so*"));
  EXPECT_TRUE(Hides("leak:^main$"));
  EXPECT_TRUE(Hides("leak:<unknown module>"));
  EXPECT_FALSE(Hides("leak:_ZN4Shop4OpenEi"));  // it sees demangled names only
  EXPECT_FALSE(Hides("leak:^Open"));
  EXPECT_FALSE(Hides("leak: main"));  // a blank is part of the pattern
}

TEST(Suppressions, LeakSanitizersLinesMayHaveCommentsBlanksAndForeignKinds) {
  Suppressions suppressions = Parse(
      "\xef\xbb\xbf# known\r\n\r\n  leak:first \t\r\n\tleak:second:third\n# leak:no\nrace:x\n"
      "signed-integer-overflow:y\nvptr_check:z");
  EXPECT_EQ(suppressions.problem_count(), 0u);
  EXPECT_EQ(suppressions.ignored(), 3u);
  ASSERT_EQ(suppressions.rules().size(), 2u);
  EXPECT_EQ(suppressions.rules()[0].text, "leak:first");
  EXPECT_EQ(suppressions.rules()[0].line, 3u);
  EXPECT_EQ(suppressions.rules()[1].text, "leak:second:third");
  const SuppressionFrame frame{"my second:third one", "", "", ""};
  EXPECT_EQ(suppressions.Match({&frame, 1}, kLeakDefinite), &suppressions.rules()[1]);
}

TEST(Suppressions, ValgrindsFramesBeginAtTheAllocation) {
  EXPECT_TRUE(EntryHides("fun:malloc\n"));
  EXPECT_TRUE(EntryHides("fun:malloc\nfun:_Znwm\nfun:_ZN4Shop4OpenEi\n"));
  EXPECT_FALSE(EntryHides("fun:_Znwm\n"));                          // not the first frame
  EXPECT_FALSE(EntryHides("fun:malloc\nfun:_ZN4Shop4OpenEi\n"));    // a frame is left out
  EXPECT_FALSE(EntryHides("fun:malloc\nfun:operator new*\n"));      // names are mangled
  EXPECT_TRUE(EntryHides("fun:malloc\nobj:/lib/libstdc++.so*\n"));  // objects are whole paths
  EXPECT_FALSE(EntryHides("fun:malloc\nobj:libstdc++.so*\n"));
  EXPECT_TRUE(EntryHides("fun:*\nfun:_Z?wm\nsrc:shop.cc:321\nsrc:main.cc\n"));
  EXPECT_FALSE(EntryHides("...\nsrc:/home/*/shop.cc\n"));  // source files are names without folders
  EXPECT_FALSE(EntryHides("...\nsrc:shop.cc:320\n"));
  EXPECT_TRUE(EntryHides("...\nfun:main\nfun:\?\?\?\nobj:\?\?\?\n"));  // what is not known
  EXPECT_FALSE(EntryHides("...\nfun:main\nobj:*\nobj:*\nobj:*\n"));    // the stack ends
}

TEST(Suppressions, ValgrindsDotsAreAnyNumberOfFrames) {
  EXPECT_TRUE(EntryHides("...\nfun:main\n"));
  EXPECT_TRUE(EntryHides("fun:malloc\n...\nfun:main\n"));
  EXPECT_TRUE(EntryHides("fun:malloc\n...\nfun:_Znwm\n"));  // zero
  EXPECT_TRUE(EntryHides("fun:malloc\n...\n...\nfun:_ZN4Shop*\n...\nfun:main\n...\n"));
  EXPECT_FALSE(EntryHides("...\nfun:main\n...\nfun:malloc\n"));
}

// The first "a" is followed by another one each time but the last.
TEST(Suppressions, DotsTryEveryPlace) {
  const auto hides = [](const char* names) {
    std::vector<SuppressionFrame> stack;
    for (const char* name = names; *name != 0; ++name) stack.push_back({std::string_view(name, 1), "", "", ""});
    return Parse("{\nx\nMemcheck:Leak\n...\nfun:a\nfun:a\nfun:b\n}").Match(stack, kLeakDefinite) != nullptr;
  };
  EXPECT_TRUE(hides("aab"));
  EXPECT_TRUE(hides("aaab"));
  EXPECT_TRUE(hides("aaaaab"));
  EXPECT_TRUE(hides("abaabc"));
  EXPECT_FALSE(hides("abab"));
  EXPECT_FALSE(hides("aaa"));
}

TEST(Suppressions, LongStacksAndManyDotsEnd) {
  const std::vector<SuppressionFrame> stack(2000, SuppressionFrame{"f", "", "", ""});
  std::string entry = "{\nx\nMemcheck:Leak\n";
  for (int i = 0; i < 249; ++i) entry += "...\nfun:f\n";
  Suppressions suppressions = Parse(entry + "...\nfun:g\n}\n");
  ASSERT_EQ(suppressions.rules().size(), 1u);
  EXPECT_EQ(suppressions.Match(stack, kLeakDefinite), nullptr);
}

TEST(Suppressions, LeakKindsLimitAnEntry) {
  EXPECT_TRUE(EntryHides("match-leak-kinds: definite\nfun:malloc\n"));
  EXPECT_FALSE(EntryHides("match-leak-kinds: definite\nfun:malloc\n", kLeakReachable));
  EXPECT_TRUE(EntryHides("match-leak-kinds:possible,reachable\nfun:malloc\n", kLeakReachable));
  EXPECT_FALSE(EntryHides("match-leak-kinds:possible,reachable\nfun:malloc\n", kLeakIndirect));
  EXPECT_TRUE(EntryHides("match-leak-kinds: all\nfun:malloc\n", kLeakIndirect));
  EXPECT_FALSE(EntryHides("match-leak-kinds: none\nfun:malloc\n"));
  EXPECT_TRUE(EntryHides("fun:malloc\n", kLeakPossible));
}

TEST(Suppressions, OtherToolsAndErrorsAreCounted) {
  Suppressions suppressions = Parse(
      "{\n drd\n drd:ConflictingAccess\n fun:f\n}\n"
      "{\n param\n Memcheck:Param\n write(buf)\n fun:f\n}\n"
      "{\n both\n Helgrind,Memcheck:Leak\n fun:f\n}\n"
      "{\n lower\n memcheck:Leak\n fun:f\n}\n"
      "leak:also_this\n");
  EXPECT_EQ(suppressions.problem_count(), 0u);
  EXPECT_EQ(suppressions.ignored(), 3u);
  ASSERT_EQ(suppressions.rules().size(), 2u);
  EXPECT_EQ(suppressions.rules()[0].text, "both");
  EXPECT_EQ(suppressions.rules()[0].line, 12u);
}

TEST(Suppressions, TheFirstRuleThatMatchesIsUsed) {
  Suppressions suppressions = Parse("leak:nothing\nleak:main\n{\n v\n Memcheck:Leak\n fun:malloc\n}\nleak:*\n");
  ASSERT_EQ(suppressions.rules().size(), 4u);
  EXPECT_EQ(suppressions.Match(kStack, kLeakDefinite), &suppressions.rules()[1]);
  EXPECT_EQ(suppressions.Match(kStack, kLeakDefinite), &suppressions.rules()[1]);
  EXPECT_EQ(suppressions.Match({kStack.data(), 1}, kLeakDefinite), &suppressions.rules()[2]);
  EXPECT_EQ(suppressions.Match({}, kLeakDefinite), nullptr);
  EXPECT_EQ(suppressions.rules()[0].uses, 0u);
  EXPECT_EQ(suppressions.rules()[1].uses, 2u);
  EXPECT_EQ(suppressions.rules()[2].uses, 1u);
  EXPECT_FALSE(suppressions.rules()[2].matches_all);
  EXPECT_TRUE(suppressions.rules()[3].matches_all);
}

TEST(Suppressions, EntriesThatHideEverythingAreMarked) {
  EXPECT_TRUE(Parse("{\nx\nMemcheck:Leak\n...\nobj:*\n}").rules().at(0).matches_all);
  EXPECT_FALSE(Parse("{\nx\nMemcheck:Leak\n...\nobj:*\nfun:main\n}").rules().at(0).matches_all);
  EXPECT_FALSE(Parse("{\nx\nMemcheck:Leak\nsrc:*:5\n}").rules().at(0).matches_all);
}

// A bad line costs its own rule and says where it is; the rules around it stay.
TEST(Suppressions, ProblemsHaveAPlaceAndLoseNothingElse) {
  struct Case {
    const char* bad;
    const char* problem;
  };
  const Case cases[] = {
      {"nonsense", "my.supp:2: 'nonsense' is no suppression"},
      {"leek:main", "my.supp:2: 'leek' is no kind of suppression"},
      {"leak:", "my.supp:2: the pattern of 'leak:' names nothing"},
      {"leak:a$b", "my.supp:2: the pattern of 'leak:a$b' has a '$'"},
      {"fun:main", "my.supp:2: 'fun:main' is a frame outside of an entry"},
      {"}", "my.supp:2: '}' is no suppression"},
      {"{\n}", "my.supp:2: the entry that begins here needs a name"},
      {"{\nname\n}", "my.supp:2: the entry that begins here needs a name"},
      {"{\nname\nLeak\nfun:f\n}", "my.supp:4: 'Leak' is no kind of error"},
      {"{\nname\nMemcheck:Leak\n}", "my.supp:2: the entry names no frame"},
      {"{\nname\nMemcheck:Leak\n...\n}", "my.supp:5: the entry names no frame"},
      {"{\nname\nMemcheck:Leak\nmain\n}", "my.supp:5: 'main' is no frame"},
      {"{\nname\nMemcheck:Leak\nfun:\n}", "my.supp:5: the pattern of 'fun:' names nothing"},
      {"{\nname\nMemcheck:Leak\nsrc:a.c:x\n}", "my.supp:5: 'src:a.c:x' ends in no line number"},
      {"{\nname\nMemcheck:Leak\nmatch-leak-kinds: some\nfun:f\n}", "my.supp:5: 'match-leak-kinds: some' is no set"},
      {"{\nname\nMemcheck:Leak\nmatch-leak-kinds: definite,\nfun:f\n}", "my.supp:5: "},
      {"{\nname\nMemcheck:Leak\nfun:f\nmatch-leak-kinds: all\n}", "my.supp:6: 'match-leak-kinds: all' is no frame"},
      {"{\nname\nMemcheck:Leak\nfun:f", "my.supp:2: the entry that begins here has no '}'"},
      {"leak:\x1b]0;title\x07$x", "my.supp:2: the pattern of 'leak:?]0;title?$x' has a '$'"},
  };
  for (const Case& it : cases) {
    // Unclosed entries reach to the next '{' at most.
    const Suppressions suppressions =
        Parse(std::string("leak:before\n") + it.bad + "\n{\n after\n Memcheck:Leak\n fun:f\n}\n");
    EXPECT_EQ(suppressions.problem_count(), 1u) << it.bad;
    ASSERT_FALSE(suppressions.problems().empty()) << it.bad;
    EXPECT_TRUE(suppressions.problems()[0].starts_with(it.problem)) << suppressions.problems()[0];
    ASSERT_EQ(suppressions.rules().size(), 2u) << it.bad;
    EXPECT_EQ(suppressions.rules()[0].text, "leak:before");
    EXPECT_EQ(suppressions.rules()[1].text, "after");
  }
}

TEST(Suppressions, ProblemsAreListedUpToAHundredAndCounted) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "junk\n";
  const Suppressions suppressions = Parse(text + "leak:good");
  EXPECT_EQ(suppressions.problems().size(), 100u);
  EXPECT_EQ(suppressions.problem_count(), 1000u);
  EXPECT_EQ(suppressions.rules().size(), 1u);
}

TEST(Suppressions, LimitsAreSaid) {
  std::string rules, frames = "{\nname\nMemcheck:Leak\n";
  for (int i = 0; i < 100'002; ++i) rules += "leak:f\n";
  const Suppressions many = Parse(rules);
  EXPECT_EQ(many.rules().size(), 100'000u);
  ASSERT_EQ(many.problem_count(), 1u);
  EXPECT_TRUE(many.problems()[0].starts_with("my.supp:100001: the file has more than 100,000 rules"));
  for (int i = 0; i < 500; ++i) frames += "fun:f\n";
  EXPECT_EQ(Parse(frames + "}\n").rules().size(), 1u);
  const Suppressions deep = Parse(frames + "fun:g\n}\nleak:good\n");
  EXPECT_EQ(deep.rules().size(), 1u);
  ASSERT_EQ(deep.problem_count(), 1u);
  EXPECT_TRUE(deep.problems()[0].starts_with("my.supp:504: an entry has at most 500"));
}

TEST(Suppressions, NothingIsNothing) {
  EXPECT_TRUE(Parse("").rules().empty());
  EXPECT_TRUE(Parse("\n\n#\n").rules().empty());
  EXPECT_EQ(Parse("").problem_count(), 0u);
}

}  // namespace
}  // namespace tidemark
