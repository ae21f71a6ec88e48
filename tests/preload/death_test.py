"""What was committed before a death is in the trace: SIGKILL at any moment, _exit, abort, crash; both launch forms.

storm.c counts finished malloc/free pairs in a shared file; the trace must hold at least as many events.
"""
import json
import os
import random
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from tracing import LIBRARY, SCRATCH, TOOL, Trace, clean_environment, collector_of, compile_program

# The time of a kill is the point of these tests, but 200 of them have to fit into minutes.
RUNS = int(os.environ.get("TIDEMARK_KILL_RUNS", "40"))


def committed(counters, threads):
    return [struct.unpack_from("<Q", counters.read_bytes(), 8 * i)[0] for i in range(threads)]


def wait_for_trace(path, deadline_s=30):
    """A bare preload's collector finishes the trace on its own; wait for its end record."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if path.exists():
            done = subprocess.run([TOOL, "info", path, "--json"], capture_output=True, text=True,
                                  env=clean_environment())
            if done.returncode == 0 and json.loads(done.stdout)["run"]["complete"]:
                return Trace(path)
        time.sleep(0.05)
    raise AssertionError(f"{path} was not finished within {deadline_s} s")


class Death(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.counters = self.folder / "counters"
        self.program = compile_program("storm.c", "-pthread")

    def start(self, launch, threads, way, name="trace.tmk"):
        """Starts storm; returns (process to wait for, path of the trace)."""
        path = self.folder / name
        self.counters.write_bytes(bytes(4096))
        command = [str(self.program), str(self.counters), str(threads), way]
        environment = clean_environment()
        if launch == "record":
            command = [str(TOOL), "record", "-q", "--mode", "full", "-o", str(path), "--", *command]
        else:
            environment.update(LD_PRELOAD=str(LIBRARY), TIDEMARK_OPTIONS=f"mode=full,out={path}")
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL), path

    def check(self, trace, threads):
        """Every pair that a thread had behind it is there: one malloc each, and one free each but for the first 64."""
        counts = committed(self.counters, threads)
        info = trace.info()
        received = info["run"]["events"]
        allocs = received["alloc"]["recorded"] + received["alloc"]["dropped"]
        frees = received["free"]["recorded"] + received["free"]["dropped"]
        self.assertGreaterEqual(allocs, sum(counts))
        self.assertGreaterEqual(frees, sum(max(0, n - 64) for n in counts))
        events = sum(t["events"] for t in info["threads"])
        self.assertGreaterEqual(events + received["alloc"]["dropped"] + received["free"]["dropped"],
                                sum(counts) + sum(max(0, n - 64) for n in counts))
        self.assertEqual(received["alloc"]["dropped"] + received["free"]["dropped"], 0)
        return sum(counts)

    def storm_pid(self, launcher):
        """The pid of the storm itself below `tidemark record`."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
            for child in children:
                try:
                    if Path(f"/proc/{child}/cmdline").read_bytes().startswith(bytes(self.program)):
                        return int(child)
                except FileNotFoundError:
                    pass  # a child that was only passing through
            time.sleep(0.002)
        raise AssertionError("the program did not start")

    def kill_many(self, launch):
        choose = random.Random(20261121)
        pairs = 0
        for run in range(RUNS // 2):
            threads = 1 + run % 3
            process, path = self.start(launch, threads, "loop", f"kill-{run}.tmk")
            pid = self.storm_pid(process) if launch == "record" else process.pid
            while committed(self.counters, 1)[0] == 0:
                time.sleep(0.001)
            time.sleep(choose.random() * 0.15)
            os.kill(pid, signal.SIGKILL)
            status = process.wait(60)
            self.assertEqual(status, 128 + signal.SIGKILL if launch == "record" else -signal.SIGKILL)
            trace = Trace(path) if launch == "record" else wait_for_trace(path)
            pairs += self.check(trace, threads)
            path.unlink()
        self.assertGreater(pairs, 1000 * RUNS // 2)

    def test_sigkill_under_record(self):
        self.kill_many("record")

    def test_sigkill_with_bare_preload(self):
        self.kill_many("preload")

    def test_host_runs_on_after_its_collector_was_killed(self):
        process, path = self.start("record", 2, "loop")
        pid = self.storm_pid(process)
        end = time.monotonic() + 60
        while not path.exists() or path.stat().st_size < 20000:  # until some of it has been written
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)
        os.kill(collector_of(path), signal.SIGKILL)
        time.sleep(1.5)
        before = committed(self.counters, 2)
        time.sleep(0.3)
        after = committed(self.counters, 2)
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(process.wait(60), 128 + signal.SIGKILL)
        self.assertTrue(all(b > a for a, b in zip(before, after)), (before, after))
        info = Trace(path).info()
        self.assertGreater(sum(t["events"] for t in info["threads"]), 0)
        self.assertIn("interrupted", " ".join(info["problems"]))

    def test_ends_without_destructors(self):
        for launch in ("record", "preload"):
            for way, expected in (("_exit", 7), ("quick_exit", 9), ("abort", -6), ("crash", -11)):
                with self.subTest(launch=launch, way=way):
                    process, path = self.start(launch, 2, way, f"{launch}-{way}.tmk")
                    status = process.wait(120)
                    self.assertEqual(status, 128 - expected if launch == "record" and expected < 0 else expected)
                    trace = Trace(path) if launch == "record" else wait_for_trace(path)
                    self.check(trace, 2)
                    ending = trace.info()["run"]["ending"]
                    if launch == "record":
                        self.assertEqual(ending["kind"], "exited" if expected >= 0 else "signaled")
                        self.assertEqual(ending["status" if expected >= 0 else "signal"], abs(expected))


if __name__ == "__main__":
    unittest.main()
