"""Signal safety, read from the machine code of the built library: what a hook or a handler of ours can reach.

docs/signal-safety.md is the allow-list: its tables name each function of libc, each system call and the stack that
hooks need, with the reason. What the code has and the document has not fails here, with the chain of calls that leads
there. First the reader itself is held to a planted library that does what is forbidden, in all ways that a compiler
knows. Must not: run the library.
"""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import tree
from call_graph import CallGraph

BUILD = Path(os.environ.get("TIDEMARK_BUILD_DIR", tree.ROOT / "build"))
LIBRARY = BUILD / "interpose" / "libtidemark.so"
DOCUMENT = tree.ROOT / "docs" / "signal-safety.md"

# Only this function is called before a thread's first event in a process image is recorded, or for a nested one.
FIRST_EVENT = "recorder::EnterSlowly"
AT_EXIT = "lifecycle::Destruct"
LEAK_CHECK = "tidemark_leak_check"
PHASES = ("start", "first event", "later", "end")

# Whose address is taken, and who calls it. A new one fails the test until it stands here: callers by address are not
# seen by the graph. "handler": a root of its own.
ADDRESS_TAKEN = {
    "heap::OnError": "by mimalloc, when it has failed: sets errno",
    "heap::AddPage": "by mimalloc, for each page of the calling thread, when it is asked for a report",
    "TakeAdds": "by dl_iterate_phdr, at start",
    "FindTool": "by nobody: the address tells which file the library is",
    "lifecycle::EntryOf": "by nobody: the address tells which entry of the loader's list is ours",
    "guard::OnFault": "handler: of SIGSEGV, with guarded slots",
    "tidemark_restore_rt": "by the kernel: what that handler returns to",
    "heap::ClockOfHeap": "by mimalloc, instead of clock_gettime",
    "heap::SyscallOfHeap": "by mimalloc, instead of syscall",
    "OwnPrctl": "by prctl, before the next one is known",
    "OwnSyscall": "by syscall, before the next one is known",
    "exits::OnSignal": "at the end: of the signal that --leak-check-signal names",
    "exits::RunMain": "at the end: by libc, in place of main",
    "exits::NotThere": "by nobody: stands for what this libc does not have",
    "exits::NextInRegion": "at the end: by a leak check in sampled mode",
    "leak_request::OnSignal": "at the end: of the signal that asks for a leak check",
    "leak_check::Check::InCopy": "at the end: by RunCopy",
    "RunMiddle": "at the end: in the child that makes a copy",
    "RunCopy": "at the end: in the copy, or in the child that makes one",
    "OnFault": "at the end: of signals that end a copy",
    "OnStop": "at the end: of the signal that stops threads for a leak check",
    "lifecycle::EarlyUsableSize": "by SlowUsableSize, before the constructor",
}
# Tables of functions, by the name of the variable, and what is in them.
TABLES = {
    "hot": "mimalloc",
    "heap::mi": "mimalloc",
    "tidemark_next_exits": "who serves exit, exec and their like behind us",
    "leak_check::heap": "mimalloc's usable_size, and exits::NextInRegion",
    "exits::real_main": "main",
    "tidemark_next_prctl": "who serves prctl behind us",
    "tidemark_next_syscall": "who serves syscall behind us",
}
# Functions that call what a pointer in a register says, and what that is.
BY_REGISTER = {
    "lifecycle::Construct": "dlsym, as often as it is called",
    "RunCopy": "leak_check::Check::InCopy",
    "tidemark_clone": "RunMiddle or RunCopy",
    "AllocateSlow": "the next allocator",
    "FreeSlow": "the next allocator",
    "ReallocateSlow": "the next allocator",
    "SlowUsableSize": "the next allocator",
    "valloc": "the next allocator",
    "tidemark_exit_watched": "who serves exit, exec and their like behind us",
    "exits::Resolve": "dlsym, as often as it is called",
    **{name: "the next library's"
       for name in ("mallinfo", "mallinfo2", "malloc_info", "malloc_stats", "malloc_trim")},
    "heap::CurrentUsage": "mimalloc",
}
# Put there by the compiler's own start files, in every shared library.
START_FILES = {"frame_dummy", "register_tm_clones", "deregister_tm_clones", "__do_global_dtors_aux", "_init", "_fini"}
# Asked by unit tests only.
FOR_TESTS = {"region::RequestedSize"}
# What a compiler may or may not put in line.
INLINED_AT_WILL = {"memcpy", "memset", "memmove", "memcmp", "strlen", "strcmp"}

