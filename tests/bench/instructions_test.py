"""Instructions per call against bench/instructions.json, and how they are read out of callgrind's dumps.

Must not: take times; instructions are the same on a busy machine.
"""
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ.get("TIDEMARK_SOURCE_DIR", Path(__file__).resolve().parent.parent.parent))
BUILD = Path(os.environ.get("TIDEMARK_BUILD_DIR", ROOT / "build"))
sys.path.insert(0, str(ROOT / "bench"))

import instructions  # noqa: E402

VERSIONS = {"architecture": "x", "libc": "l", "mimalloc": "m", "compiler": "c"}


def dump(title: str, total: int) -> str:
    return f"version: 1\ndesc: Trigger: Client Request: {title}\nevents: Ir\nsummary: {total}\nfn=(1) main\n"


class DumpTest(unittest.TestCase):
    def test_the_difference_of_two_lengths(self):
        texts = [dump("pair 1000", 60_500), dump("pair 11000", 660_500), "desc: Trigger: Program termination\n"]
        self.assertEqual(instructions.counts_of_dumps(texts), {"pair": 60.0})

    def test_one_length_is_nothing(self):
        self.assertEqual(instructions.counts_of_dumps([dump("pair 1000", 5)]), {})


class DifferenceTest(unittest.TestCase):
    def setUp(self):
        self.golden = {"tolerance": 0.5, "versions": VERSIONS,
                       "counts": {"mimalloc": {"pair": 50.0}, "tidemark": {"pair": 56.0}}}
        self.measured = {"versions": VERSIONS, "gaps": {},
                         "counts": {"mimalloc": {"pair": 50.2}, "tidemark": {"pair": 56.4}}}

    def test_within_tolerance(self):
        self.assertEqual(instructions.differences(self.golden, self.measured), [])

    def test_beyond_it_in_either_direction(self):
        for value in (55.0, 57.0):
            self.measured["counts"]["tidemark"]["pair"] = value
            self.assertEqual(len(instructions.differences(self.golden, self.measured)), 1)

    def test_other_versions_compare_what_is_added(self):
        self.measured["versions"] = {**VERSIONS, "libc": "other"}
        self.measured["counts"] = {"mimalloc": {"pair": 80.0}, "tidemark": {"pair": 86.0}}
        self.assertEqual(instructions.differences(self.golden, self.measured), [])
        self.measured["counts"]["tidemark"]["pair"] = 90.0
        self.assertEqual(len(instructions.differences(self.golden, self.measured)), 1)

    def test_a_gap_is_a_difference(self):
        del self.measured["counts"]["tidemark"]
        self.measured["gaps"] = {"tidemark": "it did not take over"}
        self.assertIn("it did not take over", instructions.differences(self.golden, self.measured)[0])


class GoldenTest(unittest.TestCase):
    def test_this_build_takes_the_instructions_of_the_golden_file(self):
        with tempfile.TemporaryDirectory() as folder:
            measured = instructions.measure(Path(folder), BUILD)
        if "gap" in measured:
            self.skipTest(measured["gap"])
        missing = {name: gap for name, gap in measured["gaps"].items() if name != "tidemark"}
        if missing:
            self.skipTest("; ".join(f"{name}: {gap}" for name, gap in missing.items()))
        found = instructions.differences(json.loads(instructions.GOLDEN.read_text()), measured)
        if found:
            self.fail("\n".join([*found, "if this is meant, write it down: ./dev bench instructions --update"]))


if __name__ == "__main__":
    unittest.main()
