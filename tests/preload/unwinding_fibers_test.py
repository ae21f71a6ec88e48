"""Stacks that nobody announced: coroutines switched in assembly, stacks without an end mark, beside memory that is
inaccessible or goes away while the thread lives on."""
import subprocess
import unittest

from tracing import BUILD, clean_environment, compile_program, record

CHECKED = BUILD / "interpose" / "libtidemark_checked.so"
MODES = {"every": ("sampled", ("--sample-bytes", "1")), "full": ("full", ())}


class Fibers(unittest.TestCase):
    def run_all_modes(self, what, output):
        program = compile_program("unwind_fibers.c", "-fomit-frame-pointer", "-pthread", "-w")
        plain = subprocess.run([program, what], capture_output=True, env=clean_environment())
        self.assertEqual((plain.returncode, plain.stdout.decode()), (0, output))
        for name, (mode, options) in MODES.items():
            for library in ({}, {"TIDEMARK_LIBRARY": str(CHECKED)}):
                with self.subTest(mode=name, **library):
                    done, trace = record([program, what], "-q", *options, mode=mode, check=False,
                                         environment=clean_environment(**library))
                    self.assertEqual((done.returncode, done.stdout.decode()), (0, output))
                    run = trace.info()["run"]
                    self.assertEqual(run["unwinding"]["wrong"], 0)
                    for counts in run["events"].values():
                        self.assertEqual(counts["dropped"] + counts["skipped"], 0, run["events"])
        return trace

    def test_G10_storm_of_switches_on_small_stacks(self):
        trace = self.run_all_modes("storm", "storm done\n")
        stacks = [stack for stack in trace.folded("count") if stack[-1] == "leaf"]
        for kind, other in (("even", "odd"), ("odd", "even")):
            mine = [stack for stack in stacks if f"{kind}_inner" in stack]
            self.assertTrue(mine)
            for stack in mine:
                self.assertEqual(stack[-4:], (f"{kind}_fiber", f"{kind}_body", f"{kind}_inner", "leaf"), stack)
                # Whose stack it is: not the other kind's, and not that of main, which has switched away.
                self.assertNotIn(f"{other}_inner", stack)
                self.assertNotIn("storm", stack)

    def test_G10_stacks_that_are_given_back(self):
        """Two stacks side by side; a walk on the lower one runs on into the upper one, which is unmapped then."""
        self.run_all_modes("freed", "freed 200\n")

    def test_G8_no_return_address_and_a_hole_above(self):
        self.run_all_modes("holes", "holes done\n")

    def test_G8_threads_on_stacks_beside_nothing(self):
        trace = self.run_all_modes("threads", "threads done\n")
        counts = {stack[-2:]: n for stack, n in trace.folded("count").items() if stack[-1] == "leaf"}
        self.assertEqual(counts, {("thread_main", "leaf"): 20 * 100 * 2})  # malloc and realloc


if __name__ == "__main__":
    unittest.main()
