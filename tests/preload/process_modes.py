"""One program, plain and in every mode of recording: what all tests of processes, threads and limits compare.

A test names a program and its arguments; it gets the plain run and, by mode, the recorded run with all its traces.
Must not: know what any program does, look at absolute times.
"""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tracing import BUILD, LIBRARY, SCRATCH, TOOL, Trace, clean_environment, preload, record

# "every" samples each allocation: each block comes from the sampled region, each malloc and free takes the slow path.
MODES = {"sampled": ("sampled", ()), "every": ("sampled", ("--sample-bytes", "1")), "full": ("full", ())}
SOAK = os.environ.get("TIDEMARK_SOAK") == "1"
NOBODY = 65534


def count(ordinary, soak):
    """How often a stress repeats: `ordinary` times, and `soak` times where there is time for it."""
    return soak if SOAK else ordinary


def need_root(case):
    if os.geteuid() != 0:
        case.skipTest("needs root")


def need(case, *programs):
    for program in programs:
        if shutil.which(program) is None:
            case.skipTest(f"{program} is not installed")


def traces_of(trace):
    """All traces of a recording: the command's own, its earlier images', its children's."""
    return [Trace(path) for path in sorted(trace.path.parent.glob(trace.path.name + "*"))]


def public_folder(case):
    """A folder that other users can enter, with the tool and the library as in the build tree; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tidemark-public-"))
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    for path in (TOOL, LIBRARY):
        copy = folder / path.relative_to(BUILD)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
        copy.parent.chmod(0o755)
        copy.chmod(0o755)
    return folder


class AllModes(unittest.TestCase):
    maxDiff = 4000

    def plain(self, command, timeout=120, **keywords):
        keywords.setdefault("env", clean_environment())
        return subprocess.run([str(c) for c in command], capture_output=True, stdin=subprocess.DEVNULL,
                              timeout=timeout, **keywords)

    def compare(self, command, *options, modes=MODES, expect=None, cwd=None, environment=None, conserves=True,
                timeout=300, said=()):
        """Output, status and errors of the plain run in every mode; whole, balanced traces. {mode: [traces]}

        `said`: parts of what the launcher may say. Sampling each allocation fills any ring, so it always may say that.
        """
        plain = self.plain(command, cwd=cwd, timeout=timeout, **({"env": environment} if environment else {}))
        if expect is not None:
            self.assertEqual(plain.returncode, expect, plain.stderr)
        traces = {}
        for name in modes:
            mode, more = MODES[name]
            with self.subTest(mode=name):
                done, trace = record(command, "-q", *more, *options, mode=mode, check=False, cwd=cwd, timeout=timeout,
                                     environment=environment)
                status = plain.returncode if plain.returncode >= 0 else 128 - plain.returncode
                expected = [*said, "events were dropped because the ring was full"] if name == "every" else said
                errors = "".join(line for line in done.stderr.decode().splitlines(keepends=True)
                                 if not line.startswith("tidemark: ") or not any(part in line for part in expected))
                self.assertEqual((done.returncode, done.stdout.decode(), errors),
                                 (status, plain.stdout.decode(), plain.stderr.decode()))
                traces[name] = traces_of(trace)
                if conserves:
                    self.assertTrue(traces[name])
                    # Hundreds of children are alike: some of them, from first to last.
                    for one in traces[name][::1 + len(traces[name]) // count(20, 400)]:
                        self.check_whole(one)
        return plain, traces

    def compare_preloaded(self, command, modes=MODES, cwd=None, environment=None):
        """The same under a bare preload, which has no launcher; the traces are not looked at."""
        plain = self.plain(command, cwd=cwd, **({"env": environment} if environment else {}))
        for name in modes:
            mode, more = MODES[name]
            with self.subTest(mode=name, launch="preload"):
                folder = tempfile.mkdtemp(dir=SCRATCH)
                done = preload(command, f"{folder}/%p.tmk", mode=mode, environment=environment, cwd=cwd,
                               options="sample_bytes=1" if more else "", stdin=subprocess.DEVNULL)
                self.assertEqual((done.returncode, done.stdout.decode(), done.stderr.decode()),
                                 (plain.returncode, plain.stdout.decode(), plain.stderr.decode()))
        return plain

    def check_whole(self, trace):
        """The trace is complete and undamaged, and for each kind observed = recorded + dropped + skipped."""
        info = trace.info()
        self.assertTrue(info["run"]["complete"], trace.path)
        self.assertEqual(info["problems"], [], trace.path)
        for kind, events in info["run"]["events"].items():
            self.assertEqual(events["observed"], events["recorded"] + events["dropped"] + events["skipped"],
                             (trace.path, kind, events))
        return info
