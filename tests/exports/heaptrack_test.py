"""The heaptrack export, read by heaptrack_print: calls, peak, leaks, and every stack by its own folded output.

heaptrack_print exits with 0 on lines that it does not understand, so that its stderr has to be empty.
"""
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from viewers import SCRATCH, TOOL, ExportTest, clean_environment, export, need, recording, run


def heaptrack_print(path, *options):
    need("heaptrack_print", "heaptrack")
    return run("heaptrack_print", path, *options)


def folded(path, cost):
    output = Path(tempfile.mkdtemp(dir=SCRATCH)) / "stacks"
    heaptrack_print(path, "-F", output, "--flamegraph-cost-type", cost)
    sums = {}
    for line in output.read_text(errors="replace").splitlines():
        stack, _, value = line.rpartition(" ")
        sums[stack] = sums.get(stack, 0) + int(value)
    return sums


class Heaptrack(ExportTest):
    def test_totals(self):
        def check(trace):
            path = export(trace, "heaptrack")
            text = heaptrack_print(path)
            expected = trace.report()["totals"]
            self.assertEqual(int(re.search(r"calls to allocation functions: (\d+)", text)[1]),
                             expected["allocated"]["blocks"])
            self.assertEqual(sum(folded(path, "peak").values()), expected["peak"]["bytes"])
            self.assertEqual(sum(folded(path, "allocations").values()), expected["allocated"]["blocks"])
            suppressed = "--disable-builtin-suppressions"
            leaked = heaptrack_print(path, suppressed)
            number, unit = re.search(r"total memory leaked: ([\d.]+)(\w?)", leaked).groups()
            scale = {"B": 1, "": 1, "K": 1e3, "M": 1e6}[unit]
            self.assertLessEqual(abs(float(number) * scale - expected["live_at_end"]["bytes"]), 0.005 * scale + 1)

        self.each(check, modes=("full",))

    def test_stacks_as_folded(self):
        trace = recording("templates")
        theirs = folded(export(trace, "heaptrack"), "allocations")
        ours = trace.folded("count")
        for function in ("Churn(int)", "Grow(int)", "Recurse(int)"):
            self.assertEqual(sum(value for stack, value in theirs.items() if f";{function} (" in ";" + stack),
                             sum(value for stack, value in ours.items() if function in stack), function)
            self.assertGreater(sum(value for stack, value in ours.items() if function in stack), 0)

    def test_sampled_traces_are_refused(self):
        path = recording("templates", "sampled").path
        done = subprocess.run([TOOL, "export", path, "--format", "heaptrack", "-o", "-"], capture_output=True,
                              text=True, env=clean_environment())
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("--mode full", done.stderr)

    def test_heaptrack_print_can_refuse(self):
        path = export(recording("templates"), "heaptrack")
        path.write_text(path.read_text() + "q what is this\n")
        with self.assertRaises(AssertionError):
            heaptrack_print(path)


if __name__ == "__main__":
    unittest.main()
