"""The books that programs/conserve_work.c keeps of its own calls, and what traces say of the same run.

Emitted = received + dropped + skipped, for every kind of event: a call that the books have on both sides happened, one
that they have on one side only may have (the program was killed in it). Must not: know the trace format.
"""
import json
import os
import signal
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tracing import LIBRARY, SCRATCH, TOOL, Trace, clean_environment, compile_program

KINDS = ("alloc", "free", "realloc")
ACCOUNT_BYTES, MAX_ACCOUNTS = 128, 4095
# Sampling with a mean of one byte takes every block of 64 bytes and more, so that sampled events can be counted, too.
MODES = {"full": ["--mode", "full"], "sampled": ["--mode", "sampled", "--sample-bytes", "1"]}
SOAK = os.environ.get("TIDEMARK_SOAK") == "1"


@dataclass
class Image:
    """One program image of a process: the sums over its threads."""
    begun: list = field(default_factory=lambda: [0, 0, 0])
    done: list = field(default_factory=lambda: [0, 0, 0])
    longest_s: list = field(default_factory=list)  # of one round, by thread
    rounds: int = 0


class Books:
    def __init__(self, folder):
        self.path = Path(folder) / "books"
        with open(self.path, "wb") as file:
            file.truncate(ACCOUNT_BYTES * (MAX_ACCOUNTS + 1))

    def images(self):
        """{pid: [Image, ...]}, images in the order in which they came."""
        content = self.path.read_bytes()
        images = {}
        for index in range(min(struct.unpack_from("<I", content)[0], MAX_ACCOUNTS)):
            pid, number, *counts, longest_ns, rounds = struct.unpack_from("<II3Q3QQQ", content,
                                                                          ACCOUNT_BYTES * (index + 1))
            if pid == 0:
                continue  # killed before it had written its name
            image = images.setdefault(pid, {}).setdefault(number, Image())
            image.begun = [a + b for a, b in zip(image.begun, counts[:3])]
            image.done = [a + b for a, b in zip(image.done, counts[3:])]
            image.longest_s.append(longest_ns / 1e9)
            image.rounds += rounds
        return {pid: list(by_number.values()) for pid, by_number in images.items()}

    def rounds(self):
        return sum(image.rounds for images in self.images().values() for image in images)

    def longest_s(self):
        return max(longest for images in self.images().values() for image in images for longest in image.longest_s)

    def stop(self):
        """Tells threads that work without end to come to one."""
        with open(self.path, "r+b") as file:
            file.seek(4)
            file.write(struct.pack("<I", 1))

    def says_recording(self):
        return struct.unpack_from("<I", self.path.read_bytes(), 8)[0] == 1


def as_events(mode, calls):
    """What calls are as events: sampled mode has a new block and the release of the old one for a realloc."""
    alloc, free, realloc = calls
    return [alloc, free, realloc] if mode == "full" else [alloc + realloc, free + realloc, 0]


def check_image(test, image, mode, info, extra=(0, 0, 0)):
    """One trace against one image; `extra`: events that are not in the books. Returns (observed, dropped, skipped)."""
    events = [info["run"]["events"][kind] for kind in KINDS]
    test.assertEqual(info["run"]["samples_without_room"]["blocks"], 0, "then frees go unseen")
    for kind, counts, low, high, more in zip(KINDS, events, as_events(mode, image.done), as_events(mode, image.begun),
                                             extra):
        told = f"{kind}: {counts} against {low} to {high}, {more} more; {info['problems']}"
        test.assertEqual(counts["observed"], counts["recorded"] + counts["dropped"] + counts["skipped"], told)
        test.assertGreaterEqual(counts["observed"], low + more, told)
        test.assertLessEqual(counts["observed"], high + more, told)
    return [sum(counts[key] for counts in events) for key in ("observed", "dropped", "skipped")]


