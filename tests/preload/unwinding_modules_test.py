"""Unwinding while modules come and go: no lock of the loader is taken on the way of a malloc, and no rule of a library
that is gone is used for the one in its place."""
import subprocess
import unittest

from tracing import BUILD, SCRATCH, clean_environment, compile_program, record

CHECKED = BUILD / "interpose" / "libtidemark_checked.so"
MODES = {"sampled": ("sampled", ()), "every": ("sampled", ("--sample-bytes", "1")), "full": ("full", ())}


def plugins(letters):
    """Alike in all but their names and the sizes of their frames, so that they fit into one another's place."""
    return [compile_program("unwind_plugin.c", f"-DLETTER={letter}", "-fPIC", "-shared", "-fomit-frame-pointer",
                            f"-DROOM={48 * i}", "-g1", output=SCRATCH / f"unwind_plugin_{letter}.so")
            for i, letter in enumerate(letters)]


class LoaderStorm(unittest.TestCase):
    ROUNDS = 150

    def storm(self, mode, options, environment=None):
        program = compile_program("unwind_loader_storm.c", "-pthread", "-ldl")
        # Generous: what is tested is that it ends at all.
        done, trace = record([program, self.ROUNDS, *plugins("abcd")], "-q", *options, mode=mode,
                             environment=environment, timeout=200)
        self.assertEqual(done.stdout.decode(), f"loaded {2 * self.ROUNDS}\n")
        run = trace.info()["run"]
        for kind, counts in run["events"].items():
            self.assertEqual(counts["observed"], counts["recorded"] + counts["dropped"] + counts["skipped"], kind)
        return trace, run

    def test_G1_G2_loading_walking_and_allocating_at_once(self):
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                self.storm(mode, options)

    def test_G1_stacks_are_those_of_the_library_that_is_there(self):
        trace, run = self.storm("full", (), clean_environment(TIDEMARK_LIBRARY=str(CHECKED)))
        self.assertEqual(run["unwinding"]["wrong"], 0, run["unwinding"])
        self.assertGreater(run["unwinding"]["checked"], 10 * self.ROUNDS)
        called = {}
        for stack, count in trace.folded("count").items():
            # In a constructor, too, but not each time: a library that the other thread holds is not loaded again.
            if stack[-1].startswith("bottom_") and not any(name.startswith("_dl_") for name in stack):
                called[stack[-3:]] = called.get(stack[-3:], 0) + count
        self.assertEqual(set(called), {("plugin_entry", f"middle_{letter}", f"bottom_{letter}") for letter in "abcd"})
        self.assertEqual(sum(called.values()), 2 * self.ROUNDS * 5)


class FirstUnwind(unittest.TestCase):
    def test_G5_in_the_constructor_of_a_library(self):
        """The first stack of a process is taken while the loader still runs constructors, under its lock."""
        library = plugins("e")[0]
        source = SCRATCH / "unwind_linked.c"
        source.write_text("// Does nothing but being linked to a plugin.\nint main(void) { return 0; }\n")
        program = compile_program("", f"-Wl,--no-as-needed,-rpath,{SCRATCH}", str(library), sources=[source],
                                  output=SCRATCH / "unwind_linked")
        for name, (mode, options) in MODES.items():
            if name == "sampled":
                continue  # one allocation in half a megabyte: none of them
            with self.subTest(mode=name):
                done, trace = record([program], "-q", *options, mode=mode)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertIn(("plugin_entry", "middle_e", "bottom_e"),
                              {stack[-3:] for stack in trace.folded("count")})


if __name__ == "__main__":
    unittest.main()
