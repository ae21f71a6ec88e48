"""The leak check inside of the process: planted blocks of known fate, all ways to end, and what must go on unharmed.

programs/leak_plants.c names its blocks by their sizes, so a verdict is {size: class}; nothing else may be lost, which
is the test of no false positives. The verdicts are read from the trace's bytes (leak_rows.py). Must not: look at
reports.
"""
import collections
import os
import signal
import subprocess
import unittest
from pathlib import Path

import leak_rows
from leak_rows import (ABORT, DEFINITE, DONE, EXEC, EXIT_AFTER, EXIT_BEFORE, GLOBAL, INDIRECT, INHERITED, MAPPING,
                       NO_MAPS, NO_MEMORY, POSSIBLE, QUICK_EXIT, REACHABLE, SIGNAL, STACK, THREAD_LOCAL,
                       UNDERSCORE_EXIT)
from tracing import SCRATCH, TOOL, clean_environment, compile_program, record

# Of each class, the sizes of the blocks, as often as they occur.
LOST = {DEFINITE: [0, 1001, 1011, 1601, 1601, 1601, 1601, 1702, 2201, 2301, 2403, 2502],
        INDIRECT: [1002, 1003, 1011], POSSIBLE: [1201, 1216]}
ROOTS = {GLOBAL: 1101 + 1102 + 1901, THREAD_LOCAL: 1301, MAPPING: 1401 + 1402 + 1403}
# The loader's table of a thread's storage, which the thread's control block points behind the beginning of.
LOADERS = 320
CHECK = "--leak-check"


def lost(check):
    """{class: sizes} of what is not reachable, without what the loader keeps for threads."""
    found = collections.defaultdict(list)
    for row in check.rows:
        if row.leak_class != REACHABLE and (row.leak_class, row.bytes) != (POSSIBLE, LOADERS):
            found[row.leak_class].append(row.bytes)
    return {leak_class: sorted(sizes) for leak_class, sizes in found.items()}


def with_more(leak_class, *sizes):
    more = dict(LOST)
    more[leak_class] = sorted(more[leak_class] + list(sizes))
    return more


