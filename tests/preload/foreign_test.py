"""Other allocators beside tidemark: preloads in both orders, deep binding, name spaces, programs with their own malloc.

Rows A3, A7, A9 to A11, A13, C4, C6, C7 and C9 of the hazards. The programs check every block themselves; what is
compared is that nobody notices who else is there.
"""
import tempfile
import unittest
from pathlib import Path

from same_answers import MODES, RECORDING, SameAnswers
from tracing import LIBRARY, SCRATCH, clean_environment, compile_program

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
JEMALLOC = LIBRARIES / "libjemalloc.so.2"
TCMALLOC = LIBRARIES / "libtcmalloc.so.4"
TCMALLOC_MINIMAL = LIBRARIES / "libtcmalloc_minimal.so.4"
OPTIONS = {"idle": None, "every": "mode=sampled,sample_bytes=1", "full": "mode=full"}


def shared(name, *flags, output=None):
    return compile_program(name, "-shared", "-fPIC", *flags, output=output)


def churn():
    return compile_program("foreign_churn.c", "-pthread")


class Preloads(SameAnswers):
    """Another preload, before us and behind us."""

    def both_orders(self, *libraries, says=b""):
        plain = self.run_plain([churn()])
        self.assertEqual((plain.returncode, plain.stdout), (0, b"all as it should be\n"), plain.stderr)
        for mode, options in OPTIONS.items():
            for order in ([LIBRARY, *libraries], [*libraries, LIBRARY]):
                with self.subTest(mode=mode, first=Path(order[0]).name):
                    environment = clean_environment(LD_PRELOAD=":".join(map(str, order)))
                    if options:
                        environment["TIDEMARK_OPTIONS"] = f"{options},out={tempfile.mkdtemp(dir=SCRATCH)}/%p.tmk"
                    done = self.run_plain([churn()], environment)
                    self.assertEqual((done.returncode, done.stdout), (0, plain.stdout), done.stderr)
                    if order[0] == LIBRARY:
                        self.assertRegex(done.stderr, rb"^(%s)?$" % says)

    def test_A13_two_preloads_counter(self):
        self.both_orders(shared("foreign_counter.c"))

    def test_C4_two_preloads_open_hook_that_allocates(self):
        self.both_orders(shared("foreign_open_hook.c"))

    def test_A13_three_preloads(self):
        self.both_orders(shared("foreign_open_hook.c"), shared("foreign_counter.c"))

    @unittest.skipUnless(JEMALLOC.exists(), "libjemalloc2 is not installed")
    def test_A13_two_preloads_jemalloc(self):
        self.both_orders(JEMALLOC)

    @unittest.skipUnless(TCMALLOC_MINIMAL.exists(), "libtcmalloc-minimal4 is not installed")
    def test_A13_two_preloads_tcmalloc(self):
        self.both_orders(TCMALLOC_MINIMAL)

    @unittest.skipUnless(TCMALLOC.exists(), "libgoogle-perftools4 is not installed")
    def test_A13_two_preloads_tcmalloc_with_profiler(self):
        self.both_orders(TCMALLOC)

    def test_A13_two_preloads_mimalloc(self):
        """The very library that serves us, preloaded for itself: it has memory outside of our range already, so the
        program stays with what it asked for."""
        self.both_orders(LIBRARIES / "libmimalloc.so.2", says=rb"tidemark: not recording: libmimalloc.*\n")

    def test_A13_recording_behind_a_counter_says_so(self):
        environment = clean_environment(LD_PRELOAD=f"{shared('foreign_counter.c')}:{LIBRARY}",
                                        TIDEMARK_OPTIONS=f"mode=full,out={SCRATCH}/behind.%p.tmk")
        done = self.run_plain([churn()], environment)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr.decode(), r"^tidemark: not recording: .*malloc.*\n$")