def processes_naming(text):
    """The pids of processes that have `text` in their command line or in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text in (folder / "cmdline").read_bytes() or text in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it has just ended
    return found


def wait_until(condition, what, deadline_s=60, pause_s=0.003):
    end = time.monotonic() + deadline_s
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(pause_s)
    return result


class Run:
    """conserve_work under `record`, under a bare preload, or (launch None) plain."""

    def __init__(self, test, launch, mode, *arguments, options=(), output=None, host=(),
                 environment=None, **popen):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.launch, self.mode, self.wrapped = launch, mode, bool(host)
        self.program = compile_program("conserve_work.c", "-pthread")
        self.books = Books(self.folder)
        self.path = Path(output) if output else self.folder / "trace.tmk"
        command = [*host, self.program, self.books.path, *arguments]
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        environment = clean_environment(TMPDIR=str(self.temporary), **(environment or {}))
        if launch == "record":
            command = [TOOL, "record", *MODES[mode], *options, "-o", self.path, "--", *command]
        elif launch == "preload":
            words = [f"mode={mode}", f"out={self.path}", *options] + (["sample_bytes=1"] if mode == "sampled" else [])
            environment.update(LD_PRELOAD=str(LIBRARY), TIDEMARK_OPTIONS=",".join(words))
        self.process = subprocess.Popen([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)
        test.addCleanup(self.end_all)

    def end_all(self):
        """Nothing of this run is left, whatever went wrong."""
        for pid in set(processes_naming(str(self.folder).encode())) - {os.getpid()}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()

    def host_pid(self):
        """The program itself, once it has been executed."""
        if self.launch != "record":
            return self.process.pid
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def find():
            for child in listing.read_text().split():
                try:
                    if os.readlink(f"/proc/{child}/exe") == str(self.program):
                        return int(child)
                except OSError:
                    continue  # it was only passing through
            return self.process.poll() is not None and -1
        pid = wait_until(find, "the program's start")
        if pid == -1:
            raise AssertionError(f"record ended early: {self.process.communicate()}")
        return pid

    def collector_pid(self):
        """The collector: it has the trace in its command line and leads a session of its own."""
        def find():
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    named = str(self.path).encode() in (folder / "cmdline").read_bytes()
                    session = (folder / "stat").read_text().rpartition(")")[2].split()[3]
                except OSError:
                    continue  # it has just ended
                if named and session == folder.name and int(folder.name) != self.process.pid:
                    return int(folder.name)
            return None
        return wait_until(find, "the collector's start")

    def wait_for_rounds(self, more=1):
        """Until the program has gone on by that much."""
        goal = self.books.rounds() + more
        wait_until(lambda: self.books.rounds() >= goal, "the program goes on", deadline_s=120)

    def finish(self, timeout=120):
        """(status, stdout, stderr) of what was started, when all of it has ended; the status as a shell has it."""
        out, err = self.process.communicate(timeout=timeout)
        self.wait_until_gone()
        status = self.process.returncode
        return (128 - status if status < 0 else status), out, err

    def wait_until_gone(self):
        token = str(self.folder).encode()
        wait_until(lambda: not set(processes_naming(token)) - {os.getpid()}, f"the last process of {self.folder}",
                   pause_s=0.01)

    def traces(self):
        """{pid: [facts of a trace, ...]}, traces in the order in which they were begun."""
        by_pid = {}
        for path in self.path.parent.glob("trace*"):
            info = Trace(path).info()
            by_pid.setdefault(info["run"]["pid"], []).append(info)
        for infos in by_pid.values():
            infos.sort(key=lambda info: info["run"]["start_realtime_ns"])
        return by_pid

    def check(self, test, extra=(0, 0, 0), whole=True):
        """Every image that has made calls has a trace with them. Returns sums of (observed, dropped, skipped)."""
        traces = self.traces()
        sums = [0, 0, 0]
        for pid, images in self.books.images().items():
            infos = traces.pop(pid, [])
            if self.wrapped:  # the wrapper's own image keeps no books
                infos = infos[-len(images):]
            if not infos:  # killed before it could attach
                test.assertEqual([sum(image.done) for image in images], [0] * len(images), f"no trace of {pid}")
                continue
            test.assertEqual(len(infos), len(images), f"traces of {pid}")
            for image, info in zip(images, infos):
                test.assertTrue(info["run"]["complete"] or not whole, info["problems"])
                sums = [a + b for a, b in zip(sums, check_image(test, image, self.mode, info, extra))]
        return sums

    def check_nothing_left(self, test):
        """No segment, no temporary file, no process."""
        test.assertEqual(list(self.temporary.iterdir()), [])
        strays = [path.name for path in self.folder.iterdir()
                  if path.name not in ("books", "tmp") and not path.name.startswith("trace")]
        test.assertEqual(strays, [])
        if Path("/dev/shm").is_dir():
            test.assertEqual([name for name in os.listdir("/dev/shm") if "tidemark" in name], [])
        test.assertEqual(set(processes_naming(str(self.folder).encode())) - {os.getpid()}, set())


def plain(test, *arguments, **popen):
    """(status, stdout, stderr) without tidemark."""
    return Run(test, None, "full", *arguments, **popen).finish()


def readable(test, path):
    """The facts of a trace that may have no end; every tool must cope with it. None: it holds nothing."""
    done = subprocess.run([TOOL, "info", path, "--json"], capture_output=True, text=True, env=clean_environment(),
                          timeout=300)
    if done.returncode == 3 and "no end record" not in done.stderr:
        return None
    test.assertEqual(done.returncode, 0, done.stderr)
    trace = Trace(path)
    test.assertGreaterEqual(trace.report()["totals"]["allocated"]["blocks"], 0)
    trace.folded()
    return json.loads(done.stdout)
