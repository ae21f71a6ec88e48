"""The Python package of analysis/, installed by pip: its checks (pytest), types (mypy --strict) and style (ruff).

The checks are analysis/tests/check_*.py, a case here for each file. Must not: know what they check.
"""
import os
import subprocess
import unittest
import xml.etree.ElementTree
from pathlib import Path

import package_environment

CHECKS = sorted((package_environment.PACKAGE / "tests").glob("check_*.py"))


def setUpModule():
    try:
        package_environment.ensure()
    except package_environment.NoEnvironmentError as error:
        raise unittest.SkipTest(f"no environment for Python packages: {str(error).strip().splitlines()[-1]}") from error


class PackageTest(unittest.TestCase):
    def run_in_environment(self, *arguments, cwd=None):
        environment = {**os.environ, "TIDEMARK_SOURCE_DIR": str(package_environment.ROOT),
                       "TIDEMARK_BUILD_DIR": str(package_environment.BUILD)}
        done = subprocess.run([str(package_environment.PYTHON), *map(str, arguments)], capture_output=True, text=True,
                              cwd=cwd or package_environment.BUILD, env=environment)
        self.assertEqual(done.returncode, 0, "\n" + done.stdout[-8000:] + done.stderr[-4000:])
        return done.stdout

    def test_there_are_checks(self):
        self.assertGreaterEqual(len(CHECKS), 4)

    def test_types(self):
        self.run_in_environment("-m", "mypy", "--strict", "--cache-dir", package_environment.BUILD / "analysis-mypy",
                                "--config-file", package_environment.PACKAGE / "pyproject.toml",
                                cwd=package_environment.PACKAGE)

    def test_style(self):
        self.run_in_environment("-m", "ruff", "check", "--no-cache", package_environment.PACKAGE)

    def test_it_is_installed_and_not_taken_from_the_source_tree(self):
        told = self.run_in_environment("-c", "import tidemark_analysis; print(tidemark_analysis.__file__)")
        self.assertIn("analysis-venv", told)


def check_case(path):
    def test(self):
        report = package_environment.BUILD / f"analysis-{path.stem}.xml"
        self.run_in_environment("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib",
                                "-o", f"pythonpath={path.parent}", f"--junit-xml={report}", path)
        suite = xml.etree.ElementTree.parse(report).getroot().find("testsuite")
        report.unlink()
        self.assertGreater(int(suite.get("tests")), 0)
        self.assertEqual(int(suite.get("skipped")), 0, "a check skipped itself")
    return test


for _path in CHECKS:
    setattr(PackageTest, f"test_{Path(_path).stem}", check_case(_path))


if __name__ == "__main__":
    unittest.main()
