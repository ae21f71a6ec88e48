"""Threads, from their first event to after their last: destructors, keys, cancellation, jumps, exit, and ten thousand.

`./dev soak` has 10,000 threads at one time and cancels 20,000.
"""
import re
import unittest

from process_modes import AllModes, count
from tracing import LIBRARY, SCRATCH, clean_environment, compile_program, record

CROWD = count(2000, 10000)


def ends(*arguments):
    return [compile_program("thread_ends.cc", "-pthread", "-w"), *arguments]


class Ends(AllModes):
    def test_D1_library_destructor_frees_after_the_program_s_own(self):
        library = compile_program("thread_late_library.c", "-shared", "-fPIC", output=SCRATCH / "liblate.so")
        program = compile_program("thread_late.c", library, f"-Wl,-rpath,{SCRATCH}")
        plain, traces = self.compare([program], expect=0)
        self.assertEqual(plain.stdout, b"late: well\n")
        # Our own last destructor has run before: what comes after it is recorded all the same.
        events = traces["full"][0].info()["run"]["events"]
        self.assertGreaterEqual(events["alloc"]["observed"], 1002)
        self.assertGreaterEqual(events["realloc"]["observed"], 1000)
        self.assertGreaterEqual(events["free"]["observed"], 1002)

    def test_D1_D5_exit_while_threads_allocate(self):
        for _ in range(count(8, 200)):
            plain, _ = self.compare(ends("exit"), expect=8)
            self.assertEqual(plain.stdout, b"at exit\nstatic destructor: 5000\n")

    def test_D3_D4_destructors_of_threads_and_of_keys_in_four_rounds(self):
        plain, traces = self.compare(ends("ends", count(60, 2000)), expect=0)
        self.assertEqual(plain.stdout, b"destructor calls %d\n" % (count(60, 2000) * 40 * 4))
        events = traces["full"][0].info()["run"]["events"]
        # In each of the calls 30 blocks of its own, and the key's: the threads' last events are not lost.
        self.assertGreaterEqual(events["alloc"]["observed"], count(60, 2000) * 40 * (4 * 30 + 4))

    def test_D4_F17_keys_are_left(self):
        """The heap behind us takes one key for itself, of 1,024."""
        plain, _ = self.compare(ends("keys"), expect=0)
        self.assertEqual(plain.stdout, b"keys at least 1023\n")

    def test_D7_library_opened_and_closed_by_the_program(self):
        plain = self.plain(ends("open", LIBRARY))
        self.assertEqual((plain.returncode, plain.stdout, plain.stderr), (0, b"opened 50\n", b""))
        options = clean_environment(TIDEMARK_OPTIONS=f"mode=full,out={SCRATCH}/opened.%p.tmk")
        done = self.plain(ends("open", LIBRARY), env=options)
        self.assertEqual((done.returncode, done.stdout), (0, b"opened 50\n"), done.stderr)

    def test_D9_jumps_out_of_handlers_that_allocate(self):
        jumps = count(1000, 20000)
        plain, traces = self.compare(ends("jump", jumps), expect=0)
        self.assertEqual(plain.stdout, b"jumped %d\n" % jumps)
        for name in ("every", "full"):
            events = traces[name][0].info()["run"]["events"]
            # 10 before, 20 and one in the handler, 10 after: none is taken for a nested one.
            self.assertGreaterEqual(events["alloc"]["observed"], 41 * jumps)
            self.assertEqual([events[kind]["skipped"] for kind in events], [0, 0, 0])

    def test_D10_cancellation_deferred_and_asynchronous(self):
        pairs = count(300, 10000)
        plain, _ = self.compare(ends("cancel", pairs), expect=0, timeout=1800)
        self.assertEqual(plain.stdout, b"allocations passed over the request: 1\n"
                                       b"cancelled %d, threads left 1\n" % (2 * pairs))

    def test_E19_main_leaves_by_pthread_exit(self):
        plain, traces = self.compare(ends("main_leaves"), expect=0)
        self.assertIn(b"threads after main has left:", plain.stdout)
        self.assertGreaterEqual(traces["full"][0].info()["run"]["events"]["alloc"]["observed"], 2000)

    def test_E19_no_thread_that_is_not_the_program_s_own(self):
        plain, _ = self.compare(ends("count"), expect=0)
        self.assertEqual(plain.stdout, b"threads at main 1\nafter allocating 1\nwith 50 more 51\nafter they ended 1\n")
        self.compare_preloaded(ends("count"))


class Crowd(AllModes):
    def memory(self, command, environment=None):
        done = self.plain(command, timeout=600, **({"env": environment} if environment else {}))
        if done.returncode == 77:
            self.skipTest(f"this machine does not give a process {CROWD} threads")
        self.assertEqual(done.returncode, 0, done.stderr)
        return [int(n) for n in re.findall(rb"\d+", done.stdout)]

    def test_H8_F8_a_crowd_of_threads_costs_what_the_heap_behind_costs(self):
        command = [compile_program("thread_crowd.c", "-pthread"), CROWD, 16384]
        glibc = self.memory(command)
        mimalloc = self.memory(command, clean_environment(LD_PRELOAD="libmimalloc.so.2"))
        for name in ("sampled", "full"):
            with self.subTest(mode=name):
                done, trace = record(command, "-q", mode=name, timeout=600)
                rss, virtual = (int(n) for n in re.findall(rb"\d+", done.stdout))
                # Beside the heap's own: the ring, its thread states (a page each), the tables of samples.
                self.assertLess(rss, 1.1 * mimalloc[0] + 16 * CROWD + (64 << 10),
                                f"{name}, KiB; mimalloc {mimalloc}, glibc {glibc}")
                self.assertLess(virtual >> 20, 1200, "GiB")
                self.check_whole(trace)


if __name__ == "__main__":
    unittest.main()
