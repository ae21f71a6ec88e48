"""Tests of the test runner: whatever a test program does, its cases are counted, and none looks better than it is.

Must not: run the tree's own tests.
"""
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import run  # noqa: E402  (the path has to be known first)


class JobTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def python_cases(self, text, timeout_s=30, wanted=""):
        path = self.folder / "sample_test.py"
        path.write_text(textwrap.dedent(text))
        job = run.Job("sample", [sys.executable, str(ROOT / "tests" / "unittest_file.py"), str(path)], timeout_s,
                      {"PYTHONDONTWRITEBYTECODE": "1", "TIDEMARK_TEST_FILTER": wanted}, is_python=True)
        cases, _ = run.run_python(job, self.folder)
        return {case.name.split(".")[-1]: case for case in cases}

    def program_cases(self, script, timeout_s=30):
        job = run.Job("sample", ["bash", "-c", script], timeout_s)
        return run.run_program(job, self.folder)[0]

    def outcomes(self, cases):
        return {name: case.outcome for name, case in cases.items()}

    def test_python_outcomes(self):
        cases = self.python_cases("""
            import unittest
            class T(unittest.TestCase):
                def test_good(self): pass
                def test_bad(self): self.assertEqual(1, 2)
                def test_error(self): raise OSError("disk")
                def test_skip(self): self.skipTest("no such kernel")
                def test_sub(self):
                    for i in range(3):
                        with self.subTest(i=i): self.assertNotEqual(i, 1)
            """)
        self.assertEqual(self.outcomes(cases), {"test_good": "passed", "test_bad": "failed", "test_error": "failed",
                                                "test_skip": "skipped", "test_sub": "failed"})
        self.assertEqual(cases["test_skip"].detail, "no such kernel")
        self.assertIn("i=1", cases["test_sub"].detail)

    def test_python_filter(self):
        cases = self.python_cases("""
            import unittest
            class T(unittest.TestCase):
                def test_one(self): pass
                def test_two(self): pass
            """, wanted="test_two")
        self.assertEqual(self.outcomes(cases), {"test_two": "passed"})

    def test_python_crash_keeps_what_had_ended(self):
        cases = self.python_cases("""
            import os, unittest
            class T(unittest.TestCase):
                def test_1(self): pass
                def test_2(self): os.kill(os.getpid(), 9)
                def test_3(self): pass
            """)
        self.assertEqual(self.outcomes(cases), {"test_1": "passed", "test_2": "failed"})
        self.assertIn("SIGKILL", cases["test_2"].detail)

    def test_python_hang_is_a_failure(self):
        cases = self.python_cases("""
            import time, unittest
            class T(unittest.TestCase):
                def test_hang(self): time.sleep(60)
            """, timeout_s=1)
        self.assertEqual(self.outcomes(cases), {"test_hang": "failed"})

    def test_python_file_without_tests_is_a_failure(self):
        self.assertEqual([case.outcome for case in self.python_cases("def test_lonely(): pass\n").values()], ["failed"])

    def test_python_file_that_does_not_import_is_a_failure(self):
        self.assertIn("failed", self.outcomes(self.python_cases("import no_such_module_here\n")).values())

    def test_python_failing_set_up_is_a_failure(self):
        cases = self.python_cases("""
            import unittest
            class T(unittest.TestCase):
                @classmethod
                def setUpClass(cls): raise OSError("no build")
                def test_a(self): pass
            """)
        self.assertEqual(list(self.outcomes(cases).values()), ["failed"])

    def test_plain_program(self):
        self.assertEqual([case.outcome for case in self.program_cases("exit 0")], ["passed"])
        self.assertEqual([case.outcome for case in self.program_cases("exit 3")], ["failed"])
        skipped, = self.program_cases("echo no perf here; exit 77")
        self.assertEqual((skipped.outcome, skipped.detail), ("skipped", "no perf here"))
        killed, = self.program_cases("kill -SEGV $$")
        self.assertEqual(killed.outcome, "failed")
        self.assertIn("SIGSEGV", killed.detail)
        self.assertEqual([case.outcome for case in self.program_cases("sleep 60", timeout_s=1)], ["failed"])

    def test_missing_program_is_a_failure(self):
        summary = run.Summary()
        run.run_jobs([run.Job("sample", ["/nonexistent/program"], 5)], summary)
        self.assertEqual((summary.count("passed"), summary.count("failed")), (0, 1))

    GTEST_XML = textwrap.dedent("""\
        <testsuites><testsuite name="S">
        <testcase name="Good" status="run" result="completed" time="0.5" classname="S"/>
        <testcase name="Bad" status="run" time="0" classname="S"><failure message="a">a &lt; b</failure></testcase>
        <testcase name="Skip" status="run" result="skipped" time="0" classname="S">
        <skipped message="file.cc:3&#x0A;no perf"/></testcase>
        <testcase name="Filtered" status="notrun" result="suppressed" time="0" classname="S"/>
        <testcase name="DISABLED_Off" status="notrun" result="suppressed" time="0" classname="S"/>
        </testsuite></testsuites>""")

    def test_gtest_xml(self):
        script = f"cat > \"${{GTEST_OUTPUT#xml:}}\" <<'END'\n{self.GTEST_XML}\nEND\nexit 1"
        cases = {case.name: case for case in self.program_cases(script)}
        self.assertEqual(self.outcomes(cases), {"S.Good": "passed", "S.Bad": "failed", "S.Skip": "skipped",
                                                "S.DISABLED_Off": "failed"})
        self.assertEqual(cases["S.Skip"].detail, "no perf")
        self.assertEqual(cases["S.Good"].seconds, 0.5)

    def test_gtest_that_fails_after_its_cases(self):
        good = re.sub(r"<testcase name=\"(Bad|DISABLED_Off)\".*\n", "", self.GTEST_XML)
        cases = self.program_cases(f"cat > \"${{GTEST_OUTPUT#xml:}}\" <<'END'\n{good}\nEND\nexit 1")
        self.assertEqual([case.outcome for case in cases], ["passed", "skipped", "failed"])

    def test_gtest_crash(self):
        script = "echo '[ RUN      ] S.One\n[       OK ] S.One (0 ms)\n[ RUN      ] S.Two'; kill -ABRT $$"
        cases = {case.name: case.outcome for case in self.program_cases(script)}
        self.assertEqual(cases, {"S.One": "passed", "S.Two": "failed"})


class CommandLineTest(unittest.TestCase):
    def test_unknown_option_is_a_usage_error(self):
        result = subprocess.run([sys.executable, ROOT / "tests" / "run.py", "--nonsense"], capture_output=True)
        self.assertEqual(result.returncode, 2)

    def test_filters(self):
        self.assertIsNotNone(run.matching_job(run.Job("unit/ring", [], 1), "ring"))
        self.assertIsNone(run.matching_job(run.Job("unit/ring", [], 1), "heap"))
        job = run.matching_job(run.Job("unit/ring", [], 1), "unit/ring/Ring.Wraps")
        self.assertEqual(job.environment["GTEST_FILTER"], "*Ring.Wraps*")


if __name__ == "__main__":
    unittest.main()
