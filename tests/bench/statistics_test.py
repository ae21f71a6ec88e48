"""The statistics of the benchmarks, and what two reports are compared by. No measuring: numbers are given.

Must not: depend on this machine's speed.
"""
import copy
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ.get("TIDEMARK_SOURCE_DIR", Path(__file__).resolve().parent.parent.parent))
sys.path.insert(0, str(ROOT / "bench"))

import compare  # noqa: E402
import ratios  # noqa: E402
import trend  # noqa: E402
from ratios import Spread  # noqa: E402


def run(user_s: float, system_s: float = 0.0, other_s: float = 0.0, peak: int = 1 << 20) -> dict:
    return {"user_s": user_s, "system_s": system_s, "other_s": other_s, "wall_s": user_s, "host_peak_bytes": peak,
            "tree_peak_bytes": peak, "output_bytes": 0}


def series(*seconds: float, **facts: object) -> dict:
    return {"size": "full", "gap": "", "runs": [run(s) for s in seconds], "facts": dict(facts)}


def report(**peers: dict) -> dict:
    return {"schema": compare.SCHEMA, "date": "2026-01-01T00:00:00", "revision": "r1", "quick": False,
            "machine": {"cpu": "A"}, "instructions": {}, "series": [],
            "workloads": {"w": {"size": "full", "definition": "d", "peers": peers}}}


class RatioTest(unittest.TestCase):
    def test_ratios_are_taken_round_by_round(self):
        # The machine was half as fast in the second round: the ratio is the same all the same.
        found = ratios.ratio([run(3), run(6), run(3.3)], [run(2), run(4), run(2)], "cpu")
        self.assertAlmostEqual(found.median, 1.5)
        self.assertAlmostEqual(found.low, 1.5)
        self.assertAlmostEqual(found.high, 1.65)
        self.assertEqual(found.count, 3)

    def test_rounds_that_one_side_lacks_do_not_count(self):
        self.assertEqual(ratios.ratio([run(3)], [run(2), run(100)], "cpu"), Spread(1.5, 1.5, 1.5, 1))
        self.assertIsNone(ratios.ratio([], [run(2)], "cpu"))
        self.assertIsNone(ratios.ratio([run(1)], [run(0)], "cpu"))

    def test_metrics(self):
        one = run(3, 1, 0.5)
        self.assertEqual(ratios.METRICS["cpu"](one), 4)
        self.assertEqual(ratios.METRICS["user"](one), 3)
        self.assertEqual(ratios.METRICS["other"](one), 0.5)

    def test_added_share(self):
        found = ratios.added_share([run(2)], [run(5)], [run(1)], "cpu")
        self.assertAlmostEqual(found.median, 0.25)
        self.assertIsNone(ratios.added_share([run(2)], [run(1.01)], [run(1)], "cpu", 0.05), "too little to divide by")

    def test_flatness(self):
        self.assertEqual(ratios.flatness([2.0, 3.0, 4.0]), 2.0)
        self.assertEqual(ratios.flatness([0.0, 3.0]), float("inf"))

    def test_text(self):
        self.assertEqual(Spread(1.5, 1.25, 2, 3).text(), "1.50 (1.25-2.00)")
        self.assertEqual(Spread(1.5, 1.5, 1.5, 1).text(), "1.50")


class ChangeTest(unittest.TestCase):
    def test_ranges_that_touch_are_noise(self):
        self.assertEqual(ratios.change(Spread(1, 0.9, 1.2, 9), Spread(1.3, 1.2, 1.4, 9), 0.03), "")

    def test_small_changes_are_none(self):
        self.assertEqual(ratios.change(Spread(1, 1, 1.001, 9), Spread(1.02, 1.01, 1.03, 9), 0.03), "")

    def test_both_directions(self):
        self.assertEqual(ratios.change(Spread(1, 0.9, 1.1, 9), Spread(1.3, 1.2, 1.4, 9), 0.03), "higher")
        self.assertEqual(ratios.change(Spread(1.3, 1.2, 1.4, 9), Spread(1, 0.9, 1.1, 9), 0.03), "lower")

    def test_one_run_needs_more(self):
        self.assertEqual(ratios.change(Spread(1, 1, 1, 1), Spread(1.1, 1.1, 1.1, 1), 0.03), "")
        self.assertEqual(ratios.change(Spread(1, 1, 1, 1), Spread(1.2, 1.2, 1.2, 1), 0.03), "higher")


