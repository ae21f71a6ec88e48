"""Recorded stacks are the real ones: known call chains through everything that makes unwinding hard.

Programs are compiled with -O2 -fomit-frame-pointer, so nothing but call frame information leads from frame to frame.
"""
import subprocess
import unittest

from tracing import PROGRAMS, SCRATCH, clean_environment, compile_program, record

FLAGS = ("-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread", "-Wl,-z,lazy")
ROOT = ("_start", "main")


def stacks_program():
    library = compile_program("stacks_library.c", "-fPIC", "-shared", "-fomit-frame-pointer",
                              output=SCRATCH / "libstacks_library.so")
    return compile_program("stacks.cc", *FLAGS, "-g1", str(library), f"-Wl,-rpath,{SCRATCH}")


def stacks_of(*arguments):
    """The stacks of one run as tuples, root first, and the info document."""
    _, trace = record([stacks_program(), *arguments])
    return trace.folded("count"), trace.info()


def is_subsequence(chain, stack):
    rest = iter(stack)
    return all(name in rest for name in chain)


class Stacks(unittest.TestCase):
    def assert_chain(self, chain, arguments, complete=True, root=ROOT):
        stacks, info = stacks_of(*arguments)
        wanted = tuple(root) + tuple(chain)
        matches = [s for s in stacks if is_subsequence(wanted, s) and s[-1] == chain[-1]]
        self.assertTrue(matches, f"no stack {';'.join(wanted)} in:\n" + "\n".join(";".join(s) for s in stacks))
        if complete:
            self.assertEqual(info["run"]["unwinding"]["truncated"], 0)
        return matches

    def test_qsort(self):
        self.assert_chain(["sorts", "compare", "leaf"], ["qsort"])

    def test_synchronous_signal_in_the_middle_of_a_function(self):
        self.assert_chain(["signals", "raises", "step_over", "leaf"], ["signal"])

    def test_raised_signal(self):
        self.assert_chain(["signals", "on_signal", "leaf"], ["signal"])

    def test_signal_on_an_alternate_stack(self):
        self.assert_chain(["signals", "raises", "step_over", "leaf"], ["altstack"])
        self.assert_chain(["signals", "on_signal", "leaf"], ["altstack"])

    def test_exception_object(self):
        self.assert_chain(["catches", "passes", "throws", "__cxa_allocate_exception"], ["exception"])

    def test_destructor_during_unwinding(self):
        self.assert_chain(["catches", "passes", "leaf"], ["exception"])

    def test_catch_block(self):
        self.assert_chain(["catches", "leaf"], ["exception"])

    def test_noreturn_caller(self):
        self.assert_chain(["calls_noreturn", "never_returns", "leaf"], ["noreturn"])

    def test_shared_library(self):
        self.assert_chain(["library_entry", "library_inner", "leaf"], ["library"])

    def test_frames_of_unknown_size_and_realigned_ones(self):
        self.assert_chain(["variable_frame", "leaf"], ["frames", "3000"])
        self.assert_chain(["aligned_frame", "leaf"], ["frames", "3000"])

    def test_thread(self):
        self.assert_chain(["thread_main", "leaf"], ["thread"], root=["start_thread"])

    def test_coroutine_on_a_stack_of_its_own(self):
        # glibc gives its __start_context no end mark: the stack counts as truncated there, and nothing made up follows.
        matches = self.assert_chain(["fiber_main", "leaf"], ["fiber"], root=["[truncated]"], complete=False)
        fibers = [stack for stack in matches if "runs_fiber" not in stack]
        self.assertEqual({(stack[0], stack[2:]) for stack in fibers}, {("[truncated]", ("fiber_main", "leaf"))})
        self.assert_chain(["runs_fiber", "leaf"], ["fiber"], complete=False)

    def test_recursion_that_is_kept_whole(self):
        for depth in (5, 60, 900, 1000):
            with self.subTest(depth=depth):
                matches = self.assert_chain(["deep", "leaf"], ["deep", str(depth)])
                self.assertEqual({stack.count("deep") for stack in matches}, {depth + 1})

    def test_deep_recursion_keeps_leaf_and_root(self):
        _, trace = record(["bash", "-c", 'ulimit -s unlimited; exec "$@"', "-", stacks_program(), "deep", "100000"],
                          check=True)
        stacks = [s for s in trace.folded("count") if s[-1] == "leaf"]  # the trace is the program's, not bash's
        self.assertEqual(len(stacks), 1)
        stack = stacks[0]
        self.assertTrue(is_subsequence(ROOT + ("deep", "[truncated]", "deep", "leaf"), stack), stack[:8])
        self.assertGreater(stack.count("deep"), 900)

    def test_libraries_that_take_turns_at_one_address(self):
        libraries = []
        for letter in "abc":
            source = SCRATCH / f"plugin_{letter}.c"
            source.write_text(f'''#include <stdlib.h>
__attribute__((noinline)) static void inner_{letter}(void* volatile* out) {{
  *out = malloc(100);
  __asm__ volatile("" ::: "memory");
}}
void plugin(void* volatile* out) {{ inner_{letter}(out); free(*out); __asm__ volatile("" ::: "memory"); }}
''')
            libraries.append(SCRATCH / f"plugin_{letter}.so")
            subprocess.run(["gcc", "-O2", "-g1", "-fPIC", "-shared", "-fno-builtin", "-fomit-frame-pointer", source,
                            "-o", libraries[-1]], check=True)
        program = compile_program("plugins.c", "-ldl", "-fomit-frame-pointer")
        done, trace = record([program, "40", *libraries])
        stacks = trace.folded("count")
        for letter in "abc":
            found = sum(n for stack, n in stacks.items() if stack[-2:] == ("plugin", f"inner_{letter}"))
            self.assertEqual(found, 40, stacks)
        addresses = {line for line in done.stdout.splitlines()}
        self.assertLess(len(addresses), 120, "no address was used twice: this run proved nothing")

    def test_every_level_of_a_deep_recursion(self):
        """20,000 stacks of 1..20,000 frames: complete up to the limit, then truncated with both ends."""
        levels = 20000
        stacks, _ = stacks_of("deep-each", str(levels - 1))
        mine = {s: n for s, n in stacks.items() if s[-1] == "deep_each"}
        whole = {s.count("deep_each") for s in mine if "[truncated]" not in s}
        cut = sum(n for s, n in mine.items() if "[truncated]" in s)
        self.assertEqual(whole, set(range(1, max(whole) + 1)))
        self.assertGreater(max(whole), 1000)
        self.assertEqual(len(whole) + cut, levels)
        self.assertTrue(all(is_subsequence(ROOT, s) for s in mine))


