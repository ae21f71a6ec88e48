"""Emitted = received + dropped + skipped, exactly and for every kind, while processes and threads come and go.

The other side of the balance is programs/conserve_work.c, which counts its own calls in a file. Here nobody disturbs
the collector: conservation_collector_test.py and conservation_disk_test.py do.
"""
import signal
import unittest

from accounts import KINDS, MODES, SOAK, Run, plain

TIMES = 10 if SOAK else 1
LAUNCHES = ("record", "preload")


class Conservation(unittest.TestCase):
    def conserve(self, launch, mode, *arguments, options=(), extra=(0, 0, 0), **popen):
        """A run that ends as it does without tidemark and whose traces balance. Returns (run, sums)."""
        run = Run(self, launch, mode, *arguments, options=options, **popen)
        status, out, err = run.finish()
        expected_status, expected_out, _ = plain(self, *arguments, **popen)
        self.assertEqual((status, out), (expected_status, expected_out), err)
        if launch == "preload":
            self.assertEqual(err, "")
        sums = run.check(self, extra)
        run.check_nothing_left(self)
        return run, sums

    def in_all_ways(self, *arguments, **keywords):
        for launch in LAUNCHES:
            for mode in MODES:
                with self.subTest(launch=launch, mode=mode):
                    _, (observed, dropped, skipped) = self.conserve(launch, mode, *arguments, **keywords)
                    self.assertGreater(observed, 0)
                    self.assertEqual(skipped, 0)
                    if mode == "full":
                        self.assertEqual(dropped, 0)

    def test_threads_and_an_ordinary_end(self):
        self.in_all_ways("storm", 4, 20000 * TIMES, "return")

    def test_fork_trees(self):
        self.in_all_ways("forks", 8 * TIMES)

    def test_chains_of_exec(self):
        # Under a bare preload each image has a collector of its own, and its trace a name of its own.
        self.in_all_ways("chain", 4 * TIMES)

    def test_ends_of_every_kind(self):
        for launch in LAUNCHES:
            for number, end in enumerate(("exit", "_exit", "quick_exit", "abort", "term", "int", "segv", "overflow",
                                          "kill")):
                mode = list(MODES)[(number + (launch == "preload")) % len(MODES)]
                with self.subTest(launch=launch, mode=mode, end=end):
                    run, _ = self.conserve(launch, mode, "storm", 1 + number % 4, 2000, end)
                    ending = run.traces()[next(iter(run.books.images()))][0]["run"]["ending"]
                    if launch == "record":
                        self.assertEqual(ending["kind"], "exited" if "exit" in end else "signaled")

    def events_beyond_the_books(self, *arguments):
        """What the C library allocates for itself in this run (it opens libgcc_s to unwind a thread that leaves)."""
        run = Run(self, "record", "full", *arguments)
        run.finish()
        (pid, (image,)), = run.books.images().items()
        (info,) = run.traces()[pid]
        self.assertEqual(image.begun, image.done)
        extra = [info["run"]["events"][kind]["observed"] - n for kind, n in zip(KINDS, image.done)]
        self.assertTrue(all(0 <= n < 100 for n in extra), extra)
        return extra

    def test_threads_that_end_in_the_middle(self):
        extra = self.events_beyond_the_books("waves", 1)
        self.in_all_ways("waves", 15 * TIMES, extra=extra)

    def test_main_leaves_and_threads_go_on(self):
        extra = self.events_beyond_the_books("storm", 1, 1, "pthread_exit")
        self.in_all_ways("storm", 4, 3000 * TIMES, "pthread_exit", extra=extra)

    def test_kill_of_the_whole_process_group(self):
        """record dies with the program; the collector, in a session of its own, finishes the trace."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = Run(self, "record", mode, "storm", 3, 3000, "group", start_new_session=True)
                status, _, _ = run.finish()
                self.assertEqual(status, 128 + signal.SIGKILL)
                observed, _, _ = run.check(self)
                self.assertGreater(observed, 3000)
                run.check_nothing_left(self)

    def test_small_rings_drop_and_count(self):
        run, (observed, dropped, _) = self.conserve("record", "full", "storm", 4, 30000, "return",
                                                    options=("--ring-bytes", "64K", "--full-wait", "0"))
        self.assertGreater(dropped, 0)
        self.assertLess(dropped, observed)


if __name__ == "__main__":
    unittest.main()
