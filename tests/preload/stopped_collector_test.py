"""A collector that stands still: the program goes on, what is lost is counted, and recording resumes.

The collector gets SIGSTOP while storm.c allocates in two threads. Sampled mode drops at once, complete mode waits for
--full-wait and then drops; after SIGCONT both record again, and observed = recorded + dropped.
"""
import os
import signal
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from tracing import SCRATCH, TOOL, Trace, clean_environment, collector_of, compile_program

STOPPED_S = 10 if os.environ.get("TIDEMARK_SOAK") == "1" else 1.5
THREADS = 2


class StoppedCollector(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.counters = self.folder / "counters"
        self.counters.write_bytes(bytes(4096))
        self.path = self.folder / "trace.tmk"

    def pairs(self):
        """Finished pairs by thread."""
        return struct.unpack_from(f"<{THREADS}Q", self.counters.read_bytes())

    def wait_for_more(self, than, deadline_s=30):
        """Until every thread has got beyond `than`."""
        end = time.monotonic() + deadline_s
        while not all(now > before for now, before in zip(self.pairs(), than)):
            self.assertLess(time.monotonic(), end, "the program stands still")
            time.sleep(0.005)

    def start(self, *options):
        command = [TOOL, "record", *options, "-o", self.path, "--", compile_program("storm.c", "-pthread"),
                   self.counters, str(THREADS), "loop"]
        self.record = subprocess.Popen([str(word) for word in command], env=clean_environment(), text=True,
                                       stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.wait_for_more((0,) * THREADS)
        self.collector = collector_of(self.path)

    def end(self):
        """Kills the program; returns what record said, the facts of the trace, and its counts summed over kinds."""
        children = Path(f"/proc/{self.record.pid}/task/{self.record.pid}/children").read_text().split()
        storm, = (int(child) for child in children
                  if Path(f"/proc/{child}/exe").resolve().name.startswith("storm"))
        os.kill(storm, signal.SIGKILL)
        said = self.record.communicate(timeout=120)[1]
        self.assertEqual(self.record.returncode, 128 + signal.SIGKILL)
        info = Trace(self.path).info()
        kinds = info["run"]["events"].values()
        counts = {key: sum(kind[key] for kind in kinds) for key in ("observed", "recorded", "dropped", "skipped")}
        self.assertEqual(counts["observed"], counts["recorded"] + counts["dropped"] + counts["skipped"])
        # What can be read is what was recorded, and after the pause there is more of it.
        self.assertEqual(sum(thread["events"] for thread in info["threads"]), counts["recorded"])
        return said, info, counts

    def check_drops(self, said, info, counts):
        self.assertGreater(counts["dropped"], 0)
        self.assertIn("events were dropped because the ring was full", said)
        self.assertGreater(info["cost"]["longest_gap_us"], STOPPED_S * 0.9e6)

    def pause(self):
        os.kill(self.collector, signal.SIGSTOP)
        self.addCleanup(lambda: Path(f"/proc/{self.collector}").exists() and os.kill(self.collector, signal.SIGCONT))
        return time.monotonic()

    def resume(self, paused_at):
        time.sleep(max(0.0, paused_at + STOPPED_S - time.monotonic()))
        os.kill(self.collector, signal.SIGCONT)

    def goes_on_and_drops(self, *options):
        self.start(*options)
        paused_at = self.pause()
        time.sleep(STOPPED_S / 2)
        self.wait_for_more(self.pairs(), deadline_s=1)
        self.resume(paused_at)
        time.sleep(0.5)
        self.check_drops(*self.end())

    def test_sampled_mode_goes_on_and_drops(self):
        self.goes_on_and_drops("--sample-bytes", "256", "--ring-bytes", "64K")

    def test_complete_mode_waits_and_loses_nothing(self):
        self.start("--mode", "full", "--ring-bytes", "1M", "--full-wait", "60000")
        paused_at = self.pause()
        time.sleep(STOPPED_S / 2)
        before = self.pairs()
        time.sleep(STOPPED_S / 4)
        self.assertEqual(self.pairs(), before, "the ring is full, and nobody waits")
        self.resume(paused_at)
        self.wait_for_more(before)
        said, info, counts = self.end()
        self.assertEqual(counts["dropped"], 0)
        self.assertNotIn("dropped", said)
        self.assertGreater(info["cost"]["longest_gap_us"], STOPPED_S * 0.9e6)

    def test_complete_mode_drops_when_it_has_waited_long_enough(self):
        self.goes_on_and_drops("--mode", "full", "--ring-bytes", "1M", "--full-wait", "200")


if __name__ == "__main__":
    unittest.main()
