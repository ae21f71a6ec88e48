"""Programs that a preloaded malloc does not go with: static ones, musl's, sanitizers' builds, valgrind's guests.

As children of a recorded program they run as without tidemark; given to `record` itself, it says why nothing is seen.
"""
import subprocess
import tempfile
import unittest
from pathlib import Path

from process_modes import MODES, AllModes, need
from tracing import SCRATCH, TOOL, compile_program, record


class Binaries(AllModes):
    def child_of_a_shell(self, program, *arguments):
        """`program`, started by a recorded shell: same output, same status; a whole trace of the shell."""
        script = " ".join(map(str, (program, *arguments))) + "; echo status $?; exit 4"
        plain, traces = self.compare(["sh", "-c", script], expect=4, said=["brings its own malloc"])
        return plain, traces

    def said_by_record(self, program, *words):
        """`record` runs it as it is, and says in one line why it sees nothing."""
        plain = self.plain([program, "given to record"])
        out = Path(tempfile.mkdtemp(dir=SCRATCH)) / "x.tmk"
        done = self.plain([TOOL, "record", "-o", out, "--", program, "given to record"])
        self.assertEqual((done.returncode, done.stdout), (plain.returncode, plain.stdout), done.stderr)
        lines = done.stderr.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        for word in words:
            self.assertIn(word, lines[0])
        self.assertFalse(out.exists())

    def test_E22_static_program(self):
        for flags in (("-static",), ("-static-pie",)):
            program = compile_program("process_plain.c", "-pthread", *flags)
            plain, _ = self.child_of_a_shell(program, "static")
            self.assertEqual(plain.stdout, b"static: child 5\nstatus 3\n")
            self.said_by_record(program, "static")

    def musl(self, *flags):
        need(self, "musl-gcc")
        return compile_program("process_plain.c", "-pthread", *flags, compiler="musl-gcc",
                               output=SCRATCH / f"musl{len(flags)}")

    def test_E23_F16_musl_program_as_a_child(self):
        plain, _ = self.child_of_a_shell(self.musl(), "musl")
        self.assertEqual(plain.stdout, b"musl: child 5\nstatus 3\n")

    def test_E23_static_musl_program(self):
        program = self.musl("-static")
        self.child_of_a_shell(program, "musl")
        self.said_by_record(program, "static")

    def sanitized(self, compiler, sanitizer):
        need(self, compiler)
        try:
            program = compile_program("process_plain.c", "-pthread", f"-fsanitize={sanitizer}", compiler=compiler,
                                      output=SCRATCH / f"{compiler}-{sanitizer}")
        except subprocess.CalledProcessError:
            self.skipTest(f"{compiler} has no library for -fsanitize={sanitizer} here")
        if self.plain([program]).returncode != 3:
            self.skipTest(f"a program of {compiler} -fsanitize={sanitizer} does not run here, tidemark or not")
        return program

    def test_E24_F16_sanitized_program_as_a_child(self):
        for compiler in ("gcc", "clang"):
            for sanitizer in ("address", "thread", "undefined", "leak"):
                with self.subTest(compiler=compiler, sanitizer=sanitizer):
                    program = self.sanitized(compiler, sanitizer)
                    plain, _ = self.child_of_a_shell(program, sanitizer)
                    self.assertEqual(plain.stdout, f"{sanitizer}: child 5\nstatus 3\n".encode())

    def test_E24_sanitizer_still_finds_what_it_is_for(self):
        """A heap overflow in a child of a recorded shell is reported as it is without tidemark."""
        need(self, "gcc")
        source = SCRATCH / "overflow.c"
        source.write_text("#include <stdlib.h>\nint main(int n, char** v) {\n  char* p = malloc(10);\n"
                          "  p[9 + n] = 1;\n  free(p);\n  return 0;\n}\n")
        program = compile_program("overflow.c", "-fsanitize=address", sources=[source])
        command = ["sh", "-c", f"{program}; echo status $?"]
        plain = self.plain(command)
        self.assertIn(b"heap-buffer-overflow", plain.stderr)
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                done, _ = record(command, "-q", *options, mode=mode, check=False)
                self.assertEqual((done.returncode, done.stdout), (0, plain.stdout))
                self.assertIn(b"heap-buffer-overflow", done.stderr)

    def test_E25_valgrind_finds_nothing_in_a_guest_under_tidemark(self):
        need(self, "valgrind")
        program = compile_program("process_plain.c", "-pthread", "-g")
        for tool in ("memcheck", "callgrind"):
            folder = Path(tempfile.mkdtemp(dir=SCRATCH))
            command = ["valgrind", "-q", f"--tool={tool}", *(("--error-exitcode=9",) if tool == "memcheck" else
                                                             (f"--callgrind-out-file={folder}/out.%p",)),
                       program, "guest"]
            for name, (mode, options) in MODES.items():
                if name == "every":
                    continue
                with self.subTest(tool=tool, mode=name):
                    done, _ = record(command, "-q", *options, mode=mode, check=False)
                    self.assertEqual((done.returncode, done.stdout), (3, b"guest: child 5\n"), done.stderr)
                    if tool == "memcheck":
                        self.assertEqual(done.stderr, b"")


if __name__ == "__main__":
    unittest.main()
