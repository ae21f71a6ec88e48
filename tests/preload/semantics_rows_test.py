"""Group B of the hazards, row by row: what the C standard, POSIX and glibc's manual promise of every entry point.

sem_rows.c asks and prints; the answers of plain glibc are the reference in every mode, and what a document fixes is
asked for by its letter, so that an agreement in error would be noticed. Rows that are about the record, not about the
answer (B9, B15, B16, B19), compare the trace with what the program did.
"""
import errno
import subprocess
import unittest
from pathlib import Path

from same_answers import MODES, SameAnswers
from tracing import PROGRAMS, SCRATCH, compile_program, record


class Rows(unittest.TestCase):
    """One run a mode, looked at by every row."""
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        program = compile_program("sem_rows.c", "-w")
        runner = SameAnswers()
        cls.plain = runner.run_plain([program])
        cls.runs = {mode: runner.run_in(mode, [program])[0] for mode in MODES}

    def lines(self, run, row):
        return [line for line in run.stdout.decode().splitlines() if line.startswith(f"[{row}] ")]

    def row(self, name, least):
        """The row's lines of plain glibc, at least so many, after comparing all modes with them."""
        self.assertEqual(self.plain.returncode, 0, self.plain.stderr)
        wanted = self.lines(self.plain, name)
        self.assertGreaterEqual(len(wanted), least)
        for mode, run in self.runs.items():
            with self.subTest(mode=mode):
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertEqual(self.lines(run, name), wanted)
        return wanted

    def good(self, name, least):
        for line in self.row(name, least):
            self.assertRegex(line, r" 1$")

    def test_B1_errno_after_failure(self):
        lines = self.row("B1", 11 * 11 + 3 * 7)
        for line in lines:
            self.assertRegex(line, rf": null errno {errno.ENOMEM}( kept 51)?$")

    def test_B2_errno_after_success_and_free(self):
        self.assertEqual(self.row("B2", 1), ["[B2] errno changed by success 0 by free 0"])

    def test_B3_errno_at_main(self):
        self.assertEqual(self.row("B3", 1), ["[B3] errno at main 0"])

    def test_B4_posix_memalign(self):
        lines = self.row("B4", 20 + 28 + 5 + 11)
        for line in lines[:20]:
            self.assertRegex(line, rf": {errno.EINVAL} untouched 1 errno 77$")
        for line in lines[20:48]:
            self.assertRegex(line, ": 0 aligned 1 errno 77$")
        for line in lines[48:]:
            self.assertRegex(line, rf": {errno.ENOMEM} untouched 1$")
        # POSIX: "The value of errno is not set", which glibc does not keep to itself.
        for mode, run in self.runs.items():
            with self.subTest(mode=mode):
                kept = [line for line in run.stderr.decode().splitlines() if line.startswith("[B4]")]
                self.assertEqual(kept, ["[B4] errno kept on failure 1"] * 11)

    def test_B5_aligned_alloc(self):
        self.good("B5", 20)
        # As glibc since 2.38 and ISO C; older ones round such an alignment up.
        for mode, run in self.runs.items():
            with self.subTest(mode=mode):
                answers = [line for line in run.stderr.decode().splitlines() if line.startswith("[B5]")]
                self.assertEqual(len(answers), 7)
                for line in answers:
                    self.assertRegex(line, rf"null errno {errno.EINVAL}$")

    def test_B6_memalign_rounds_up(self):
        lines = self.row("B6", 19 + 6)
        for line in lines[:19]:
            self.assertRegex(line, " 1$")
        for line in lines[19:24]:
            self.assertRegex(line, rf"null errno {errno.ENOMEM}$")
        self.assertRegex(lines[24], rf"null errno {errno.EINVAL}$")

    def test_B7_empty_blocks_are_unique(self):
        self.good("B7", 12)

    def test_B8_realloc(self):
        lines = self.row("B8", 3 + 11 + 10)
        self.assertEqual(lines[:3], ["[B8] realloc(p, 0): null errno 77", "[B8] realloc(NULL, 0): block",
                                     "[B8] reallocarray(p, 10, 0): null errno 77"])
        for line in lines[3:14]:
            self.assertRegex(line, "kept 1 aligned 1$")
        for line in lines[14:]:
            self.assertRegex(line, ": 11 kept 1$")

    def test_B10_calloc_clears_recycled_memory(self):
        self.good("B10", 1)

    def test_B11_every_size_is_aligned(self):
        self.good("B11", 11 + 9)

    def test_B12_no_block_beyond_a_pointer_difference(self):
        lines = [line for line in self.row("B1", 11 * 11) if "too much" in line]
        beyond = [line for line in lines if int(line.split("too much ")[1].split(":")[0]) >= 4]
        self.assertEqual(len(beyond), 11 * 7)
        for line in beyond:
            self.assertRegex(line, rf"null errno {errno.ENOMEM}$")

    def test_B17_programs_are_compiled_without_builtin_malloc(self):
        """A compiler that knows malloc removes pairs whose block is not looked at, and the questions with them."""
        program = compile_program("every_entry_point.c")
        out = subprocess.run(["nm", "-u", program], capture_output=True, text=True, check=True).stdout
        for name in ("malloc", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc", "posix_memalign",
                     "valloc", "free"):
            self.assertRegex(out, rf"\b{name}(@|$)")

    def test_B18_usable_to_the_last_byte(self):
        lines = self.row("B18", 12)
        for line in lines[:11]:
            self.assertRegex(line, " 1$")
        self.assertEqual(lines[11], "[B18] usable size of null 0")


