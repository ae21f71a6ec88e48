"""More threads than the ring has chunks or slots for: everything is recorded, or counted as lost, and nobody hangs."""
import unittest

from tracing import compile_program, record


class Scale(unittest.TestCase):
    def run_threads(self, threads, events, *options, mode):
        program = compile_program("many_threads.c", "-pthread")
        done, trace = record([program, threads, events], *options, mode=mode, check=False)
        if done.returncode == 77:
            self.skipTest(f"this machine does not give a process {threads} threads")
        self.assertEqual((done.returncode, done.stdout), (0, b"done\n"), done.stderr)
        return trace.info()["run"]["events"]

    def check_kinds(self, events):
        for kind, counts in events.items():
            self.assertEqual(counts["observed"], counts["recorded"] + counts["dropped"] + counts["skipped"], kind)

    def test_complete_with_more_threads_than_half_of_the_chunks(self):
        events = self.run_threads(1500, 300, mode="full")
        self.check_kinds(events)
        for kind in ("alloc", "free"):
            self.assertEqual(events[kind]["dropped"] + events[kind]["skipped"], 0, events)
            self.assertGreaterEqual(events[kind]["recorded"], 1500 * 300, events)

    def test_sampled_with_more_threads_than_slots(self):
        events = self.run_threads(1500, 2000, "--sample-bytes", "16K", mode="sampled")
        self.check_kinds(events)
        # 360 MB in samples of 16 KiB: some 23,000, of which a part finds no slot or no chunk and is counted.
        self.assertGreater(events["alloc"]["observed"], 10000, events)
        self.assertLess(events["alloc"]["observed"], 60000, events)
        self.assertGreater(events["alloc"]["recorded"], 0, events)

    def test_complete_with_a_small_ring(self):
        events = self.run_threads(200, 2000, "--ring-bytes", "64K", mode="full")
        self.check_kinds(events)
        self.assertEqual(sum(e["recorded"] for e in events.values()) +
                         sum(e["dropped"] for e in events.values()),
                         sum(e["observed"] - e["skipped"] for e in events.values()))
        self.assertGreaterEqual(events["alloc"]["observed"], 200 * 2000, events)


if __name__ == "__main__":
    unittest.main()
