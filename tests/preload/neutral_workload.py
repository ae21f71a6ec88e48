"""The machinery of the neutral_*_test.py tables: run an unmodified program plain and under tidemark, and compare.

A Workload is one row: a command with a deterministic task, and what two *plain* runs of it do not agree in, each with
the reason. Compared are the exit status, stdout, stderr, every file that it leaves, and what each of its processes sees
of itself at main and at its end (programs/neutral_observer.c). Its traces must be whole and hold every event.

Must not: forgive tidemark anything. What is left out of a comparison differs between two plain runs, too;
TIDEMARK_SOAK=1 compares a second plain run to the first by the same rules.
"""
import collections
import concurrent.futures
import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
from dataclasses import dataclass, field
from pathlib import Path

from tracing import LIBRARY, SCRATCH, TOOL, clean_environment, compile_program

SOAK = os.environ.get("TIDEMARK_SOAK") == "1"
TIMEOUT_S = 300
# Variables that record sets for its command; a program that prints its environment prints them.
OUR_VARIABLES = rb"(?m)^(LD_PRELOAD|TIDEMARK_OPTIONS|NEUTRAL_OBSERVER)=.*\n"


@dataclass(frozen=True)
class Workload:
    command: list
    packages: dict = field(default_factory=dict)  # program that has to be there: Debian package that has it
    files: dict = field(default_factory=dict)  # set-up of the folder it runs in: name -> content
    prepare: list = field(default_factory=list)  # set-up: commands, run plain each time
    stdin: bytes = b""
    environment: dict = field(default_factory=dict)
    status: int = 0
    says: bytes = b""  # must be in the plain run's stdout: a program that failed early would be neutral, too
    # What two plain runs differ in. Patterns over the text, over paths of files, over lines of the observer's facts.
    normalise: tuple = ()  # (pattern, replacement, why), for stdout, stderr
    files_unlike: tuple = ()  # (pattern, why)
    facts_unlike: tuple = ()  # (pattern, why)
    observed: bool = True  # False, with a reason beside it: the observer cannot come along
    least_traces: int = 1
    says_unprofiled: bytes = b""  # record's line about a program that it cannot see into
    bypassed: str = ""  # name of a process with a malloc of its own, which has a trace that says so
    foreign: bool = False  # blocks of another allocator of the program reach our free
    bare: bool = False  # also with LD_PRELOAD alone


@dataclass
class Outcome:
    status: int
    stdout: bytes
    stderr: bytes
    tree: dict  # path: what it is
    looks: collections.Counter  # (when and who, facts)


def observer():
    return compile_program("neutral_observer.c", "-shared", "-fPIC", "-ldl")


def missing(packages):
    """Why a test is skipped, or nothing."""
    return "; ".join(f"{program} is not installed (Debian package {package})" for program, package in packages.items()
                     if not (shutil.which(program) or os.access(program, os.X_OK)))


