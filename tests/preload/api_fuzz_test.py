"""Random calls of all entry points against a model of what is live, by one thread and by several; see fuzz_model.cc.

What must hold: no two live blocks overlap, contents last until the block ends, sizes and alignments are what was asked
for, errno is what the manuals say; and every block that was given back is gone from a complete trace. A failure prints
its seed: fuzz_model SEED OPERATIONS THREADS repeats a single-threaded run. TIDEMARK_FUZZ_SEED sets the first seed.
"""
import os
import time
import unittest

from same_answers import MODES, SameAnswers
from tracing import compile_program

SOAK = os.environ.get("TIDEMARK_SOAK") == "1"
OPERATIONS = 5_000_000 if SOAK else 160_000  # in each of five modes, with one and with four threads
SEED = int(os.environ.get("TIDEMARK_FUZZ_SEED", time.time_ns() // 1_000_000 % 1_000_000_000))


class AgainstAModel(SameAnswers):
    def fuzz(self, mode, threads, seed):
        program = compile_program("fuzz_model.cc", "-pthread", "-std=c++17")
        done, trace = self.run_in(mode, [program, seed, OPERATIONS, threads], timeout=3000)
        self.assertEqual((done.returncode, done.stdout.decode()), (0, "done\n"),
                         f"fuzz_model {seed} {OPERATIONS} {threads} in mode {mode}: {done.stderr.decode()}")
        return trace

    def check_trace(self, trace, mode):
        info = trace.info()
        self.assertEqual(info["problems"], [])
        events = trace.report()["run"]["events"]
        if mode == "full":
            for kind in ("alloc", "free", "realloc"):
                self.assertEqual(events[kind]["dropped"], 0)
                self.assertGreater(events[kind]["recorded"], OPERATIONS / 20)
            # Blocks of stdio and of the loader are what is left.
            self.assertLess(trace.report()["totals"]["live_at_end"]["blocks"], 50)

    def test_plain_glibc_agrees_with_the_model(self):
        """The model is right where there is no tidemark."""
        program = compile_program("fuzz_model.cc", "-pthread", "-std=c++17")
        for threads in (1, 4):
            done = self.run_plain([program, SEED, OPERATIONS, threads], timeout=3000)
            self.assertEqual((done.returncode, done.stdout), (0, b"done\n"), SEED)


def add(mode, threads, offset):
    def test(self):
        trace = self.fuzz(mode, threads, SEED + offset)
        if trace is not None:
            self.check_trace(trace, mode)
    setattr(AgainstAModel, f"test_{mode}_{threads}_thread" + ("s" if threads > 1 else ""), test)


for number, mode_name in enumerate(MODES):
    add(mode_name, 1, 10 * number)
    add(mode_name, 4, 10 * number + 1)

if __name__ == "__main__":
    unittest.main()
