"""Guarded slots: each kind of heap error ends in a report with the stacks that obtained and released the block, and the
program goes on or dies as --guard-action says; everything else about SIGSEGV stays as it was.
"""
import re
import signal
import subprocess
import unittest

from tracing import SCRATCH, TOOL, Trace, clean_environment, compile_program, preload, wait_for_trace

ABOUT_ALL = ("--sample-bytes", "1", "--guard", "1")


def functions(place):
    return [frame["function"] for frame in place["stack"]]


class Guarded(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = compile_program("heap_errors.c", "-g", "-O1", "-fno-omit-frame-pointer", "-pthread")
        cls.runs = 0

    def record(self, what, *options):
        type(self).runs += 1
        path = SCRATCH / f"guarded-{self.runs}.tmk"
        done = subprocess.run([TOOL, "record", "-q", "-o", path, *ABOUT_ALL, *options, "--", self.program, what],
                              capture_output=True, text=True, env=clean_environment(), timeout=120)
        return done, Trace(path)

    def errors(self, trace):
        report = trace.report("--top", "0")
        self.assertEqual(sum(e["count"] for e in report["heap_errors"]), report["run"]["heap_errors"])
        return report["heap_errors"]

    def expect(self, what, error, access, offset, released):
        done, trace = self.record(what)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "went on\n", ""), what)
        found = self.errors(trace)
        self.assertEqual(len(found), 1, found)
        one = found[0]
        self.assertEqual((one["error"], one["access"], one["count"]), (error, access, 1))
        self.assertEqual((one["block"]["size"], one["block"]["offset"]), (112, offset))
        self.assertIn("obtain_it", functions(one["block"]["allocated"]))
        if released:
            self.assertIn("release_it", functions(one["block"]["released"]))
        else:
            self.assertIsNone(one["block"]["released"])
        return one, trace

    def test_overflow(self):
        for what, access in (("overflow", "write"), ("overflow-read", "read")):
            one, trace = self.expect(what, "overflow", access, 112, released=False)
            self.assertEqual(one["stack"][0]["function"], "use_it")
            self.assertEqual(one["stack"][1]["function"], "main")
            self.assertIn(f"overflow: {access} right behind the end of a block of 112 bytes",
                          trace.tool("report", trace.path))

    def test_underflow(self):
        for what, access in (("underflow", "write"), ("underflow-read", "read")):
            one, trace = self.expect(what, "underflow", access, -1, released=False)
            self.assertEqual(one["stack"][0]["function"], "use_it")
            self.assertIn(f"underflow: {access} 1 byte before the beginning of a block of 112 bytes",
                          trace.tool("report", trace.path))

    def test_overflow_inside_of_the_page_is_found_at_the_release(self):
        one, trace = self.expect("overflow-inside", "overflow", "unknown", 112, released=False)
        self.assertIn("release_it", functions(one))
        self.assertIn("overflow: bytes changed right behind the end of a block of 112 bytes",
                      trace.tool("report", trace.path))

    def test_use_after_free_is_reported_once_and_sees_the_old_content(self):
        for what, access in (("use-after-free", "write"), ("use-after-free-read", "read")):
            one, trace = self.expect(what, "use after free", access, 8, released=True)
            self.assertEqual(one["stack"][0]["function"], "use_it")
            self.assertRegex(trace.tool("report", trace.path), r"(?s)use after free: \w+ at offset 8.*obtained at.*"
                             r"obtain_it.*released at.*release_it")

    def test_the_thread_that_released_is_told(self):
        one, _ = self.expect("thread-free", "use after free", "write", 0, released=True)
        self.assertNotEqual(one["block"]["released"]["thread"]["tid"], one["block"]["allocated"]["thread"]["tid"])
        self.assertEqual(one["thread"]["tid"], one["block"]["allocated"]["thread"]["tid"])

    def test_double_free(self):
        one, _ = self.expect("double-free", "double free", "unknown", 0, released=True)
        self.assertIn("release_it", functions(one))

    def test_realloc_of_a_released_block(self):
        self.expect("realloc-freed", "double free", "unknown", 0, released=True)

    def test_invalid_free(self):
        one, trace = self.expect("invalid-free", "invalid free", "unknown", 16, released=False)
        self.assertEqual(functions(one)[0], "main")
        self.assertIn("invalid free: of a pointer 16 bytes into a block of 112 bytes", trace.tool("report", trace.path))

    def test_fork_child_reports_on_a_block_of_its_parent(self):
        done, trace = self.record("child")
        self.assertEqual((done.returncode, done.stdout), (0, "child went on\nchild 0\nwent on\n"))
        self.assertEqual(self.errors(trace), [])
        children = list(trace.path.parent.glob(trace.path.name + ".*"))
        self.assertEqual(len(children), 1)
        found = self.errors(Trace(children[0]))
        self.assertEqual([e["error"] for e in found], ["use after free"])
        self.assertEqual(found[0]["block"]["size"], 112)
        self.assertIsNone(found[0]["block"]["allocated"])  # its stack was the parent's
        self.assertIn("release_it", functions(found[0]["block"]["released"]))

    def test_die(self):
        for what, number in (("overflow", signal.SIGSEGV), ("use-after-free-read", signal.SIGSEGV),
                             ("double-free", signal.SIGABRT), ("invalid-free", signal.SIGABRT),
                             ("overflow-inside", signal.SIGABRT)):
            done, trace = self.record(what, "--guard-action", "die")
            self.assertEqual((done.returncode, done.stdout), (128 + number, ""), what)
            found = self.errors(trace)
            self.assertEqual(len(found), 1, what)
            self.assertIn("obtain_it", functions(found[0]["block"]["allocated"]))
            ending = trace.report()["run"]["ending"]
            self.assertEqual((ending["kind"], ending["signal"]), ("signaled", number))

    def test_faults_that_are_not_ours(self):
        for what in ("wild", "sent"):
            done, trace = self.record(what)
            self.assertEqual((done.returncode, done.stdout), (128 + signal.SIGSEGV, ""), what)
            self.assertEqual(self.errors(trace), [])

    def test_a_program_with_a_handler_of_its_own_is_not_guarded(self):
        done, trace = self.record("wild-own-handler")
        # Its first block is in no guarded slot any more: it finds no edge.
        self.assertEqual((done.returncode, done.stdout), (5, "no guarded block\n"))
        self.assertTrue(trace.report()["run"]["guards_given_up"])
        self.assertIn("installed a handler of SIGSEGV of its own", trace.tool("report", trace.path))

    def test_usable_size_is_usable(self):
        done, trace = self.record("usable")
        self.assertEqual(done.stdout, "1\nwent on\n")
        self.assertEqual(self.errors(trace), [])

    def test_bare_preload(self):
        path = SCRATCH / "guarded-bare.tmk"
        done = preload([self.program, "use-after-free"], path, mode="sampled",
                       options="sample_bytes=1,guard=1,guard_action=die")
        self.assertEqual(done.returncode, -signal.SIGSEGV)
        found = self.errors(wait_for_trace(path))
        self.assertEqual([e["error"] for e in found], ["use after free"])

    def test_without_guards_there_is_no_handler(self):
        for every, caught in (("0", False), ("1", True)):
            done = subprocess.run([TOOL, "record", "-q", "-o", SCRATCH / "guarded-status.tmk", "--guard", every, "--",
                                   "grep", "SigCgt", "/proc/self/status"], capture_output=True, text=True,
                                  env=clean_environment(), timeout=60)
            mask = int(re.search(r"SigCgt:\s*([0-9a-f]+)", done.stdout).group(1), 16)
            plain = subprocess.run(["grep", "SigCgt", "/proc/self/status"], capture_output=True, text=True, timeout=60)
            before = int(plain.stdout.split()[1], 16)
            (SCRATCH / "guarded-status.tmk").unlink()
            self.assertEqual(mask, before | (1 << (signal.SIGSEGV - 1) if caught else 0))

    def test_options_are_checked(self):
        for options, message in ((("--guard-action", "explode"), "--guard-action is 'report' or 'die', not 'explode'"),
                                 (("--mode", "full"), "--guard puts samples between guard pages")):
            done, _ = self.record("usable", *options)
            self.assertEqual(done.returncode, 125)
            self.assertIn(message, done.stderr)

    def test_programs_without_errors_have_none(self):
        for command in (["sqlite3", ":memory:", "create table t(a); insert into t values(1); select * from t;"],
                        ["gawk", 'BEGIN { for (i = 0; i < 3000; i++) a[i] = i "x"; print length(a) }'],
                        ["perl", "-e", "my %h; $h{$_} = [1..9] for 1..2000; print scalar keys %h"],
                        ["git", "--version"]):
            path = SCRATCH / "guarded-clean.tmk"
            plain = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=120)
            done = subprocess.run([TOOL, "record", "-q", "-o", path, "--sample-bytes", "16", "--guard", "1", "--",
                                   *command], capture_output=True, text=True, env=clean_environment(), timeout=120)
            self.assertEqual((done.returncode, done.stdout, done.stderr),
                             (plain.returncode, plain.stdout, plain.stderr))
            trace = Trace(path)
            self.assertEqual(self.errors(trace), [], command)
            # gawk has a handler of its own: it looks after its stack.
            self.assertEqual(trace.report()["run"]["guards_given_up"], command[0] == "gawk")
            path.unlink()


if __name__ == "__main__":
    unittest.main()
