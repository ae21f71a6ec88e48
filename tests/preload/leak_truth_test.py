"""Heaps whose leaks are known (programs/leak_truth.cc): found exactly, to the block and byte, and in their classes.

Not optimised, the verdict must be the truth. Optimised, a stale word in a register or a dead stack slot may hide a leak
as from any conservative collector; nothing that is held may be called lost, though.
"""
import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from tracing import SCRATCH, TOOL, clean_environment, compile_program

CLASSES = ("definite", "indirect", "possible", "reachable")


def plugin():
    source = Path(__file__).parent / "programs" / "leak_truth_plugin.c"
    target = Path(tempfile.mkdtemp(dir=SCRATCH)) / "plugin.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source], check=True)
    return target


def truth_of(output):
    """{case: {class: (blocks, bytes)}} as the program says."""
    truth = {}
    for line in output.decode().splitlines():
        name, *numbers = line.split()
        numbers = [int(number) for number in numbers]
        truth[name] = {kind: (numbers[2 * i], numbers[2 * i + 1]) for i, kind in enumerate(CLASSES)}
    return truth


def found_in(verdict):
    """The same, by the function case_NAME in the stacks of a verdict; None: what no case has made."""
    found = {}
    for leak in verdict["leaks"]:
        name = None
        for frame in leak["stack"]:
            if Path(frame["module"] or "").name.startswith("ld-linux"):
                break  # what the loader obtains for a case is its own affair: descriptors of threads and libraries
            if match := re.search(r"\bcase_(\w+)", frame["function"]):
                name = match[1]
                break
        row = found.setdefault(name, dict.fromkeys(CLASSES, (0, 0)))
        blocks, size = row[leak["class"]]
        row[leak["class"]] = (blocks + leak["direct"]["blocks"], size + leak["direct"]["bytes"])
    return found


class KnownLeaks(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.plugin = plugin()

    def check(self, *flags):
        program = compile_program("leak_truth.cc", "-g", "-pthread", *flags)
        trace = Path(tempfile.mkdtemp(dir=SCRATCH)) / "t.tmk"
        done = subprocess.run([TOOL, "record", "-q", "--mode", "full", "--leak-check", "-o", trace, "--", program,
                               self.plugin], capture_output=True, env=clean_environment(), timeout=300)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        verdict = subprocess.run([TOOL, "leaks", trace, "--format", "json", "--show", "all",
                                  "--no-default-suppressions"],
                                 capture_output=True, env=clean_environment(), timeout=300)
        self.assertEqual(verdict.returncode, 1, verdict.stderr)
        return truth_of(done.stdout), found_in(json.loads(verdict.stdout))

    def test_every_shape_not_optimised(self):
        truth, found = self.check("-O0")
        self.assertGreater(len(truth), 50)
        for name, expected in truth.items():
            with self.subTest(case=name):
                self.assertEqual(found.get(name, dict.fromkeys(CLASSES, (0, 0))), expected)

    def test_nothing_held_is_lost_when_optimised(self):
        truth, found = self.check("-O2")
        wanted = hit = 0
        for name, expected in truth.items():
            with self.subTest(case=name):
                row = found.get(name, dict.fromkeys(CLASSES, (0, 0)))
                self.assertEqual(sum(row[kind][0] for kind in CLASSES), sum(expected[kind][0] for kind in CLASSES))
                lost = [row[kind][0] for kind in ("definite", "indirect")]
                self.assertLessEqual(sum(lost), sum(expected[kind][0] for kind in ("definite", "indirect")))
                wanted += expected["definite"][0]
                hit += min(row["definite"][0], expected["definite"][0])
        self.assertGreaterEqual(hit, 0.9 * wanted)

    def test_what_the_libraries_keep_is_not_lost(self):
        _, found = self.check("-O0")
        rest = found.get(None, dict.fromkeys(CLASSES, (0, 0)))
        self.assertEqual([rest[kind] for kind in ("definite", "indirect")], [(0, 0), (0, 0)])


if __name__ == "__main__":
    unittest.main()