class LeakCheckCase(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.program = compile_program("leak_plants.c", "-O0", "-w", "-pthread")

    def run_plants(self, *arguments, status=7, options=(CHECK,), mode="full", command=None, environment=None):
        """(checks of the program's own trace, the trace)"""
        done, trace = record(command or [self.program, *arguments], *options, mode=mode, check=False,
                             environment=environment)
        self.assertEqual(done.returncode, status, done.stderr.decode(errors="replace"))
        return leak_rows.leak_checks(trace.path), trace

    def assert_done(self, checks, *triggers):
        self.assertEqual([(check.trigger, check.outcome, check.flags) for check in checks],
                         [(trigger, DONE, 0) for trigger in triggers])


class Endings(LeakCheckCase):
    def test_return_from_main(self):
        """What only main's variables held is lost when it has returned."""
        checks, _ = self.run_plants("return")
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        for check in checks:
            self.assertEqual(lost(check), with_more(DEFINITE, 1501))

    def test_exit(self):
        checks, trace = self.run_plants("exit")
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        for check, in_globals in zip(checks, (1101 + 1102 + 1901, 1101 + 1102)):
            self.assertEqual(lost(check), LOST)
            by_root = collections.Counter()
            for row in check.rows:
                if row.leak_class == REACHABLE:
                    by_root[row.root] += row.bytes
            self.assertEqual(by_root, {**ROOTS, GLOBAL: in_globals, STACK: 1501})
            self.assertEqual(check.live_bytes, sum(row.bytes for row in check.rows))
            self.assertEqual(check.live_blocks, sum(row.blocks for row in check.rows))
        self.assertEqual(len({row.node for row in checks[0].rows if row.bytes == 1601}), 4, "one stack for each depth")
        leaders = {row.bytes: row.leader for row in checks[0].rows}
        heads = {row.bytes: row.address for row in checks[0].rows if row.leak_class == DEFINITE}
        self.assertEqual(leaders[1002], heads[1001])
        self.assertEqual(leaders[1003], heads[1001])

    def test_every_other_way(self):
        ways = {"_exit": UNDERSCORE_EXIT, "_Exit": UNDERSCORE_EXIT, "quick_exit": QUICK_EXIT, "abort": ABORT}
        for ending, trigger in ways.items():
            with self.subTest(ending=ending):
                checks, _ = self.run_plants(ending, status=128 + signal.SIGABRT if ending == "abort" else 7)
                self.assert_done(checks, trigger)
                self.assertEqual(lost(checks[0]), LOST)

    def test_every_exec(self):
        """One check of the image that goes; an attempt that fails is no end. The file's name is the last image's."""
        for ending in ("execl", "execle", "execlp", "execv", "execvp", "execvpe", "execve", "fexecve", "execveat"):
            with self.subTest(ending=ending):
                _, trace = self.run_plants(ending)
                checks = [leak_rows.leak_checks(path) for path in Path(trace.path).parent.glob("trace.tmk*")]
                ours = [found for found in checks if found and found[0].trigger == EXEC]
                self.assertEqual(len(ours), 1, checks)
                self.assert_done(ours[0], EXEC)
                self.assertEqual(lost(ours[0][0]), LOST)

    def test_a_signal_that_was_named(self):
        checks, _ = self.run_plants("TERM", status=128 + signal.SIGTERM, options=("--leak-check-signal", "TERM"))
        self.assert_done(checks, SIGNAL)
        self.assertEqual(lost(checks[0]), LOST)
        checks, _ = self.run_plants("TERM", status=128 + signal.SIGTERM)
        self.assertEqual(checks, [], "nobody has named it")

    def test_off_is_off(self):
        checks, trace = self.run_plants("exit", options=())
        self.assertEqual(checks, [])
        _, watched = self.run_plants("exit")
        self.assertEqual(watched.folded(), trace.folded(), "the stand-in for main is in nobody's stack")

    def test_sampled_blocks(self):
        """With a draw for every few bytes most blocks are samples; none that is held is called lost."""
        checks, _ = self.run_plants("exit", mode="sampled", options=(CHECK, "--sample-bytes", "16", "--seed", "3"))
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        allowed = collections.Counter(size for sizes in LOST.values() for size in sizes) + collections.Counter([1])
        for check in checks:
            sizes = collections.Counter(size for found in lost(check).values() for size in found)
            self.assertEqual(sizes - allowed, {})
            self.assertGreater(sum(sizes.values()), 8)
            self.assertIn(1001, lost(check)[DEFINITE])


class Surroundings(LeakCheckCase):
    def test_threads(self):
        """Asleep, running, and with a key: what they hold is held, and they are stopped meanwhile."""
        checks, _ = self.run_plants("exit", "threads")
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        for check in checks:
            self.assertEqual(lost(check), LOST)
            self.assertEqual((check.threads, check.not_stopped), (4, 0))

    def test_threads_that_allocate_all_the_time(self):
        """Wherever they are stopped, in the middle of an allocation or a realloc, nothing of theirs is called lost."""
        storm = compile_program("leak_storm.cc", "-pthread")
        for ending, triggers in (("return", (EXIT_BEFORE, EXIT_AFTER)), ("_exit", (UNDERSCORE_EXIT,))):
            for _ in range(3):
                checks, _ = self.run_plants(status=0, command=[storm, ending])
                self.assert_done(checks, *triggers)
                for check in checks:
                    self.assertEqual(lost(check), {})

    def test_closed_descriptors(self):
        checks, _ = self.run_plants("return", "closed")
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        self.assertEqual(lost(checks[0]), with_more(DEFINITE, 1501))

    def test_mappings_that_are_traps(self):
        """Files that were cut off, 64 GiB that nobody has touched, 3,000 pages with guards."""
        checks, _ = self.run_plants("exit", "traps")
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        self.assertEqual(lost(checks[0]), LOST)

    def test_a_module_that_is_gone(self):
        holder = compile_program("leak_holder.c", "-shared", "-fPIC", output=SCRATCH / "leak_holder.so")
        checks, _ = self.run_plants("exit", holder)
        self.assertEqual(lost(checks[0]), with_more(DEFINITE, 1907))

    def test_a_stack_in_a_block(self):
        """It holds what it holds. Nobody knows then how far the thread's own stack is in use: old words there may hide
        leaks, and must not make any."""
        checks, _ = self.run_plants("exit", "coroutine")
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        found = lost(checks[0])
        for leak_class in (DEFINITE, INDIRECT, POSSIBLE):
            self.assertEqual(collections.Counter(found[leak_class]) - collections.Counter(LOST[leak_class]), {})
        self.assertIn(1001, found[DEFINITE])
        self.assertEqual([row.root for row in checks[0].rows if row.bytes == 1507], [STACK])

    def test_children(self):
        for how in ("fork", "daemon"):
            with self.subTest(how=how):
                checks, trace = self.run_plants("exit", how)
                self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
                self.assertEqual(lost(checks[0]), LOST)
                children = [leak_rows.leak_checks(path) for path in Path(trace.path).parent.glob("trace.tmk.*")]
                for checks in filter(None, children):
                    for check in checks:
                        self.assertEqual(lost(check), with_more(DEFINITE, 3001))
                        for row in check.rows:
                            if row.bytes == 3001 and how == "daemon":
                                continue  # the child's own, and its own child's inheritance
                            own = row.bytes == 3001
                            self.assertEqual((row.flags, row.node == 0), (0, False) if own else (INHERITED, True))
                triggers = sorted(check.trigger for checks in children for check in checks)
                self.assertEqual(triggers.count(EXIT_AFTER), 1, "the child that calls exit")

    def test_a_vfork_child_does_not_look(self):
        checks, trace = self.run_plants("exit", "vfork")
        self.assert_done(checks, EXIT_BEFORE, EXIT_AFTER)
        self.assertEqual(len(list(Path(trace.path).parent.iterdir())), 1)

    def test_no_memory_is_said(self):
        checks, _ = self.run_plants("return", "no-memory")
        self.assertEqual([(check.trigger, check.outcome) for check in checks],
                         [(EXIT_BEFORE, NO_MEMORY), (EXIT_AFTER, NO_MEMORY)])
        self.assertEqual([check.rows for check in checks], [[], []])

    @unittest.skipIf(os.geteuid() != 0, "needs root to unmount /proc in a namespace of its own")
    def test_no_proc_is_said(self):
        inside = f"umount -l /proc && exec {self.program} exit"
        done, trace = record(["unshare", "--mount", "--propagation", "private", "sh", "-c", inside], CHECK, check=False)
        self.assertEqual(done.returncode, 7, done.stderr)
        checks = leak_rows.leak_checks(trace.path)
        self.assertEqual([(check.trigger, check.outcome, check.rows) for check in checks],
                         [(EXIT_BEFORE, NO_MAPS, []), (EXIT_AFTER, NO_MAPS, [])])


class CommandLine(unittest.TestCase):
    def test_signals_that_cannot_be(self):
        for name in ("KILL", "SEGV", "15", "", "NOSUCH"):
            with self.subTest(name=name):
                done = subprocess.run([TOOL, "record", f"--leak-check-signal={name}", "--", "true"],
                                      capture_output=True, text=True, env=clean_environment(), timeout=60)
                self.assertEqual(done.returncode, 125, done.stderr)
                self.assertIn("--leak-check-signal", done.stderr)


if __name__ == "__main__":
    unittest.main()
