"""What was committed before a death is in the trace, and nothing else is missing: SIGKILL at random instants, OOM.

Threads of programs/conserve_work.c are killed in the middle of their calls, of the library's start and of its
attaching. Each may have one call in doubt; everything before it is in the trace or counted as dropped.
"""
import os
import random
import signal
import sys
import time
import unittest
from pathlib import Path

from accounts import MODES, SOAK, Run

KILLS = 1000 if SOAK else 60
LAUNCHES = ("record", "preload")
CGROUPS = Path("/sys/fs/cgroup")


class Death(unittest.TestCase):
    def kill_once(self, choose, launch, mode, threads):
        """Returns the events of the trace; None: there is none, it was killed before it could attach."""
        run = Run(self, launch, mode, "storm", threads, 0, "forever")
        pid = run.host_pid()
        if choose.random() < 0.75:
            run.wait_for_rounds()
            time.sleep(choose.random() * 0.08)
        else:
            time.sleep(choose.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        status, _, err = run.finish()
        self.assertEqual(status, 128 + signal.SIGKILL, err)
        observed, dropped, skipped = run.check(self)
        self.assertEqual(skipped, 0)
        if mode == "full":
            self.assertEqual(dropped, 0)
        run.check_nothing_left(self)
        infos = run.traces().get(pid)
        run.end_all()
        if infos is None:
            return None
        if launch == "record":
            self.assertEqual(infos[0]["run"]["ending"], {"kind": "signaled", "status": None, "signal": signal.SIGKILL})
        return observed

    def kill_many(self, launch):
        choose = random.Random(f"20261121 {launch}")
        runs, events = [], 0
        for number in range(KILLS // len(LAUNCHES)):
            mode, threads = list(MODES)[number % len(MODES)], 1 + number // 2 % 4
            with self.subTest(number=number, mode=mode, threads=threads):
                runs.append(self.kill_once(choose, launch, mode, threads))
        recorded = [events for events in runs if events is not None]
        self.assertGreater(len(recorded), KILLS // len(LAUNCHES) // 2)
        print(f"{launch}: {len(runs)} kills, {len(runs) - len(recorded)} of them before the first event, "
              f"{sum(recorded)} events", file=sys.stderr)
        self.assertGreater(sum(recorded), 1000 * len(recorded))

    def test_sigkill_under_record(self):
        self.kill_many("record")

    def test_sigkill_with_bare_preload(self):
        self.kill_many("preload")

    def limited_cgroup(self, limit_bytes):
        """A memory cgroup below our own, removed at the end of the test."""
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root = CGROUPS / "memory" if controllers == "memory" else CGROUPS if controllers == "" else None
            if root is None:
                continue
            group = root / path.lstrip("/") / f"tidemark-test-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            self.addCleanup(group.rmdir)
            for name in ("memory.limit_in_bytes", "memory.max"):
                try:
                    (group / name).write_text(str(limit_bytes))
                    return group
                except OSError:
                    continue
        return self.skipTest("no memory cgroup can be made here (not root, or read-only)")

    def test_oom_kill(self):
        group = self.limited_cgroup(48 << 20)
        join = f"echo $$ > {group}/cgroup.procs && exec \"$@\""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = Run(self, "record", mode, "grow", host=("sh", "-c", join, "sh"))
                status, _, err = run.finish()
                self.assertEqual(status, 128 + signal.SIGKILL, err)
                (pid, (image,)), = run.books.images().items()
                self.assertGreater(image.done[0], 20)
                self.assertEqual(run.traces()[pid][-1]["run"]["ending"]["signal"], signal.SIGKILL)
                run.check(self)
                run.check_nothing_left(self)


if __name__ == "__main__":
    unittest.main()