def tree_of(folder):
    """{path: kind, mode, and content or target} of everything below a folder."""
    tree = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(folder))
        if path.is_symlink():
            tree[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            tree[name] = f"{status.st_mode:o} {status.st_size} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
        else:
            tree[name] = f"{status.st_mode:o}"
    return tree


def looks_of(path, unlike):
    """The observer's records. The tool's own processes are seen, too, and are no part of the program."""
    looks = collections.Counter()
    for text in path.read_text(errors="replace").split("\n\n"):
        head, *lines = text.splitlines() or [""]
        if not head or head.split(" ", 1)[1].startswith("tidemark"):
            continue
        facts = tuple(line for line in lines
                      if not any(re.search(pattern, f"{head}: {line}") for pattern, _ in unlike))
        looks[head, facts] += 1
    return looks


def look_difference(plain, other):
    """Text about the records that only one of two runs has; at most three pairs of them."""
    only_plain, only_other = list((plain - other).elements()), list((other - plain).elements())
    told = [f"{len(only_plain)} looks only in the plain run, {len(only_other)} only in the other"]
    for head, facts in only_plain[:3]:
        twin = next((entry for entry in only_other if entry[0] == head), None)
        if twin is None:
            told.append(f"only plain: {head}")
            continue
        only_other.remove(twin)
        told += [head, *difflib.unified_diff(facts, twin[1], "plain", "other", n=0, lineterm="")]
    told += [f"only other: {head}" for head, _ in only_other[:3]]
    return "\n".join(told)


def wait_for_collectors(path, deadline_s=120):
    """Collectors end after the last of their processes. They carry the path of their traces on their command line."""
    end = time.monotonic() + deadline_s
    while True:
        mine = []
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(path).encode() in command.read_bytes() and "tidemark" in (command.parent / "comm").read_text():
                    mine.append(command.parent.name)
            except OSError:
                continue  # it has just ended
        if not mine:
            return
        if time.monotonic() > end:
            raise AssertionError(f"collectors of {path} still run: {mine}")
        time.sleep(0.02)


def trace_faults(path, mode, foreign=False, bypassed=""):
    """What is wrong with a trace, as a list of sentences."""
    done = subprocess.run([TOOL, "info", path, "--json"], capture_output=True, text=True, errors="replace",
                          env=clean_environment(), timeout=TIMEOUT_S)
    if done.returncode != 0:
        return [f"info: exit {done.returncode}: {done.stderr}"]
    info = json.loads(done.stdout)
    run = info["run"]
    faults = list(info["problems"])
    if not run["complete"]:
        faults.append("it has no end")
    if run["mode"] != mode:
        faults.append(f"its mode is {run['mode']}")
    if path.stat().st_mode & 0o777 != 0o600:
        faults.append(f"its mode bits are {path.stat().st_mode & 0o777:o}")
    if run["bypassed"] and Path(run["executable"]).name != bypassed:
        faults.append("bypassed")
    for name in ("heap_errors", "internal_failures") + (() if foreign else ("foreign_frees",)):
        if run[name] != 0:
            faults.append(f"{name} {run[name]}")
    for kind, event in run["events"].items():
        if event["observed"] != event["recorded"] + event["dropped"] + event["skipped"]:
            faults.append(f"{kind} does not add up: {event}")
        if mode == "full" and event["dropped"] + event["skipped"] != 0:
            faults.append(f"{kind} lost: {event}")
    return [f"{path.name} of {' '.join(run['command'])[:100]}: {fault}" for fault in faults]


def check_traces(case, folder, mode, least=1, foreign=False, bypassed=""):
    wait_for_collectors(folder)
    traces = sorted(folder.glob("t.*"))
    case.assertGreaterEqual(len(traces), least)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        faults = list(pool.map(lambda path: trace_faults(path, mode, foreign, bypassed), traces))
    case.assertEqual([fault for of_one in faults for fault in of_one], [])
    return len(traces)


def launch(mode, command, traces, environment, observed=True):
    """The command line and environment of a run: plain (None), sampled, full, or bare (LD_PRELOAD alone, full)."""
    command = [str(word) for word in command]
    environment = dict(environment)
    if observed:
        environment["LD_PRELOAD"] = str(observer())
    if mode == "bare":
        environment["LD_PRELOAD"] = ":".join([str(LIBRARY)] + [str(observer())] * observed)
        environment["TIDEMARK_OPTIONS"] = f"mode=full,out={traces}/t.%p.tmk"
    elif mode is not None:
        command = [str(TOOL), "record", "-q", "--mode", mode, "-o", str(traces / "t.tmk"), "--", *command]
    return command, environment


class Comparison:
    """The runs of one workload, one after the other in a folder of the same name each time."""

    def __init__(self, case, workload):
        self.case = case
        self.workload = workload
        self.base = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.folder = self.base / "run"

    def run(self, mode):
        workload = self.workload
        self.folder.mkdir()
        for name, content in workload.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        environment = clean_environment(HOME=str(self.folder), TMPDIR=str(self.folder), **workload.environment)
        for command in workload.prepare:
            subprocess.run(command, check=True, cwd=self.folder, env=environment, timeout=TIMEOUT_S,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        traces = self.base / f"traces-{mode}"
        traces.mkdir()
        seen = self.base / f"seen-{mode}"
        seen.write_bytes(b"")
        environment["NEUTRAL_OBSERVER"] = str(seen)
        command, environment = launch(mode, workload.command, traces, environment, workload.observed)
        done = subprocess.run(command, input=workload.stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              cwd=self.folder, env=environment, timeout=TIMEOUT_S)
        if mode is not None:
            self.check_traces(traces, mode)
        tree = {name: what for name, what in tree_of(self.folder).items()
                if not any(re.search(pattern, name) for pattern, _ in workload.files_unlike)}
        outcome = Outcome(done.returncode, self.normal(done.stdout), self.normal(done.stderr), tree,
                          looks_of(seen, workload.facts_unlike))
        for path in (self.folder, traces):
            shutil.rmtree(path)
        return outcome

    def normal(self, text):
        for pattern, replacement, _ in self.workload.normalise:
            text = re.sub(pattern, replacement, text)
        return text

    def check_traces(self, traces, mode):
        workload = self.workload
        if workload.says_unprofiled and not workload.bypassed:
            wait_for_collectors(traces)
            self.case.assertEqual(list(traces.glob("t.*")), [])
        else:
            # A forked child that samples nothing needs no trace.
            least = 1 if mode == "sampled" else workload.least_traces
            check_traces(self.case, traces, "sampled" if mode == "sampled" else "full", least, workload.foreign,
                         workload.bypassed)

    def compare(self, plain, mode):
        other = self.run(mode)
        case = self.case
        if self.workload.says_unprofiled and mode is not None:
            said = [line for line in other.stderr.splitlines(True) if line.startswith(b"tidemark: ")]
            case.assertEqual(len(said), 1, said)
            case.assertIn(self.workload.says_unprofiled, said[0])
            other.stderr = other.stderr.replace(said[0], b"")
        case.assertEqual(other.stderr, plain.stderr)
        case.assertEqual(other.stdout, plain.stdout)
        case.assertEqual(other.status, plain.status)
        case.assertEqual(other.tree, plain.tree)
        if other.looks != plain.looks:
            case.fail(look_difference(plain.looks, other.looks))


def check(case, workload):
    why = missing(workload.packages)
    if why:
        case.skipTest(why)
    comparison = Comparison(case, workload)
    plain = comparison.run(None)
    case.assertEqual(plain.status, workload.status, plain.stderr)
    case.assertIn(workload.says, plain.stdout)
    if workload.observed and not workload.says_unprofiled:
        case.assertTrue(plain.looks)
    for mode in (None,) * SOAK + ("sampled", "full") + ("bare",) * workload.bare:
        with case.subTest(mode=mode):
            comparison.compare(plain, mode)
        shutil.rmtree(comparison.folder, ignore_errors=True)  # of a run that failed
        shutil.rmtree(comparison.base / f"traces-{mode}", ignore_errors=True)


def test_class(name, workloads, doc):
    """A TestCase with one test a row of the table."""
    def test_of(workload):
        return lambda self: check(self, workload)
    tests = {f"test_{row}": test_of(workload) for row, workload in workloads.items()}
    return type(name, (unittest.TestCase,), {"maxDiff": 3000, "__doc__": doc, **tests})
