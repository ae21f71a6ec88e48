"""Runs one Python unittest file and reports every case as a line of JSON, at once.

Its own process per file, started by tests/run.py: a file that crashes or hangs costs its own cases only, and what had
ended before is known. Without TIDEMARK_TEST_REPORT it prints to the terminal: python3 tests/unittest_file.py FILE.
Must not: import anything but the file under test.
"""
import json
import os
import sys
import time
import unittest
from pathlib import Path


class ReportingResult(unittest.TextTestResult):
    """One record per case; a case of subtests is one case that fails if any of them does."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        path = os.environ.get("TIDEMARK_TEST_REPORT")
        self.report = open(path, "w", encoding="utf-8") if path else None
        self.current = None

    def write(self, record):
        if self.report:
            self.report.write(json.dumps(record) + "\n")
            self.report.flush()

    @staticmethod
    def name_of(test):
        return ".".join(test.id().split(".")[-2:])

    def startTest(self, test):
        super().startTest(test)
        self.current = {"name": self.name_of(test), "outcome": "passed", "detail": ""}
        self.start_s = time.monotonic()
        self.write({"start": self.current["name"]})

    def stopTest(self, test):
        super().stopTest(test)
        self.write({**self.current, "seconds": time.monotonic() - self.start_s})
        self.current = None

    def note(self, test, outcome, detail):
        if self.current is None:  # setUpClass and setUpModule have no case of their own
            self.write({"name": test.id(), "outcome": outcome, "detail": detail})
        elif outcome == "failed" or self.current["outcome"] == "passed":
            both = self.current["detail"] + "\n" + detail if self.current["outcome"] == "failed" else detail
            self.current.update(outcome=outcome, detail=both)

    def addError(self, test, err):
        super().addError(test, err)
        self.note(test, "failed", self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.note(test, "failed", self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            kind = self.failures if issubclass(err[0], test.failureException) else self.errors
            self.note(test, "failed", f"{subtest}\n{kind[-1][1]}")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "skipped", reason or "no reason given")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "failed", "expected to fail, but passed")


def matching(suite, wanted):
    """The tests of a nested suite whose name contains `wanted`; keeps the nesting that setUpClass relies on."""
    kept = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(matching(test, wanted))
        elif wanted in test.id():
            kept.addTest(test)
    return kept


def main(path):
    path = Path(path).resolve()
    sys.path.insert(0, str(path.parent))
    tests = unittest.defaultTestLoader.loadTestsFromName(path.stem)
    wanted = os.environ.get("TIDEMARK_TEST_FILTER", "")
    runner = unittest.TextTestRunner(verbosity=2, resultclass=ReportingResult)
    return 0 if runner.run(matching(tests, wanted)).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
