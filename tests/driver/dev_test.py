"""Tests of ./dev: what it prints and exits with, with a stand-in for the built program and for apt.

Must not: install packages or build the tree.
"""
import os
import shutil
import stat
import subprocess
import tempfile
import textwrap
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Understands as much of the command line as ./dev uses.
PROGRAM = """\
#!/usr/bin/env bash
case $1 in
  record)
    shift
    while [[ $1 != -- ]]; do
      case $1 in -o | --output) out=$2; shift ;; --output=*) out=${1#*=} ;; -o*) out=${1#-o} ;; esac
      shift
    done
    shift
    command -v "$1" >/dev/null || exit 127
    echo data >"$out"
    [[ ! ${CHILD:-} ]] || echo "much more data" >"$out.$CHILD"
    exec "$@" ;;
  report) echo "hotspots of $2" ;;
  flamegraph) echo svg >"$4" ;;
esac
"""


class DevTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tidemark dev ")  # with spaces: paths are quoted or this breaks
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "tree"
        self.cwd = Path(folder.name) / "elsewhere"
        self.cwd.mkdir()
        (self.root / "build" / "tools").mkdir(parents=True)
        (self.root / "build" / "build.ninja").write_text("")
        shutil.copy(ROOT / "dev", self.root)
        self.write_program(self.root / "build" / "tools" / "tidemark", PROGRAM)

    def write_program(self, path, text):
        path.write_text(textwrap.dedent(text))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def dev(self, *arguments, **environment):
        return subprocess.run([self.root / "dev", *arguments], cwd=self.cwd, capture_output=True, text=True, timeout=60,
                              env={**os.environ, "TIDEMARK_NO_INSTALL": "1", **environment})

    def test_help(self):
        result = self.dev("help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("run [OPTION...] -- CMD...", result.stdout)

    def test_unknown_subcommand_is_a_usage_error(self):
        for arguments in ((), ("frobnicate",), ("--frobnicate",), ("run",), ("run", "true"), ("run", "--")):
            with self.subTest(arguments=arguments):
                result = self.dev(*arguments)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertNotEqual(result.stderr, "")

    def test_run_leaves_stdout_and_status_to_the_command(self):
        result = self.dev("run", "--", "sh", "-c", "echo out; echo 'a  b' | cat; exit 3")
        self.assertEqual((result.returncode, result.stdout), (3, "out\na  b\n"))
        trace, = self.cwd.glob("tidemark.sh.*.tmk")
        graph, = self.cwd.glob("tidemark.sh.*.svg")
        for expected in (f"hotspots of {trace.name}", str(trace), str(graph)):
            self.assertIn(expected, result.stderr)

    def test_run_shows_the_largest_trace_of_this_run(self):
        (self.cwd / "w.tmk.1").write_text("the largest of all, but of an earlier run")
        os.utime(self.cwd / "w.tmk.1", (1, 1))
        result = self.dev("run", "-o", "w.tmk", "--", "true", CHILD="77")
        self.assertIn("hotspots of w.tmk.77", result.stderr)
        self.assertIn("2 traces were written", result.stderr)
        self.assertTrue((self.cwd / "w.svg").exists())

    def test_run_reports_on_a_killed_command(self):
        result = self.dev("run", "-o", "k.tmk", "--", "sh", "-c", "kill -TERM $$")
        self.assertEqual(result.returncode, 143)
        self.assertIn("hotspots of k.tmk", result.stderr)

    def test_run_understands_every_way_to_name_the_trace(self):
        for options in (("-o", "t.tmk"), ("-ot.tmk",), ("--output", "t.tmk"), ("--output=t.tmk",)):
            with self.subTest(options=options):
                self.assertEqual(self.dev("run", *options, "--", "true").returncode, 0)
                self.assertEqual({path.name for path in self.cwd.iterdir()}, {"t.tmk", "t.svg"})
                for path in self.cwd.iterdir():
                    path.unlink()

    def test_run_says_that_there_is_no_trace(self):
        result = self.dev("run", "--", "no-such-program-here")
        self.assertEqual(result.returncode, 127)
        self.assertIn("no trace", result.stderr)
        self.assertNotIn("hotspots", result.stderr)

    def test_works_through_a_symbolic_link(self):
        (self.cwd / "link").symlink_to(self.root / "dev")
        result = subprocess.run([self.cwd / "link", "run", "--", "true"], cwd=self.cwd, capture_output=True, text=True,
                                env={**os.environ, "TIDEMARK_NO_INSTALL": "1"})
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_failing_build_shows_its_output(self):
        (self.root / "build" / "build.ninja").write_text("rule r\n command = echo cause of it; false\nbuild a: r\n")
        result = self.dev("build")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("cause of it", result.stderr)

    def test_a_build_without_program_is_a_failure(self):
        (self.root / "build" / "tools" / "tidemark").unlink()
        self.assertEqual(self.dev("build").returncode, 1)

    def test_soak_runs_the_tests_that_have_a_long_form(self):
        for name, text in (("a/long_test.py", "N = 9 if SOAK else 1"), ("a/short_test.py", "N = 1"),
                           ("b/longer_test.py", "from counts import N"),
                           ("b/counts.py", 'N = 9 if os.environ.get("TIDEMARK_SOAK") else 1')):
            path = self.root / "tests" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        runner = ('import os, sys\nprint("ran", sys.argv[1], os.environ["TIDEMARK_SOAK"])\n'
                  'if "longer" in sys.argv[1]: sys.exit("it broke")\n'
                  'print("\\n2 passed, 0 failed, 3 skipped")\n')
        (self.root / "tests" / "run.py").write_text(runner)
        result = self.dev("soak")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("ran a/long_test 1\n", result.stdout)
        self.assertIn("ran b/longer_test 1\n", result.stdout)
        self.assertNotIn("short", result.stdout)
        self.assertEqual(result.stdout.splitlines()[-1], "2 passed, 1 failed, 3 skipped")
        self.assertEqual((self.root / "build" / "soak.log").read_text(), result.stdout)
        result = self.dev("soak", "a/")
        self.assertEqual((result.returncode, result.stdout.splitlines()[-1]), (0, "2 passed, 0 failed, 3 skipped"))

    def apt(self, body):
        """A PATH on which nothing is installed and apt-get and sudo do as told, and log."""
        folder = self.root / "bin"
        folder.mkdir(exist_ok=True)
        self.write_program(folder / "dpkg-query", "#!/bin/sh\nexit 1\n")
        self.write_program(folder / "apt-get", f"#!/bin/sh\necho \"$@\" >>'{self.root}/apt.log'\n{body}\n")
        self.write_program(folder / "sudo", '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n')
        return {"PATH": f"{folder}:{os.environ['PATH']}", "TIDEMARK_NO_INSTALL": ""}

    def test_missing_packages_are_installed_without_update(self):
        result = self.dev("build", **self.apt("exit 0"))
        self.assertEqual(result.returncode, 0, result.stderr)
        calls = (self.root / "apt.log").read_text().splitlines()
        self.assertEqual(len(calls), 1)
        self.assertRegex(calls[0], r"^install -y .*libmimalloc-dev")
        self.assertEqual(sum("installing" in line for line in result.stderr.splitlines()), 1)

    def test_lists_are_fetched_when_the_first_try_fails(self):
        body = f"[ $1 = update ] && touch '{self.root}/lists'; [ -e '{self.root}/lists' ] || exit 100"
        result = self.dev("build", **self.apt(body))
        self.assertEqual(result.returncode, 0, result.stderr)
        calls = [line.split()[0] for line in (self.root / "apt.log").read_text().splitlines()]
        self.assertEqual(calls, ["install", "update", "install"])

    def test_a_failing_apt_is_shown(self):
        result = self.dev("build", **self.apt("echo 'E: mirror is down'; exit 100"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("E: mirror is down", result.stderr)
        self.assertIn("could not install", result.stderr)


if __name__ == "__main__":
    unittest.main()
