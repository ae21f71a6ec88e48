"""Signals that come at any instant: between and inside of hooks, on any stack, with handlers that allocate or leave by
siglongjmp. The program counts its calls itself; in complete mode every one of them must be in the books."""
import os
import subprocess
import unittest

from tracing import clean_environment, compile_program, record

MODES = {"sampled": ("sampled", ()), "every": ("sampled", ("--sample-bytes", "1")), "full": ("full", ())}
SIGNALS = 100000 if os.environ.get("TIDEMARK_SOAK") == "1" else 4000
KINDS = ("alloc", "realloc", "free")


def numbers_of(line):
    words = line.split()
    return dict(zip(words[::2], map(int, words[1::2])))


class Storm(unittest.TestCase):
    def run_storm(self, name, *arguments):
        """(calls that the program counted, what its handlers met, the run by the trace)"""
        mode, options = MODES[name]
        done, trace = record([compile_program("signal_storm.c", "-pthread"), *arguments], "-q", *options, mode=mode)
        calls, handlers = map(numbers_of, done.stdout.decode().splitlines())
        return calls, handlers, trace.info()["run"]

    def check_books(self, name, *arguments):
        calls, handlers, run = self.run_storm(name, *arguments)
        self.assertEqual(handlers["errno"], 0, "a hook in a handler has changed errno")
        for kind in KINDS:
            counts = run["events"][kind]
            self.assertEqual(counts["observed"], counts["recorded"] + counts["dropped"] + counts["skipped"], kind)
        return calls, handlers, run

    def test_F_9_F_11_every_event_is_in_the_books(self):
        # What a run has besides the counted calls: the same for one that does nothing.
        _, _, idle = self.run_storm("full", 0)
        for stack in ((), ("altstack",)):
            with self.subTest(stack=stack):
                calls, handlers, run = self.check_books("full", SIGNALS, *stack)
                self.assertGreater(handlers["inside"], 50, "no signal hit a hook: this test has tested nothing")
                skipped = 0
                for kind in KINDS:
                    extra = idle["events"][kind]["observed"]
                    self.assertEqual(run["events"][kind]["observed"], calls[kind] + extra, (kind, run["events"]))
                    skipped += run["events"][kind]["skipped"]
                # A handler that interrupts a record is kept out; it makes two calls.
                self.assertGreater(skipped, 0)
                self.assertLessEqual(skipped, 2 * handlers["inside"])

    def test_F_9_F_11_sampled(self):
        for name in ("sampled", "every"):
            with self.subTest(mode=name):
                _, _, run = self.check_books(name, SIGNALS)
                if name == "every":
                    self.assertGreater(run["events"]["alloc"]["recorded"], 50000)


    def test_F_13_threads_that_come_and_go(self):
        """Signals from the first instruction of a thread to its last; its slot and chunks go to the next one."""
        for name in ("every", "full"):
            with self.subTest(mode=name):
                calls, _, run = self.check_books(name, SIGNALS // 2, "threads")
                if name == "full":
                    for kind in KINDS:  # and what creating threads takes
                        self.assertGreaterEqual(run["events"][kind]["observed"], calls[kind])
                    self.assertEqual(sum(counts["dropped"] for counts in run["events"].values()), 0)


class Jumps(unittest.TestCase):
    """Out of a fault inside free() or realloc(), or out of a handler; then on, deeper in the stack than before."""

    def test_D9_the_program_goes_on_and_is_recorded(self):
        program = compile_program("signal_jumps.c", "-w")
        for what in ("release", "resize", "handler"):
            plain = subprocess.run([program, what], capture_output=True, env=clean_environment())
            self.assertEqual((plain.returncode, plain.stdout), (0, b"jumped 50 reached 2000\n"))
            for name, (mode, options) in MODES.items():
                with self.subTest(what=what, mode=name):
                    done, trace = record([program, what], "-q", *options, mode=mode, check=False)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    if name != "full" and what != "handler":
                        # Where a block is sampled (each, or by chance), what is far behind it is known to be none.
                        self.assertIn(b"reached 2000\n", done.stdout)
                    else:
                        self.assertEqual(done.stdout, plain.stdout)
                    events = trace.info()["run"]["events"]
                    for counts in events.values():
                        self.assertEqual(counts["observed"],
                                         counts["recorded"] + counts["dropped"] + counts["skipped"])
                    if name == "full":
                        # A hook that was left does not keep the ones after it out.
                        self.assertGreaterEqual(events["alloc"]["recorded"], 2000, events)
                        self.assertLessEqual(sum(counts["skipped"] for counts in events.values()), 100, events)


if __name__ == "__main__":
    unittest.main()