def chain_source(depth, language):
    """A program of `depth` functions that call each other in a line, with frames of many shapes."""
    lines = ["#include <stdlib.h>", "#include <string.h>", "static void* volatile sink;",
             'static void bottom(int) __attribute__((noinline));' if language == "c++" else ""]
    lines = ["#include <stdlib.h>", "#include <string.h>", "#include <alloca.h>", "static void* volatile sink;",
             "volatile int one = 1;"]
    attribute = "__attribute__((noinline,noclone))"
    previous = None
    for i in reversed(range(depth)):
        name = f"chain_{i:02d}"
        call = f"{previous}(n + {i}, x * 1.5);" if previous else "sink = malloc(4242);"
        shape = i % 6
        body = {
            0: f"{call} __asm__ volatile(\"\");",
            1: f"char b[{16 + 24 * i}]; memset(b, n, sizeof b); sink = b; {call} "
               "__asm__ volatile(\"\" :: \"r\"(b) : \"memory\");",
            2: f"int i, s = n; for (i = 0; i < one; i++) {{ {call} s += i; }} one = one + 0 * s;",
            3: f"char* p = (char*)alloca((size_t)(one * {40 + i})); p[0] = 1; {call} sink = p;",
            4: f"double y = x; long a = n, b = n * 2, c = n * 3, d = n * 5; {call} "
               "__asm__ volatile(\"\" :: \"x\"(y), \"r\"(a), \"r\"(b), \"r\"(c), \"r\"(d));",
            5: f"if (n > 1000000) return; {call} __asm__ volatile(\"\" ::: \"rbx\", \"r12\", \"r13\", \"memory\");",
        }[shape]
        linkage = 'extern "C" ' if language == "c++" else ""
        lines.append(f"{linkage}{attribute} void {name}(int n, double x) {{ {body} }}")
        previous = name
    lines.append("int main(void) { for (int i = 0; i < 3; i++) chain_00(i, 0.5); return 0; }")
    return "\n".join(lines)


class Chains(unittest.TestCase):
    """Recall: of generated chains of 5 to 60 frames, at least 99 % must be recorded exactly, frame by frame."""

    def test_recall_without_frame_pointers(self):
        compilers = [("gcc", "c"), ("g++", "c++")]
        if subprocess.run(["which", "clang"], capture_output=True).returncode == 0:
            compilers.append(("clang", "c"))
        exact = total = 0
        wrong = []
        for compiler, language in compilers:
            for depth in range(5, 61, 5):
                for flags in (("-O2",), ("-O2", "-fPIE", "-pie"), ("-O1", "-fno-pie", "-no-pie"), ("-Os",)):
                    source = SCRATCH / f"chain_{depth}.{'cc' if language == 'c++' else 'c'}"
                    source.write_text(chain_source(depth, language))
                    program = SCRATCH / f"chain-{compiler}-{depth}-{len(flags)}-{flags[0]}"
                    subprocess.run([compiler, *flags, "-fomit-frame-pointer", "-fno-optimize-sibling-calls",
                                    "-fno-builtin", "-w", source, "-o", program], check=True)
                    _, trace = record([program])
                    wanted = ("main",) + tuple(f"chain_{i:02d}" for i in range(depth))
                    stacks = trace.folded("count")
                    found = sum(n for stack, n in stacks.items()
                                if stack[-len(wanted):] == wanted and "[truncated]" not in stack)
                    total += 3
                    exact += found
                    if found != 3:
                        wrong.append((compiler, depth, flags, stacks))
        self.assertGreaterEqual(exact / total, 0.99, wrong[:2])


if __name__ == "__main__":
    unittest.main()
