"""A collector that is slow, stopped, killed or told to end: the program runs on, and what is lost is counted or said.

In each case the program's output and status are those of a run without tidemark, and it is never kept waiting for long:
programs/conserve_work.c notes its longest round. stopped_collector_test.py measures the waiting itself.
"""
import os
import random
import signal
import sys
import time
import unittest
from pathlib import Path

from accounts import MODES, SOAK, Run, plain, processes_naming, readable, wait_until

KILLS = 300 if SOAK else 12
LAUNCHES = ("record", "preload")
# A wait for a dead collector ends after 0.5 s without a sign of it; the rest is for a machine that does other things.
PATIENCE_S = 10


class DisturbedCollector(unittest.TestCase):
    def start(self, launch, mode, *options, threads=2):
        run = Run(self, launch, mode, "storm", threads, 0, "forever", options=options)
        run.wait_for_rounds()
        return run

    def end(self, run, threads=2, attached=True):
        """Lets the program come to its end, which must be as if nothing had happened. Returns record's messages.

        Without record, a program that could not attach says so, in one line: nobody else would.
        """
        run.books.stop()
        status, out, err = run.finish()
        self.assertEqual((status, out), (0, f"threads {threads}\n"), err)
        self.assertLess(run.books.longest_s(), PATIENCE_S)
        if run.launch == "preload" and attached:
            self.assertEqual(err, "")
        elif run.launch == "preload":
            self.assertRegex(err, r"\A(tidemark: not recording: [^\n]*\n)?\Z")
        self.assertNotIn("not recording", err if run.launch == "record" else "")
        run.check_nothing_left(self)
        return err

    def test_the_output_that_is_expected_here(self):
        run = Run(self, None, "full", "storm", 2, 0, "forever")
        run.wait_for_rounds()
        self.end(run)

    def test_bursts_of_stops(self):
        choose = random.Random(20261121)
        for mode, options in (("full", ("--ring-bytes", "128K", "--full-wait", "30")),
                              ("sampled", ("--ring-bytes", "128K"))):
            with self.subTest(mode=mode):
                run = self.start("record", mode, *options, threads=3)
                collector = run.collector_pid()
                for _ in range(300 if SOAK else 15):
                    os.kill(collector, signal.SIGSTOP)
                    time.sleep(choose.random() * 0.08)
                    os.kill(collector, signal.SIGCONT)
                    time.sleep(choose.random() * 0.03)
                os.kill(collector, signal.SIGSTOP)
                run.wait_for_rounds(20000)  # more than the ring holds
                os.kill(collector, signal.SIGCONT)
                err = self.end(run, threads=3)
                observed, dropped, skipped = run.check(self)
                self.assertEqual(skipped, 0)
                self.assertGreater(dropped, 0)
                self.assertLess(dropped, observed)
                self.assertIn("events were dropped because the ring was full", err)

    def kill_collector(self, choose, launch, mode):
        """Returns (longest round in seconds, was there anything to read)."""
        ring = ("--ring-bytes", "1M") if launch == "record" else ("ring_bytes=1M",)
        run = Run(self, launch, mode, "storm", 2, 0, "forever", options=ring)
        attached = choose.random() < 0.7
        if attached:
            run.wait_for_rounds()
        collector = run.collector_pid()
        time.sleep(choose.random() * 0.1)
        os.kill(collector, signal.SIGKILL)
        run.wait_for_rounds(50000)  # more than the ring holds
        err = self.end(run, attached=attached)
        if launch == "record":
            self.assertIn(f"was killed by signal {signal.SIGKILL:d}", err)
            self.assertTrue("nothing was recorded" in err or "what came later is lost" in err, err)
            self.assertEqual("nothing was recorded" in err, not run.path.exists(), err)
        info = readable(self, run.path) if run.path.exists() else None
        if info is not None:
            self.assertFalse(info["run"]["complete"])
            self.assertIn("the recording was interrupted", " ".join(info["problems"]))
            recorded = sum(kind["recorded"] for kind in info["run"]["events"].values())
            image, = next(iter(run.books.images().values()))
            self.assertLessEqual(recorded, sum(image.begun) * 2)
        longest_s = run.books.longest_s()
        run.end_all()
        return longest_s, info is not None

    def test_killed_at_random_instants(self):
        choose = random.Random(11)
        results = []
        for number in range(KILLS):
            launch, mode = LAUNCHES[number % 2], list(MODES)[number // 2 % 2]
            with self.subTest(number=number, launch=launch, mode=mode):
                results.append(self.kill_collector(choose, launch, mode))
        longest = sorted(longest_s for longest_s, _ in results)
        print(f"{len(results)} collectors killed, {sum(was for _, was in results)} traces readable; longest rounds of "
              f"the programs: median {longest[len(longest) // 2]:.3f} s, most {longest[-1]:.3f} s", file=sys.stderr)
        self.assertGreater(sum(was for _, was in results), 0)

    def test_gives_up_on_a_dead_collector(self):
        """Complete mode waits once; then nothing is taken any more, in either mode."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.start("record", mode, "--ring-bytes", "1M")
                wait_until(run.books.says_recording, "it records")
                os.kill(run.collector_pid(), signal.SIGKILL)
                wait_until(lambda run=run: not run.books.says_recording(), "it gives up")
                self.end(run)

    def test_threads_that_start_while_it_is_stopped(self):
        """The process waits for its collector once, not each of its threads anew."""
        wait_s, waves = 4, 240
        run = Run(self, "record", "full", "waves", waves,
                  options=("--ring-bytes", "64K", "--full-wait", str(wait_s * 1000)))
        host, collector = run.host_pid(), run.collector_pid()
        run.wait_for_rounds()
        os.kill(collector, signal.SIGSTOP)
        wait_until(lambda: not Path(f"/proc/{host}").exists(), "the program ends", 300)
        os.kill(collector, signal.SIGCONT)
        status, out, err = run.finish()
        self.assertEqual((status, out), plain(self, "waves", waves)[:2], err)
        (image,), = run.books.images().values()
        self.assertEqual(len(image.longest_s), 1 + 4 * waves)
        waited = sum(longest_s >= wait_s * 0.9 for longest_s in image.longest_s)
        self.assertGreaterEqual(waited, 1)
        self.assertLessEqual(waited, 5, "more than run at the same time")

    def test_stopped_for_good(self):
        """The program ends, and record does, too; should the collector go on one day, it finishes the trace."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.start("record", mode, "--full-wait", "300")
                collector = run.collector_pid()
                os.kill(collector, signal.SIGSTOP)
                run.wait_for_rounds(20000)
                run.books.stop()
                out, err = run.process.communicate(timeout=60)
                self.assertEqual((run.process.returncode, out), (0, "threads 2\n"), err)
                self.assertIn(f"the collector process {collector} has been stopped", err)
                self.assertIn(f"kill -CONT {collector}", err)
                self.assertEqual(processes_naming(str(run.path).encode()), [collector])
                os.kill(collector, signal.SIGCONT)
                run.wait_until_gone()
                observed, dropped, _ = run.check(self)
                self.assertLess(dropped, observed)
                run.check_nothing_left(self)

    def test_told_to_end(self):
        """SIGTERM, as at a shutdown: a whole trace of what there was, and a program that nobody records any more."""
        for launch in LAUNCHES:
            with self.subTest(launch=launch):
                run = self.start(launch, "full")
                run.wait_for_rounds(3000)
                os.kill(run.collector_pid(), signal.SIGTERM)
                wait_until(lambda run=run: not run.books.says_recording(), "the program stops recording")
                self.end(run)
                info = readable(self, run.path)
                self.assertTrue(info["run"]["complete"])
                self.assertEqual(info["run"]["ending"]["kind"], "running")
                self.assertGreater(info["run"]["events"]["alloc"]["recorded"], 3000)

    def test_processes_that_start_after_the_collector_has_died(self):
        """They find nobody, at once, and run like their parent."""
        for arguments in (("forks", 40), ("chain", 12)):
            with self.subTest(arguments=arguments):
                run = Run(self, "record", "full", *arguments)
                run.wait_for_rounds()
                os.kill(run.collector_pid(), signal.SIGKILL)
                status, out, err = run.finish()
                self.assertEqual((status, out), plain(self, *arguments)[:2], err)
                self.assertLess(run.books.longest_s(), PATIENCE_S)
                run.check_nothing_left(self)


if __name__ == "__main__":
    unittest.main()
