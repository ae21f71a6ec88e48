"""`tidemark diff`: what two runs of one program differ by, known beforehand; matching by names; verdicts; sampled runs.

Must not: depend on addresses, which differ from run to run.
"""
import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from text_formats_test import violations
from viewers import HERE, SCRATCH, TOOL, ExportTest, clean_environment, compile_program, record, recording

CHURN = sum(480 + i % 3 for i in range(2000))  # what one more round of the program adds
GROW = sum(1000 * i for i in range(1, 301))


def program():
    return compile_program("templates.cc", "-g", "-pthread", sources=[HERE / "programs" / "templates.cc"])


def rounds(count, mode="full", seed=1, path=None):
    options = [] if mode == "full" else ["--seed", str(seed), "--sample-bytes", "20000"]
    return record([path or program(), str(count)], "--follow-children", "no", *options, mode=mode)[1]


def diff(old, new, *options, status=0):
    done = subprocess.run([str(part) for part in (TOOL, "diff", old.path, new.path, *options)], capture_output=True,
                          text=True, env=clean_environment(), timeout=300)
    if done.returncode != status:
        raise AssertionError(f"diff {options}: exit {done.returncode}, not {status}: {done.stderr}")
    return done


def changes(old, new, *options, status=0):
    document = json.loads(diff(old, new, "--json", "--top", "0", *options, status=status).stdout)
    return document, {row["function"]: row for row in document["rows"]}


class Diff(ExportTest):
    @classmethod
    def setUpClass(cls):
        # Another file, another folder: rows are matched all the same.
        renamed = Path(tempfile.mkdtemp(dir=SCRATCH)) / "renamed"
        shutil.copy(program(), renamed)
        cls.one, cls.two, cls.three = recording("templates"), rounds(2, path=renamed), rounds(3)

    def test_known_differences(self):
        document, rows = changes(self.one, self.two)
        self.assertEqual(rows["Churn(int)"]["total"]["delta"], CHURN)
        self.assertEqual(rows["Grow(int)"]["self"]["delta"], GROW)
        self.assertEqual(rows["Recurse(int)"]["total"]["delta"], 10 * 777)
        self.assertEqual(document["whole"]["delta"], CHURN + GROW + 10 * 777)
        self.assertNotIn("Work(void*)", rows)  # it did the same
        self.assertTrue(all(row["state"] == "changed" for row in rows.values()), rows.keys())
        self.assertTrue(rows["Churn(int)"]["total"]["certain"])
        back, _ = changes(self.two, self.one)
        self.assertEqual(back["whole"]["delta"], -document["whole"]["delta"])

    def test_selves_add_up_to_the_whole(self):
        for grouping in ("function", "site", "module"):
            for metric in ("allocated", "count", "peak", "live", "temporary"):
                document, _ = changes(self.one, self.three, "--by", grouping, "--metric", metric)
                self.assertEqual(sum(row["self"]["delta"] for row in document["rows"]), document["whole"]["delta"],
                                 (grouping, metric))

    def test_equal_runs_do_not_differ(self):
        document, rows = changes(self.one, self.one)
        self.assertEqual((document["whole"]["delta"], rows, document["failed"]), (0, {}, False))
        self.assertIn("no function changed", diff(self.one, self.one).stdout)

    def test_new_and_gone(self):
        document, rows = changes(recording("sqlite3"), self.one)
        self.assertEqual(rows["Grow(int)"]["state"], "new")
        self.assertEqual(rows["Grow(int)"]["self"]["before"], 0)
        gone = [row for row in document["rows"] if row["state"] == "gone"]
        self.assertTrue(gone)
        self.assertTrue(all(row["total"]["now"] == 0 for row in gone))
        text = diff(recording("sqlite3"), self.one).stdout
        self.assertRegex(text, r"new +Grow\(int\)")

    def test_normalised_by_work(self):
        document, _ = changes(self.one, self.three, "--normalise", "allocated")
        self.assertEqual(document["whole"]["delta"], 0)
        self.assertGreater(document["scale"], 1.5)
        document, _ = changes(self.one, self.three, "--normalise", "count", "--metric", "count")
        self.assertEqual(document["whole"]["delta"], 0)
        diff(self.one, self.three, "--normalise", "time")
        diff(self.one, self.three, "--normalise", "luck", status=2)

    def test_small_changes_are_left_out(self):
        document, rows = changes(self.one, self.two, "--min-delta", "500KiB")
        self.assertIn("Grow(int)", rows)
        self.assertNotIn("Recurse(int)", rows)
        self.assertGreater(document["hidden_rows"], 0)
        diff(self.one, self.two, "--min-delta", "some", status=2)

    def test_verdict(self):
        growth = CHURN + GROW + 10 * 777
        failed = diff(self.one, self.two, "--fail-on-growth", str(growth - 1), status=1)
        self.assertIn("--fail-on-growth", failed.stderr)
        self.assertEqual(diff(self.one, self.two, "--fail-on-growth", str(growth)).stderr, "")
        self.assertTrue(changes(self.one, self.two, "--fail-on-growth", "10%", status=1)[0]["failed"])
        diff(self.one, self.two, "--fail-on-growth", "1000%")
        diff(self.two, self.one, "--fail-on-growth", "0")
        diff(self.one, self.two, "--fail-on-growth", "-1", status=2)

    def test_sampled_runs(self):
        again = rounds(1, "sampled", seed=2)
        document, _ = changes(recording("templates", "sampled"), again, "--fail-on-growth", "0")
        self.assertFalse(document["whole"]["certain"], document["whole"])
        low, high = document["whole"]["delta_95"]
        self.assertLess(low, high)
        more, rows = changes(recording("templates", "sampled"), rounds(3, "sampled", seed=3), "--fail-on-growth", "10%",
                             status=1)
        self.assertTrue(more["whole"]["certain"])
        low, high = rows["Grow(int)"]["self"]["delta_95"]
        self.assertLess(low, 2 * GROW)
        self.assertGreater(high, 2 * GROW)
        self.assertTrue(rows["Grow(int)"]["self"]["certain"])
        self.assertIn("~", diff(recording("templates", "sampled"), again).stdout)

    def test_as_the_schema_says(self):
        for old, new, options in ((self.one, self.two, ["--fail-on-growth", "1000%"]),
                                  (recording("sqlite3", "sampled"), self.one, ["--by", "site"])):
            path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "diff.json"
            path.write_text(diff(old, new, "--json", *options).stdout)
            result = violations("diff.json", path)
            self.assertTrue(result["ok"], result["errors"])


if __name__ == "__main__":
    unittest.main()
