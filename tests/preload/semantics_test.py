"""Odd inputs and odd processes get the same answers with and without tidemark.

Programs print their answers without addresses; the text of the plain run is what every mode has to print, too. "every"
samples each single allocation, so that all blocks come from the sampled region; with guard=1 from guarded pages first.
"""
import os
import subprocess
import unittest

from tracing import SCRATCH, clean_environment, compile_program, record, preload

MODES = {"sampled": ("sampled", ()), "every": ("sampled", ("--sample-bytes", "1")), "full": ("full", ())}


def plugin():
    return compile_program("plugin_take.c", "-shared", "-fPIC")


class SameAnswers(unittest.TestCase):
    maxDiff = 4000

    def compare(self, program, *arguments, modes=MODES, environment=None):
        command = [str(program), *map(str, arguments)]
        plain = subprocess.run(command, capture_output=True, text=True, env=environment or clean_environment(),
                               stdin=subprocess.DEVNULL, timeout=120)
        results = {}
        for name in modes:
            mode, options = MODES[name]
            with self.subTest(mode=name):
                done, trace = record(command, "-q", *options, mode=mode, check=False, environment=environment)
                results[name] = (done, trace)
                self.assertEqual(done.stdout.decode().splitlines(), plain.stdout.splitlines())
                self.assertEqual(done.returncode, plain.returncode)
        return plain, results

    def test_entry_points(self):
        plain, results = self.compare(compile_program("semantics.c", "-w"))
        self.assertEqual(plain.returncode, 0)
        self.assertIn("errno at main 0", plain.stdout)
        self.assertIn("realloc(p, 0) null errno 55", plain.stdout)
        for name, (done, _) in results.items():
            with self.subTest(mode=name):
                # As glibc since 2.38: older ones round such an alignment up.
                answers = [line for line in done.stderr.decode().splitlines() if line.startswith("aligned_alloc")]
                self.assertEqual(len(answers), 6)
                for line in answers:
                    self.assertRegex(line, r"null errno 22$")

    def test_entry_points_in_guarded_pages(self):
        program = compile_program("semantics.c", "-w")
        plain = subprocess.run([program], capture_output=True, env=clean_environment())
        done = preload([program], SCRATCH / "guarded.%p.tmk", mode="sampled", options="sample_bytes=1,guard=1")
        self.assertEqual(done.stdout.decode().splitlines(), plain.stdout.decode().splitlines())
        self.assertEqual(done.returncode, 0)

    def test_operator_new(self):
        plain, _ = self.compare(compile_program("operators.cc"))
        self.assertIn("caught std::bad_alloc", plain.stdout)
        self.assertIn("handler called 3 times", plain.stdout)

    def test_some_operators_replaced(self):
        plain, _ = self.compare(compile_program("operators.cc", "-DREPLACE_SOME", "-Wno-mismatched-new-delete"))
        self.assertIn("live 0", plain.stdout)

    def test_processes_and_threads(self):
        program = compile_program("processes.c", "-pthread", "-w")
        for case in ("forks", "handler_forks", "spawns", "main_leaves", "thread_exits"):
            with self.subTest(case=case):
                plain, _ = self.compare(program, case)
                self.assertIn(plain.returncode, (0, 6, 8))

    def test_libraries_come_and_go_in_a_storm(self):
        plain, _ = self.compare(compile_program("processes.c", "-pthread", "-w"), "libraries", plugin())
        self.assertIn("loaded 200", plain.stdout)

    def test_deeply_bound_plugin_hands_out_memory(self):
        plain, _ = self.compare(compile_program("processes.c", "-pthread", "-w"), "deep_binding", plugin())
        self.assertIn("taken from the plugin 1000", plain.stdout)

    def test_jumps_out_of_the_allocator(self):
        """Plain glibc may deadlock here (the jump leaves its lock held), so there is no plain run to compare with."""
        program = compile_program("processes.c", "-pthread", "-w")
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                done, trace = record([program, "long_jumps"], "-q", *options, mode=mode, check=False, timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stdout, b"jumped out\n")
                trace.info()

    def test_little_address_space(self):
        for kilobytes in (20000, 60000, 400000):
            for name in ("sampled", "full"):
                with self.subTest(kilobytes=kilobytes, mode=name):
                    limited = f"ulimit -v {kilobytes}; exec ls /usr/include/linux"
                    plain = subprocess.run(["sh", "-c", limited], capture_output=True, env=clean_environment())
                    self.assertEqual(plain.returncode, 0, plain.stderr)
                    done = preload(["sh", "-c", limited], SCRATCH / "small.%p.tmk", mode=name)
                    self.assertEqual(done.stdout, plain.stdout)
                    self.assertEqual(done.returncode, 0, done.stderr)

    def test_closed_standard_streams(self):
        script = "exec sh -c 'echo x; ls / ; exit 3' 0<&- 1>&- 2>&-"
        for name in ("sampled", "full"):
            with self.subTest(mode=name):
                done, trace = record(["sh", "-c", script], "-q", mode=name, check=False)
                self.assertEqual(done.returncode, 3)
                self.assertEqual(done.stdout, b"")
                environment = clean_environment()
                done = preload(["sh", "-c", script], SCRATCH / "closed.%p.tmk", mode=name, environment=environment)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (3, b"", b""))


if __name__ == "__main__":
    unittest.main()
