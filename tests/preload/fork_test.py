"""Every way to become two processes: nobody hangs, results stay, and each process has a whole trace of its own.

`./dev soak` makes 6,000 forks out of a storm of allocations and 2,000 out of signal handlers that interrupt malloc.
"""
import unittest

from process_modes import AllModes, count
from tracing import compile_program

FORKS = {"full": count(200, 4000), "sampled": count(120, 1500), "every": count(80, 500)}


class Forks(AllModes):
    def ways(self, way, number, **keywords):
        return self.compare([compile_program("fork_ways.c", "-pthread"), way, number], expect=0, **keywords)

    def test_E1_forks_out_of_a_storm_of_threads(self):
        for mode, forks in FORKS.items():
            # Sampled mode never waits: on a busy machine a storm is more than the collector can follow.
            said = ("events were dropped because the ring was full",) if mode == "sampled" else ()
            plain, traces = self.ways("storm", forks, modes=(mode,), timeout=1800, said=said)
            self.assertEqual(plain.stdout, b"good %d\n" % forks)
            if mode != "sampled":  # there a child's first sample may be beyond its end
                self.assertEqual(len(traces[mode]), forks + 1)

    def test_E2_fork_in_a_handler_that_interrupts_malloc(self):
        plain, traces = self.ways("handler", count(150, 2000), timeout=1800)
        self.assertEqual(plain.stdout, b"forked in a handler, failures 0\n")
        # A third of the children went on in the middle of what was interrupted, and recorded that on their own.
        self.assertGreaterEqual(len(traces["full"]), 1 + count(150, 2000) // 3)

    def test_E3_E5_children_that_the_C_library_does_not_know_of(self):
        for way in ("fork", "_Fork", "clone", "SYS_fork"):
            with self.subTest(way=way):
                plain, traces = self.ways(way, 20)
                self.assertEqual(plain.stdout, b"good 20\n")
                for mode in ("every", "full"):
                    self.assertEqual(len(traces[mode]), 21)
                    for child in traces[mode][1:6]:
                        events = child.info()["run"]["events"]
                        self.assertEqual(events["alloc"]["observed"], 500)
                        self.assertEqual(events["free"]["observed"], 501)  # one more: what it got from its parent

    def test_E4_vforked_child_that_allocates_is_its_parent(self):
        plain, traces = self.ways("vfork", 40)
        self.assertEqual(plain.stdout, b"good 40\n")
        events = traces["full"][0].info()["run"]["events"]
        # Two blocks in each child, 100 in the parent, and what its standard output takes.
        self.assertGreaterEqual(events["alloc"]["observed"], 40 * 102)
        self.assertLessEqual(events["alloc"]["observed"], 40 * 102 + 10)

    def test_E4_children_that_share_the_memory(self):
        plain, traces = self.ways("shared", 40)
        self.assertEqual(plain.stdout, b"good 40\n")
        self.assertEqual(len(traces["full"]), 1)
        self.assertGreaterEqual(traces["full"][0].info()["run"]["events"]["alloc"]["observed"], 40 * 401)

    def test_E4_spawn_system_and_popen(self):
        plain, _ = self.ways("spawn", 15)
        self.assertEqual(plain.stdout, b"good 60\n")

    def test_E5_tree_of_children(self):
        plain, traces = self.ways("tree", 3)
        self.assertEqual(plain.stdout, b"processes 156\n")
        self.assertEqual(len(traces["full"]), 156)

    def test_E6_chain_of_five_images(self):
        plain, traces = self.compare([compile_program("fork_ways.c", "-pthread"), "chain", 5], expect=4)
        self.assertEqual(plain.stdout, b"the last image\n")
        for mode in ("every", "full"):
            self.assertEqual(len(traces[mode]), 5, mode)
            left = [trace.report()["totals"]["live_at_end"]["bytes"] for trace in traces[mode]]
            for image in range(1, 6):  # the last one has a buffer for its output besides
                self.assertTrue(any(0 <= n - 1000 * image < 1000 or image == 1 and n > 1000 for n in left), left)

    def test_E20_raw_thread_with_the_same_thread_local_storage(self):
        plain, traces = self.ways("raw_thread", 40)
        self.assertEqual(plain.stdout, b"good 40\n")
        self.assertGreaterEqual(traces["full"][0].info()["run"]["events"]["alloc"]["observed"], 40 * 401)


if __name__ == "__main__":
    unittest.main()