FORBIDDEN = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define OUT_OF_LINE __attribute__((noinline, noclone, visibility("hidden")))
#define STOP __asm__ volatile("" ::: "memory")
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
volatile int x;
OUT_OF_LINE void locks(void) { pthread_mutex_lock(&lock); STOP; }
OUT_OF_LINE void between(void) { locks(); STOP; }
void hook_calls(void) { between(); STOP; }
OUT_OF_LINE int prints(const char* text) { return puts(text); }
int hook_jumps(const char* text) { if (x) return prints(text); return 0; }
OUT_OF_LINE void* obtains(size_t n) { return n ? malloc(n) : 0; }
void* hook_of_a_table(size_t n);
static struct { void* (*obtain)(size_t); void (*drop)(void*); } functions = { obtains, free };
void set(void* (*f)(size_t)) { functions.obtain = f; }
void* hook_of_a_table(size_t n) { void* p = functions.obtain(n); STOP; return p; }
struct object { void (*method)(void); };
void hook_by_register(struct object* o) { o->method(); STOP; }
int other(int);
int hook_switch(int n) {
  switch (n) {
    case 0: return other(3); case 1: return other(x); case 2: x = 3; return 4; case 3: return x;
    case 4: other(1); return 9; case 5: x = 9; return 1; case 6: return other(7) + 1; case 7: x++; return 0;
    default: return 5;
  }
}
int other(int n) { return n + x; }
static void on_event(int n) { x = n; }
void* hook_takes(void) { return (void*)on_event; }
void hook_repeats(int n) { while (n-- > 0) { usleep(1); usleep(2); usleep(3); } }
long hook_asks_kernel(void) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(39) : "rcx", "r11", "memory");
  STOP;
  return result;
}
void hook_with_frame(void) {
  volatile char room[3000];
  room[x] = 1;
  hook_calls();
  STOP;
}
__attribute__((constructor)) static void at_start(void) { x = 1; }
"""


def planted(folder, *flags):
    source = Path(folder) / "planted.c"
    source.write_text(FORBIDDEN)
    library = Path(folder) / ("planted" + "".join(flags) + ".so")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-w", "-fcf-protection=none", "-fno-stack-protector",
                    "-U_FORTIFY_SOURCE", *flags, source, "-o", library], check=True)
    return CallGraph(library)


class PlantedTest(unittest.TestCase):
    """What must be found, is found: once called through the procedure linkage table, once through the GOT."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tidemark-call-graph-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.graphs = [planted(cls.folder, flag) for flag in ("-fplt", "-fno-plt")]

    def check(self, hook, external, chain):
        for graph in self.graphs:
            with self.subTest(library=graph.library):
                chains = graph.chains_to_externals(graph.reach([graph.exports[hook]]))
                self.assertEqual(chains.get(external), chain)

    def test_a_lock_three_calls_away(self):
        self.check("hook_calls", "pthread_mutex_lock", "hook_calls -> between -> locks -> pthread_mutex_lock")

    def test_stdio_by_tail_jumps(self):
        self.check("hook_jumps", "puts", "hook_jumps -> prints -> puts")

    def test_what_a_table_calls(self):
        for graph in self.graphs:
            reached = graph.reach([graph.exports["hook_of_a_table"]])
            self.assertEqual(graph.of_all(reached, "tables"), {"functions"})
            (obtains,) = graph.named("obtains")
            self.assertEqual(graph.taken[obtains], {"data"})

    def test_calls_by_register_but_not_switches(self):
        for graph in self.graphs:
            unnamed = {function.name for function in graph.functions.values() if function.unnamed}
            self.assertEqual(unnamed - START_FILES - {"hook_repeats"}, {"hook_by_register"})
            (switch,) = graph.named("hook_switch")
            text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", graph.library], capture_output=True,
                                  text=True, check=True).stdout
            self.assertRegex(text[text.index("<hook_switch>:"):].split("\n\n")[0], r"jmp +\*%", "no table was made")
            self.assertEqual(graph.functions[switch].unnamed, [])

    def test_addresses_that_are_taken(self):
        for graph in self.graphs:
            (on_event,) = graph.named("on_event")
            self.assertEqual(graph.taken[on_event], {"hook_takes"})

    def test_a_function_of_another_library_that_is_called_by_register(self):
        self.check("hook_repeats", "usleep", "hook_repeats -> usleep")

    def test_constructors(self):
        for graph in self.graphs:
            self.assertIn("at_start", {graph.functions[address].name for address in graph.starters})

    def test_system_calls(self):
        for graph in self.graphs:
            self.assertEqual(graph.functions[graph.exports["hook_asks_kernel"]].system_calls, {39})

    def test_stack(self):
        for graph in self.graphs:
            alone, _ = graph.deepest(graph.exports["hook_calls"])
            deeper, names = graph.deepest(graph.exports["hook_with_frame"])
            self.assertEqual(names, ("hook_with_frame", "hook_calls", "between", "locks"))
            self.assertGreaterEqual(deeper - alone, 2880)  # the red zone holds some of the 3,000
            self.assertLess(deeper - alone, 3200)

    def test_the_check_itself_refuses(self):
        graph = self.graphs[0]
        reached = graph.reach([graph.exports["hook_calls"], graph.exports["hook_jumps"]])
        complaints = offenders(graph, reached, {"puts"})
        self.assertEqual(complaints, ["hook_calls -> between -> locks -> pthread_mutex_lock"])


