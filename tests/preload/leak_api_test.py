"""Leak checks that a program asks for itself, by include/tidemark.h, and the examples that do: a GoogleTest listener
and its recipes.

Must not: know how a check is made (leak_check_test.py).
"""
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import leak_rows
from tracing import ROOT, SCRATCH, TOOL, clean_environment, compile_program, record

INCLUDE = ROOT / "profiler" / "include"
EXAMPLE = ROOT / "examples" / "leak_listener"
API = 9


class LeakApiTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.program = compile_program("leak_api.c", "-O0", "-w", "-pthread", f"-I{INCLUDE}")

    def test_counts(self):
        done, trace = record([self.program], "--leak-check")
        self.assertEqual(done.stdout.decode().splitlines(), [
            "start: 1, 0 blocks 0 bytes, 0 blocks 0 bytes",
            "lost: 1, 1 blocks 1001 bytes, 1 blocks 1002 bytes",
            "ignored 1",
            "by design: 1, 1 blocks 1001 bytes, 1 blocks 1002 bytes",
            "hidden: 1, 2 blocks 2202 bytes, 1 blocks 1002 bytes",
            "registered 1",
            "registered: 1, 1 blocks 1001 bytes, 1 blocks 1002 bytes",
            "unregistered 1 0",
            "unregistered: 1, 2 blocks 2202 bytes, 1 blocks 1002 bytes",
            "nonsense 0 0 0",
        ])
        checks = leak_rows.leak_checks(trace.path)
        self.assertEqual([check.trigger for check in checks].count(API), 6)
        lost = {row.bytes for row in checks[-1].rows if row.leak_class == leak_rows.DEFINITE}
        self.assertEqual(lost, {1001, 1201})  # what was ignored stays so at exit

    def test_without_leak_checks_and_without_the_library(self):
        nothing = ["start: 0, 0 blocks 0 bytes, 0 blocks 0 bytes", "ignored 0", "registered 0", "unregistered 0 0",
                   "nonsense 0 0 0"]
        recorded = record([self.program])[0].stdout
        alone = subprocess.run([self.program], capture_output=True, env=clean_environment(), timeout=60).stdout
        for output in (recorded, alone):
            lines = output.decode().splitlines()
            self.assertEqual([line for line in lines if line in nothing], nothing)
            self.assertEqual(len(lines), 10)
            self.assertEqual([line for line in lines if ": 1" in line], [])


class ExamplesTest(unittest.TestCase):
    """The example is built by each of its recipes, as a user would."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(dir=SCRATCH))

    def run_tool(self, *command, status=0, **environment):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600,
                              env={**clean_environment(), **environment})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_meson(self):
        build = self.folder / "meson"
        self.run_tool("meson", "setup", build, EXAMPLE, f"-Dcpp_args=-I{INCLUDE}")
        wrapper = f"{TOOL} record -q --mode full --leak-check --"
        self.run_tool("meson", "test", "-C", build)
        output = self.run_tool("meson", "test", "-C", build, "--wrapper", wrapper, "--print-errorlogs", status=1)
        self.assertRegex(output, r"clean +OK")
        self.assertRegex(output, r"leaking +FAIL")
        self.assertRegex(output, r"the test leaks 64 bytes in 4 blocks")
        self.assertEqual(re.findall(r"^\[  FAILED  \] (\w+\.\w+)$", output, re.M), ["Example.Leaks"])
        self.assertRegex(output, r"\[       OK \] ExampleDeathTest")

    def test_ctest(self):
        if shutil.which("cmake") is None:
            self.skipTest("cmake is not there")
        build = self.folder / "cmake"
        self.run_tool("cmake", "-S", EXAMPLE, "-B", build, f"-DTIDEMARK={TOOL}", f"-DTIDEMARK_INCLUDE={INCLUDE}")
        self.run_tool("cmake", "--build", build)
        output = self.run_tool("ctest", "--test-dir", build, "--output-on-failure", status=8)
        self.assertRegex(output, r"1/2 Test #1: clean \.+ +Passed")
        self.assertRegex(output, r"2/2 Test #2: leaking \.+\*+Failed")
        self.assertEqual(sorted(re.findall(r"^\[  FAILED  \] (\w+\.\w+)$", output, re.M)), ["Example.Leaks"])


if __name__ == "__main__":
    unittest.main()
