"""How much stack hooks take from the program: measured in a thread with the smallest one, and held to the figures that
docs/signal-safety.md gives. glibc's own malloc takes some, too, and is measured beside it."""
import re
import subprocess
import unittest

from tracing import ROOT, SCRATCH, clean_environment, compile_program, record

MODES = {"sampled": ("sampled", ()), "every": ("sampled", ("--sample-bytes", "1")), "full": ("full", ())}
# What the program calls its measurements, and the row of the document that bounds them.
ROWS = {"first": "measured, first event of a thread", "dlopen": "measured, first event of a thread",
        "later": "measured, later", "free": "measured, later", "realloc": "measured, later",
        "fork": "measured, first event of a forked child"}


class Need(unittest.TestCase):
    def figures(self):
        text = (ROOT / "docs" / "signal-safety.md").read_text()
        return {name: int(size.replace(",", "")) for name, size in re.findall(r"^\| (measured, [^|]+) \| ([\d,]+) \|",
                                                                             text, re.M)}

    def measure(self, mode, options):
        plugin = compile_program("unwind_plugin.c", "-DLETTER=s", "-fPIC", "-shared",
                                 output=SCRATCH / "unwind_plugin_s.so")
        # Bound at start: the loader's resolver takes 3 KB for itself at the first call of each function.
        program = compile_program("unwind_stack_need.c", "-pthread", "-ldl", "-w", "-Wl,-z,now")
        if mode is None:
            done = subprocess.run([program, plugin], capture_output=True, env=clean_environment())
        else:
            done, _ = record([program, plugin], "-q", *options, mode=mode, check=False)
        self.assertEqual(done.returncode, 0, "a stack of PTHREAD_STACK_MIN did not last")
        return {line.split()[0]: int(line.split()[1]) for line in done.stdout.decode().splitlines()}

    def test_F_7_smallest_stacks(self):
        figures = self.figures()
        self.assertEqual(set(ROWS.values()), set(figures))
        plain = self.measure(None, ())
        self.assertGreater(plain["first"], 100, "nothing was measured")
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                measured = self.measure(mode, options)
                self.assertEqual(set(measured), set(ROWS))
                for kind, size in measured.items():
                    self.assertGreater(size, 0, kind)
                    self.assertLessEqual(size, figures[ROWS[kind]], f"{kind}: {measured}, without tidemark {plain}")


if __name__ == "__main__":
    unittest.main()