class LinkedAllocators(SameAnswers):
    """Programs that link an allocator, and use names of its own."""

    @unittest.skipUnless(JEMALLOC.exists(), "libjemalloc2 is not installed")
    def test_A9_jemalloc_by_its_own_names(self):
        program = compile_program("foreign_extensions.c", "-DJEMALLOC", str(JEMALLOC),
                                  output=SCRATCH / "extensions-jemalloc")
        plain, _ = self.compare(program)
        self.assertEqual((plain.returncode, plain.stdout), (0, b"extensions 500\n"), plain.stderr)

    @unittest.skipUnless(TCMALLOC_MINIMAL.exists(), "libtcmalloc-minimal4 is not installed")
    def test_A9_tcmalloc_by_its_own_names(self):
        program = compile_program("foreign_extensions.c", "-DTCMALLOC", str(TCMALLOC_MINIMAL),
                                  output=SCRATCH / "extensions-tcmalloc")
        plain, _ = self.compare(program)
        self.assertEqual((plain.returncode, plain.stdout), (0, b"extensions 500\n"), plain.stderr)

    def test_A7_glibc_by_its_own_names(self):
        program = compile_program("foreign_extensions.c", "-DGLIBC", output=SCRATCH / "extensions-glibc")
        plain, _ = self.compare(program)
        self.assertEqual((plain.returncode, plain.stdout), (0, b"extensions 500\n"), plain.stderr)

    def check_program_linked_to(self, library, name):
        program = compile_program("foreign_churn.c", "-pthread", "-Wl,--no-as-needed", str(library),
                                  output=SCRATCH / f"churn-{name}")
        plain, _ = self.compare(program, shared("foreign_plugin.c"))
        self.assertEqual((plain.returncode, plain.stdout), (0, b"traded plainly\nall as it should be\n"), plain.stderr)

    @unittest.skipUnless(JEMALLOC.exists(), "libjemalloc2 is not installed")
    def test_C6_program_linked_to_jemalloc(self):
        self.check_program_linked_to(JEMALLOC, "jemalloc")

    @unittest.skipUnless(TCMALLOC_MINIMAL.exists(), "libtcmalloc-minimal4 is not installed")
    def test_C6_program_linked_to_tcmalloc(self):
        self.check_program_linked_to(TCMALLOC_MINIMAL, "tcmalloc")


class OwnMalloc(SameAnswers):
    def test_A3_A10_own_malloc_and_functions_of_libc_that_allocate(self):
        """strdup, getline, realpath and asprintf call the program's malloc, as nobody else has taken them over."""
        program = compile_program("foreign_own_malloc.c", "-rdynamic")
        plain, results = self.compare(program)
        self.assertEqual((plain.returncode, plain.stdout), (0, b"own malloc served 100\n"))
        for mode in RECORDING:
            self.assertTrue(results[mode][1].info()["run"]["bypassed"])

    def test_A11_library_with_a_malloc_for_itself(self):
        library = shared("foreign_own_malloc.c", "-DIN_LIBRARY", "-Wl,-Bsymbolic", output=SCRATCH / "libown.so")
        program = compile_program("foreign_bsymbolic.c", str(library), f"-Wl,-rpath,{SCRATCH}")
        plain, _ = self.compare(program)
        self.assertEqual((plain.returncode, plain.stdout), (0, b"library 100 program 1000\n"), plain.stderr)


class Plugins(SameAnswers):
    """Blocks that cross the border between two sets of symbols."""

    def trade(self, *arguments, modes=tuple(MODES)):
        plain, results = self.compare(churn(), *arguments, modes=modes)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertIn(b"traded", plain.stdout)
        return results

    def test_plainly_loaded_plugin(self):
        self.trade(shared("foreign_plugin.c"))

    def test_C7_deeply_bound_plugin_in_both_directions(self):
        """A plugin's own search finds libc before us. Its free gets our blocks, its blocks come to our free."""
        results = self.trade(f"deep:{shared('foreign_plugin.c')}")
        self.assertEqual(results["full"][1].info()["problems"], [])

    def test_C7_deeply_bound_plugin_of_cxx(self):
        """libstdc++ comes along: what the plugin deletes was newed here."""
        plugin = compile_program("foreign_plugin_cxx.cc", "-shared", "-fPIC")
        self.trade(f"deep:{plugin}")

    def test_C9_plugin_in_a_name_space_of_its_own(self):
        """A second libc with a malloc of its own, where no preload is: it keeps to itself."""
        self.trade(f"space:{shared('foreign_plugin.c')}")

    def test_all_kinds_at_once(self):
        plugin = shared("foreign_plugin.c")
        copies = []
        for i in range(2):
            copies.append(SCRATCH / f"plugin-copy-{i}.so")
            copies[-1].write_bytes(plugin.read_bytes())
        self.trade(plugin, f"deep:{copies[0]}", f"space:{plugin}", f"deep:{copies[1]}", modes=("idle", "every", "full"))


if __name__ == "__main__":
    unittest.main()
