"""Frames of code that no file describes: what a JIT writes, and what the kernel maps (the vdso)."""
import shutil
import subprocess
import unittest

from tracing import BUILD, clean_environment, compile_program, record

CHECKED = BUILD / "interpose" / "libtidemark_checked.so"


class Jit(unittest.TestCase):
    def test_G9_code_with_frame_pointers_is_walked_through(self):
        program = compile_program("unwind_jit.c", "-fomit-frame-pointer", "-w")
        for frames in (1, 3, 40):
            for library in ({}, {"TIDEMARK_LIBRARY": str(CHECKED)}):
                with self.subTest(frames=frames, **library):
                    done, trace = record([program, frames, 60], "-q", environment=clean_environment(**library))
                    self.assertEqual(done.stdout, b"rounds 60\n")
                    unwinding = trace.info()["run"]["unwinding"]
                    self.assertEqual((unwinding["wrong"], unwinding["truncated"]), (0, 0))
                    self.assertGreaterEqual(unwinding["frame_pointer_guesses"], frames)
                    # Root to leaf: known code, as many unknown frames as there are, known code.
                    found = 0
                    for stack, count in trace.folded("count").items():
                        if stack[-1] != "leaf":
                            continue
                        at = stack.index("enters_jit")
                        self.assertEqual(stack[at + 1 + frames:], ("called_by_jit", "leaf"))
                        for name in stack[at + 1:at + 1 + frames]:
                            self.assertTrue(name.startswith("[unknown module"), stack)
                        self.assertIn("main", stack[:at])
                        found += count
                    self.assertEqual(found, 60)

    def test_G9_a_real_one(self):
        if shutil.which("node") is None:
            self.skipTest("node is not installed (package nodejs)")
        script = ("const zlib = require('zlib'); function deep(n) { return n ? deep(n - 1) + 1 : "
                  "zlib.deflateSync(Buffer.alloc(2000)).length; } let s = 0; "
                  "for (let i = 0; i < 300; i++) s += deep(i % 20); console.log(s);")
        plain = subprocess.run(["node", "-e", script], capture_output=True, env=clean_environment(), check=True)
        done, trace = record(["node", "-e", script], "-q")
        self.assertEqual(done.stdout, plain.stdout)
        unwinding = trace.info()["run"]["unwinding"]
        self.assertGreater(unwinding["frame_pointer_guesses"], 100, unwinding)
        through = {stack: n for stack, n in trace.folded("count").items()
                   if any(name.startswith("[unknown module") for name in stack)}
        self.assertGreater(sum(through.values()), 100, "no stack leads through generated code")
        for stack in through:
            # V8's own pieces of assembly in the program have no call frame information: the stack ends there, marked.
            self.assertIn(stack[0], ("_start", "[truncated]"))


class Vdso(unittest.TestCase):
    def test_G11_interrupted_in_the_vdso(self):
        """The kernel's own code has call frame information too: its frames are followed, with their caller."""
        program = compile_program("unwind_vdso.c", "-fomit-frame-pointer")
        done, trace = record([program], "-q")
        self.assertEqual(done.returncode, 0, done.stderr)
        stacks = [stack for stack in trace.folded("count") if stack[-1] == "on_signal"]
        for stack in stacks:
            self.assertIn("asks_the_time", stack)
            self.assertIn("main", stack)
        # Below the handler the frame that it returns through, and then what was interrupted: libc's function alone, or
        # the kernel's above it.
        depths = {len(stack) - stack.index("asks_the_time") for stack in stacks}
        self.assertGreaterEqual(max(depths), 5, stacks)
        self.assertEqual(trace.info()["run"]["unwinding"]["truncated"], 0)


if __name__ == "__main__":
    unittest.main()