def offenders(graph, reached, allowed):
    """Chains to functions of other libraries that are not allowed."""
    return [chain for name, chain in graph.chains_to_externals(reached).items() if name not in allowed]


def rows_under(heading, text):
    """Cells of the table below a heading, without its two head rows."""
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    lines = [line for line in match[1].splitlines() if line.startswith("|")] if match else []
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def exported_names(kinds):
    table = (tree.ROOT / "interpose" / "hook_table.h").read_text()
    return re.findall(rf"^  (?:{kinds})\((\w+)\)", table, re.M)


def hook_names():
    return [name for name in exported_names("HOOK|REPORT|API|WATCHED") if name != LEAK_CHECK]


def exit_names():
    return exported_names("EXIT") + [LEAK_CHECK]


class LibraryTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.graph = CallGraph(LIBRARY)
        cls.text = DOCUMENT.read_text()
        graph = cls.graph
        hooks = [graph.exports[name] for name in hook_names()]
        handlers = [address for name, how in ADDRESS_TAKEN.items() if how.startswith("handler")
                    for address in graph.named(name)]
        gate = graph.named(FIRST_EVENT)
        cls.roots = hooks + handlers
        cls.exits = [graph.exports[name] for name in exit_names()]
        cls.exits += graph.named(AT_EXIT)
        cls.exits += [address for name, how in ADDRESS_TAKEN.items() if how.startswith("at the end")
                      for address in graph.named(name)]
        cls.reached = {
            "start": graph.reach({address for address in graph.starters
                                  if graph.functions[address].name not in START_FILES | {AT_EXIT}}),
            "first event": graph.reach(gate),
            "later": graph.reach(cls.roots, without=gate),
            "end": graph.reach(cls.exits),
        }
        cls.everything = graph.reach(cls.roots + cls.exits)

    def test_there_is_something_to_check(self):
        self.assertEqual(len(self.graph.named(FIRST_EVENT)), 1, f"{FIRST_EVENT} is gone: name what took its place")
        self.assertGreater(len(self.everything), 60)
        self.assertEqual(set(self.everything), set.union(*(set(self.reached[phase]) for phase in PHASES[1:])))

    def test_functions_of_libc(self):
        allowed = {phase: set() for phase in PHASES}
        for name, *marks, why in rows_under("Functions of libc", self.text):
            self.assertTrue(why, name)
            for phase, mark in zip(PHASES, marks, strict=True):
                if mark:
                    allowed[phase].add(name.strip("`"))
        for phase in PHASES:
            with self.subTest(phase=phase):
                chains = offenders(self.graph, self.reached[phase], allowed[phase])
                self.assertEqual(chains, [], f"not allowed ({phase}) by {DOCUMENT.name}")
                unused = allowed[phase] - set(self.graph.chains_to_externals(self.reached[phase]))
                self.assertEqual(unused - INLINED_AT_WILL, set(), f"{DOCUMENT.name} names what is not called")

    def test_function_pointers_are_accounted_for(self):
        graph = self.graph
        taken = {graph.functions[address].name for address in graph.taken} - START_FILES
        # Hooks may be handed to anybody: they are roots of the graph.
        hooks = set(hook_names() + exit_names())
        self.assertEqual(taken - hooks, set(ADDRESS_TAKEN), "functions whose address is taken")
        reached = set(self.everything) | set(self.reached["start"])
        self.assertEqual(graph.of_all(reached, "tables"), set(TABLES), "tables that are called through")
        unnamed = {graph.functions[address].name for address in reached if graph.functions[address].unnamed}
        self.assertEqual(unnamed - set(BY_REGISTER), set(), "functions that call by register")

    def test_nothing_is_bound_lazily(self):
        relocations = subprocess.run(["readelf", "-rW", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("JUMP_SLO", relocations)

    def test_no_static_initialiser_runs(self):
        """Our constructor runs before all others; state that another one sets up would be set up too late."""
        names = {self.graph.functions[address].name for address in self.graph.starters} - START_FILES
        self.assertEqual(names, {"lifecycle::Construct", AT_EXIT})

    def test_no_function_is_reached_from_nowhere(self):
        """Code that the graph does not reach would be code that it cannot vouch for."""
        seen = set(self.everything) | set(self.reached["start"]) | set(self.graph.taken)
        loose = {function.name for address, function in self.graph.functions.items() if address not in seen}
        self.assertEqual(loose - START_FILES - {".plt", "__cxa_finalize"} - FOR_TESTS, set())

    def test_system_calls(self):
        numbers = {}
        for phase, reached in self.reached.items():
            for address in reached:
                for number in self.graph.functions[address].system_calls:
                    numbers.setdefault(number, (phase, self.graph.chain(reached, address)))
        self.assertNotIn(None, numbers, "a system call whose number the code does not tell")
        names = syscall_names()
        listed = " ".join(cell for row in rows_under("System calls", self.text) for cell in row)
        words = set(re.findall(r"\w+", listed))
        unlisted = {names[number]: where for number, where in numbers.items() if names[number] not in words}
        self.assertEqual(unlisted, {})

    def test_stack(self):
        gate = self.graph.named(FIRST_EVENT)
        figures = {row[0]: int(row[1].replace(",", "")) for row in rows_under("Stack", self.text)}
        depth = {
            "later": max(self.graph.deepest(root, without=gate) for root in self.roots),
            "first event": max(self.graph.deepest(root) for root in gate),
            "end": max(self.graph.deepest(root) for root in self.exits),
        }
        for phase, (size, names) in depth.items():
            self.assertLessEqual(size, figures[f"frames of ours, {phase}"], f"{phase}: {' -> '.join(names)}")


def syscall_names():
    text = subprocess.run(["gcc", "-E", "-dM", "-x", "c", "-"], input="#include <sys/syscall.h>\n",
                          capture_output=True, text=True, check=True).stdout
    return {int(number): name for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", text, re.M)}


if __name__ == "__main__":
    unittest.main()