class CompareTest(unittest.TestCase):
    def setUp(self):
        self.old = report(glibc=series(1, 1, 1), **{"tidemark-full": series(2, 2.1, 2.05)})
        self.new = copy.deepcopy(self.old)
        self.new["date"] = "2026-01-02T00:00:00"

    def make_slower(self, factor: float) -> None:
        for one in self.new["workloads"]["w"]["peers"]["tidemark-full"]["runs"]:
            one["user_s"] *= factor

    def test_equal_reports_have_no_changes(self):
        self.assertEqual(compare.changes(self.old, self.new), [])

    def test_a_slower_machine_is_no_change(self):
        for one in self.new["workloads"]["w"]["peers"].values():
            for each in one["runs"]:
                each["user_s"] *= 1.7
        self.assertEqual(compare.changes(self.old, self.new), [])

    def test_worse_and_better(self):
        self.make_slower(1.2)
        found = compare.changes(self.old, self.new)
        self.assertEqual([(c.scope, c.peer, c.verdict) for c in found], [("w (full)", "tidemark-full", "worse")])
        self.assertEqual([c.verdict for c in compare.changes(self.new, self.old)], ["better"])

    def test_changed_work_is_not_compared(self):
        self.make_slower(1.2)
        self.new["workloads"]["w"]["definition"] = "e"
        self.assertEqual(compare.changes(self.old, self.new), [])
        self.assertIn("what they do has changed: w", compare.render(self.old, self.new))

    def test_instructions_are_exact(self):
        self.old["instructions"] = {"counts": {"tidemark": {"pair": 60.0, "calloc": 90.0}}}
        self.new["instructions"] = {"counts": {"tidemark": {"pair": 61.0, "calloc": 90.0}}}
        found = compare.changes(self.old, self.new)
        self.assertEqual([(c.metric, c.verdict) for c in found], [("pair", "worse")])

    def test_exit_status(self):
        with tempfile.TemporaryDirectory() as folder:
            old, new, broken = Path(folder, "a.json"), Path(folder, "b.json"), Path(folder, "c.json")
            old.write_text(json.dumps(self.old))
            new.write_text(json.dumps(self.new))
            broken.write_text("{}")
            self.assertEqual(compare.main([str(old), str(new)]), 0)
            self.make_slower(2)
            new.write_text(json.dumps(self.new))
            self.assertEqual(compare.main([str(old), str(new)]), 1)
            self.assertEqual(compare.main([str(new), str(old)]), 0)
            self.assertEqual(compare.main([str(old)]), 2)
            self.assertEqual(compare.main([str(old), str(broken)]), 3)
            self.assertEqual(compare.main([str(old), str(Path(folder, "absent"))]), 3)


class TrendTest(unittest.TestCase):
    def test_the_youngest_alike_is_taken(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, changes in {"1": {"date": "2025-01-01"}, "2": {"date": "2025-02-01"},
                                  "3": {"date": "2025-03-01", "quick": True},
                                  "4": {"date": "2025-04-01", "machine": {"cpu": "B"}},
                                  "6": {"date": "2027-01-01"}}.items():
                Path(folder, name).mkdir()
                Path(folder, name, "report.json").write_text(json.dumps({**report(), **changes}))
            Path(folder, "5").mkdir()
            Path(folder, "5", "report.json").write_text("{ cut short")
            self.assertEqual(trend.last_report(Path(folder), report())["date"], "2025-02-01")

    def test_none(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIsNone(trend.last_report(Path(folder), report()))
        self.assertEqual(trend.against(None, report()), {"since": None, "changes": []})


if __name__ == "__main__":
    unittest.main()
