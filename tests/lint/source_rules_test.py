"""Holds the tree to the rules of rules.py, and every rule to a sample that violates it and one that does not.

Must not: know the rules' insides; a rule without a sample fails here.
"""
import unittest

import rules
import tree

OPEN = "// What it is.\n"
HEADER = OPEN + "#pragma once\n"

# rule -> (violating samples, samples that are fine); a sample is {path: text}.
SAMPLES = {
    rules.include_direction: (
        [{"profiler/ring.cc": '#include "interpose/heap.h"\n'}, {"profiler/ring.cc": '#include "tools/result.h"\n'},
         {"interpose/heap.cc": '#include "tools/result.h"\n'}, {"tools/main.cc": '#include "interpose/heap.h"\n'},
         {"tools/main.cc": '#include "profiler/sampler.h"\n'}, {"profiler/ring.cc": '#include "../tools/result.h"\n'},
         {"examples/marks.cc": '#include "profiler/session.h"\n'}],
        [{"interpose/heap.cc": '#include "profiler/recorder.h"\n', "tools/main.cc": '#include "profiler/session.h"\n',
          "profiler/ring.cc": "#include <vector>\n", "tests/unit/ring_test.cc": '#include "tools/result.h"\n'}]),
    rules.sole_owner_headers: (
        [{"a.cc": "#include <mimalloc.h>\n", "b.cc": "#include <mimalloc-override.h>\n"},
         {"a.cc": "#include <libunwind.h>\n", "b.h": "#  include <libunwind-x86_64.h>\n"},
         {"a.cc": "#include <capstone/capstone.h>\n", "b.cc": "#include <capstone/x86.h>\n"},
         {"a.cc": "#include <elfutils/libdw.h>\n", "b.cc": "#include <dwarf.h>\n"}],
        [{"a.cc": "#include <mimalloc.h>\n#include <libunwind.h>\n", "tests/a.cc": "#include <libunwind.h>\n"}]),
    rules.file_length: ([{"a.py": "x\n" * 601}], [{"a.py": "x\n" * 600, "a.json": "1\n" * 601}]),
    rules.vague_names: (
        [{"tools/string_" + "util.cc": OPEN}, {"common" + "/a.cc": OPEN}, {"a.h": "struct Frame" + "Helper {\n"},
         {"a.h": "namespace mis" + "c {\n"}],
        [{"tools/commander.cc": "class Utilization {};\n"}]),
    rules.pragma_once: (
        [{"a.h": OPEN}, {"a.h": OPEN + "// #pragma once\n"}, {"a.h": OPEN + "#ifndef A_H\n#define A_H\n"}],
        [{"a.h": HEADER, "a.cc": OPEN, "p/include/a.h": OPEN + "#ifndef A_H\n#define A_H\n#endif\n"}]),
    rules.opening_comment: (
        [{"a.cc": "#include <vector>\n"}, {"a.h": "#pragma once\n// late\n"}, {"a.py": "#!/usr/bin/python3\nx = 1\n"}],
        [{"a.cc": OPEN, "a.py": '#!/usr/bin/python3\n"""What."""\n', "b.py": "", "a.h": "/* What. */\n"}]),
    rules.unfinished_markers: ([{"a.cc": f"// {word}: later\n"} for word in rules.MARKERS],
                               [{"a.sh": "mktemp /tmp/a.XX" + "XXXX\n"}]),
    rules.registry_hosts: ([{"a.md": f"from https://{host}/simple\n"} for host in rules.REGISTRY_HOSTS],
                           [{"a.md": "see https://www.debian.org/\n"}]),
    rules.machine_paths: ([{"a.md": f"in `{path}main`\n"} for path in rules.MACHINE_PATHS],
                          [{"a.md": "/usr/lib/debug, /proc/self/maps, home" + "/wo" + "rk/x, ${a}/ro" + "ot/\n"}]),
    rules.whitespace: ([{"a.md": "a \n"}, {"a.cc": "\ta\n"}, {"a.md": "a"}], [{"a.md": "a\n", "a.sh": "\ta\n"}]),
    rules.line_width: ([{"a.cc": "x" * 121}], [{"a.cc": "x" * 120, "a.md": "x" * 121}]),
    rules.meson_knows_every_source: (
        [{"tools/a.cc": "", "tools/meson.build": "'b.cc'"}, {"tests/unit/a_test.cc": "", "tests/meson.build": "'ab'"}],
        [{"tools/a.cc": "", "tools/meson.build": "'a.cc'", "tests/unit/b_test.cc": "",
          "tests/unit/meson.build": "'b': []", "tests/preload/sample.cc": "", "profiler/c.cc": "",
          "interpose/meson.build": "'../profiler/c.cc'"}]),
}


class SampleTest(unittest.TestCase):
    def test_every_rule_has_samples(self):
        self.assertEqual(set(SAMPLES), set(rules.ALL))

    def test_violating_samples_are_found(self):
        for rule, (bad, _) in SAMPLES.items():
            for sample in bad:
                with self.subTest(rule=rule.__name__, sample=str(sample)[:200]):
                    self.assertTrue(rule(sample))

    def test_fine_samples_are_not(self):
        for rule, (_, fine) in SAMPLES.items():
            for sample in fine:
                with self.subTest(rule=rule.__name__):
                    self.assertEqual(rule(sample), [])


class TreeTest(unittest.TestCase):
    """One test per rule over the whole tree."""

    @classmethod
    def setUpClass(cls):
        cls.texts = tree.tree_texts()

    def test_there_are_files(self):
        self.assertIn("meson.build", self.texts)
        self.assertIn("tools/result.h", self.texts)


def tree_test(rule):
    def test(self):
        violations = rule(self.texts)
        if violations:
            self.fail("\n" + "\n".join(violations))
    return test


for _rule in rules.ALL:
    setattr(TreeTest, f"test_{_rule.__name__}", tree_test(_rule))


if __name__ == "__main__":
    unittest.main()