class Records(SameAnswers):
    """Rows about what is recorded of odd calls."""

    def totals(self, *arguments):
        program = compile_program("sem_records.c", "-w", "-pthread")
        done, trace = record([program, *map(str, arguments)], "-q")
        report = trace.report()
        events = report["run"]["events"]
        counts = {kind: events[kind]["recorded"] for kind in ("alloc", "free", "realloc")}
        return done.stdout.decode(), report["totals"], counts, trace

    def test_B9_realloc_to_nothing_is_a_free(self):
        _, totals, counts, _ = self.totals("realloc0")
        self.assertEqual(totals["live_at_end"], {"blocks": 0, "bytes": 0})
        self.assertEqual(counts, {"alloc": 1000, "free": 1000, "realloc": 0})

    def test_B8_B16_failed_calls_leave_no_event(self):
        """A failed realloc is no free (its block lives on), an overflowing calloc no allocation of a few bytes."""
        _, totals, counts, _ = self.totals("failures")
        self.assertEqual(totals["allocated"], {"blocks": 1, "bytes": 1000})
        self.assertEqual(totals["live_at_end"], {"blocks": 1, "bytes": 1000})
        self.assertEqual(counts, {"alloc": 1, "free": 0, "realloc": 0})

    def test_B19_sizes_are_the_requested_ones(self):
        out, totals, _, _ = self.totals("sizes")
        blocks, size, live_blocks, live_bytes = map(int, out.split())
        self.assertEqual(totals["allocated"], {"blocks": blocks, "bytes": size})
        self.assertEqual(totals["live_at_end"], {"blocks": live_blocks, "bytes": live_bytes})

    def test_B15_address_is_never_live_twice(self):
        """Eight threads hand blocks of one size around: whoever gets an address is later in the trace than its end. A
        trace counts time in 1024 ticks, so that a few of many events of one address may change places."""
        out, totals, counts, trace = self.totals("aba", 8, 20000)
        blocks = int(out)
        self.assertEqual(counts, {"alloc": blocks, "free": blocks, "realloc": 0})
        self.assertEqual(totals["allocated"]["blocks"], blocks)
        self.assertEqual(trace.info()["problems"], [])
        self.assertLessEqual(totals["live_at_end"]["blocks"] + totals["releases_implied"], blocks / 1000)

    def test_B14_handler_that_throws_leaves_the_recorder_working(self):
        """100 exceptions leave malloc's callers; what is allocated afterwards is recorded, none of it as nested."""
        program = compile_program("sem_operators.cc", "-std=c++17")
        _, trace = record([program, "throwing_handler"], "-q")
        events = trace.report()["run"]["events"]
        self.assertGreaterEqual(events["alloc"]["recorded"], 20000)
        for kind in ("alloc", "free", "realloc"):
            self.assertEqual(events[kind]["skipped"], 0)


class Operators(SameAnswers):
    """operator new, its handlers, and programs that replace some of the operators (A4, B13, B14)."""

    def test_B13_new_handler_and_bad_alloc(self):
        program = compile_program("sem_operators.cc", "-std=c++17")
        plain, _ = self.compare("sh", "-c", f"ulimit -d {256 << 10}; exec {program} handlers")
        self.assertEqual(plain.stdout.decode().splitlines(), [
            "plain: bad_alloc", "array: bad_alloc", "aligned: bad_alloc", "aligned array: bad_alloc",
            "nothrow: null", "nothrow array: null", "nothrow aligned: null", "nothrow aligned array: null",
            "negative: bad_array_new_length",
            "handler ran 3 times, then bad_alloc", "nothrow with handler: null after 3",
            "handler gave the reserve back, new succeeded: 1",
            "handler threw 100 times", "handler gone: bad_alloc"])
        self.assertEqual(plain.returncode, 0)

    def test_T_partial_new(self):
        """Whichever of the operators a program replaces: each block ends where it came from."""
        for name in ("PLAIN", "SIZED", "ALIGNED", "NOTHROW", "ARRAY", "DELETE_ONLY", "ALL"):
            with self.subTest(replaced=name):
                program = compile_program("sem_replaced.cc", f"-DREPLACE_{name}", "-std=c++17", "-w",
                                          output=SCRATCH / f"sem_{name}")
                plain, _ = self.compare(program, modes=("idle", "every", "full"))
                self.assertEqual(plain.returncode, 0, plain.stderr)
                self.assertIn(b"strangers 0 live 0", plain.stdout)

    def test_T_partial_new_in_a_library(self):
        """The operators of a library that nobody linked against are found by the program all the same."""
        library = compile_program("sem_replaced.cc", "-DREPLACE_PLAIN", "-DLIBRARY_ONLY", "-std=c++17", "-w", "-shared",
                                  "-fPIC", output=SCRATCH / "sem_replaced.so")
        program = compile_program("sem_replaced.cc", "-std=c++17", "-w", str(library), f"-Wl,-rpath,{library.parent}",
                                  sources=[PROGRAMS / "sem_replaced.cc"], output=SCRATCH / "sem_uses_replaced")
        plain, _ = self.compare(program, modes=("idle", "every", "full"))
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertIn(b"strangers 0 live 0", plain.stdout)

    def test_A12_program_that_exports_its_operators(self):
        """gdb has operator new and both deletes of its own, and uses much of libstdc++."""
        gdb = Path("/usr/bin/gdb")
        if not gdb.exists():
            self.skipTest("gdb is not installed")
        out = subprocess.run(["nm", "-D", gdb], capture_output=True, text=True, check=True).stdout
        self.assertRegex(out, r" [TW] _ZdlPvm")
        self.compare(gdb, "-nx", "-q", "-batch", "-ex", "p 6 * 7", "-ex", "info line main", "-ex", "info types size_t",
                     compile_program("sem_replaced.cc", "-g", "-DREPLACE_ALL", "-std=c++17", "-w"),
                     modes=("every", "full"))


if __name__ == "__main__":
    unittest.main()
