"""Group C of the hazards: memory before the first constructor and after the last destructor, and odd ways to start.

C6, C7 and C9 (foreign pointers) are in foreign_test.py, C8 (dlopen is not taken over) is one of the exported symbols in
neutral_test.py.
"""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from same_answers import RECORDING, SameAnswers
from tracing import LIBRARY, SCRATCH, TOOL, Trace, clean_environment, compile_program

EARLY = ["errno 0, before us 0", "early blocks 6000", "block of a resolver 7", "moved 7",
         "variable at the constructor: {}, now: set by a constructor, made by a constructor, 1", "cleared 1",
         "at exit 1", "made by a constructor, freed by a destructor"]

HEAP_REPORTS = ["small blocks are seen by mallinfo2 1 mallinfo 1", "and when they are gone 1 1",
                "malloc_info tells of them 1, malloc_stats 1", "a block of 20 MB 1",
                "another thread's blocks 1", "and when it is gone 1", "what is in use and what is not make the whole 1",
                "errno is left alone 1", "malloc_trim gives memory back 1"]


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def early_program():
    first = compile_program("sem_early.c", "-DLIBRARY=first", "-shared", "-fPIC", "-Wl,-z,initfirst",
                            output=SCRATCH / "libearly_first.so")
    second = compile_program("sem_early.c", "-DLIBRARY=second", "-shared", "-fPIC",
                             output=SCRATCH / "libearly_second.so")
    return compile_program("sem_early.c", str(first), str(second), f"-Wl,-rpath,{SCRATCH}",
                           output=SCRATCH / "early_program")


class Bootstrap(SameAnswers):
    def check(self, environment=None, variable="unset"):
        plain, results = self.compare(early_program(), environment=environment)
        self.assertEqual(plain.stdout.decode().splitlines(), [line.format(variable) for line in EARLY], plain.stderr)
        self.assertEqual(plain.returncode, 0)
        return results

    def test_C1_C2_C11_memory_before_our_constructor(self):
        """A library of the program's is initialised first (the loader has one place for that, and the last to ask gets
        it), takes 6,000 blocks, makes dlsym allocate; the program's ifunc resolver takes one while it is relocated."""
        results = self.check()
        for mode in RECORDING:
            with self.subTest(mode=mode):
                self.assertFalse(results[mode][1].info()["run"]["bypassed"])

    def test_C3_D1_memory_after_the_last_destructor(self):
        """The library has no destructor that gives anything back, and no guard of a static to wait for."""
        out = output_of("nm", "--undefined-only", "-D", LIBRARY)
        for name in ("__cxa_atexit", "__cxa_guard_acquire", "__cxa_thread_atexit", "pthread_atfork",
                     "pthread_key_create", "pthread_mutex_lock", "atexit"):
            self.assertNotRegex(out, rf"\b{name}\b")
        self.check()

    def test_C5_C10_thread_local_storage_is_small_and_static(self):
        out = output_of("readelf", "-lrW", LIBRARY)
        size = int(re.search(r"^\s+TLS(?:\s+\S+){3}\s+\S+\s+(\S+)", out, re.M)[1], 16)
        self.assertLess(size, 512)
        for relocation in ("DTPMOD", "DTPOFF", "TLSDESC"):
            self.assertNotIn(relocation, out)

    def test_C10_audited_program(self):
        """An LD_AUDIT library has a libc of its own and is there before everybody else."""
        library = compile_program("sem_early.c", "-DLIBRARY=audit", "-shared", "-fPIC", output=SCRATCH / "audit.so")
        self.check(clean_environment(LD_AUDIT=str(library)))

    def test_C12_environment_in_constructors(self):
        self.check(clean_environment(SEM_EARLY="given"), "given")
        program = compile_program("sem_rows.c", "-w")
        for mode in ("idle", "full"):  # no environment at all but what the preload needs
            with self.subTest(mode=mode):
                done, _ = self.run_in(mode, ["/usr/bin/env", "-u", "PATH", "-u", "HOME", program])
                self.assertEqual(done.returncode, 0)

    def test_C13_folder_with_space_and_colon(self):
        """The loader splits LD_PRELOAD at both; a tool in such a folder finds a way, and nothing is printed."""
        for name in ("with space", "with:colon", "with $dollar"):
            with self.subTest(folder=name):
                folder = Path(tempfile.mkdtemp(dir=SCRATCH)) / name
                (folder / "tools").mkdir(parents=True)
                (folder / "interpose").mkdir()
                os.link(TOOL, folder / "tools" / "tidemark") if TOOL.stat().st_dev == folder.stat().st_dev else \
                    shutil.copy(TOOL, folder / "tools" / "tidemark")
                shutil.copy(LIBRARY, folder / "interpose" / LIBRARY.name)
                trace = folder / "trace.tmk"
                done = subprocess.run([folder / "tools" / "tidemark", "record", "-q", "--mode", "full", "-o", trace,
                                       "--", "sh", "-c", "echo recorded"], capture_output=True,
                                      env=clean_environment(), timeout=120)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"recorded\n", b""))
                self.assertGreater(Trace(trace).report()["totals"]["allocated"]["blocks"], 0)

    def test_C14_needs_no_newer_libc_than_said(self):
        """docs/design.md says 2.35 (for _dl_find_object); nothing else is from after 2.34."""
        out = output_of("readelf", "-W", "--dyn-syms", LIBRARY)
        versions = {}
        for name, version in re.findall(r"UND (\w+)@GLIBC_([\d.]+)", out):
            versions.setdefault(tuple(map(int, version.split("."))), set()).add(name)
        self.assertLessEqual(max(versions), (2, 35))
        self.assertEqual(versions.get((2, 35)), {"_dl_find_object"})

    def test_C15_needs_libc_only(self):
        out = output_of("readelf", "-dW", LIBRARY)
        self.assertEqual(re.findall(r"\(NEEDED\).*\[(.*)\]", out), ["libc.so.6"])
        self.assertNotIn("RUNPATH", out)
        out = output_of("nm", "-DC", LIBRARY)
        self.assertNotRegex(out, r"std::|__gxx|__cxa_(?!finalize)|_Unwind")

    def test_C16_no_executable_stack_and_no_text_relocations(self):
        out = output_of("readelf", "-ldW", LIBRARY)
        self.assertRegex(out, r"GNU_STACK(\s+\S+){5}\s+RW\s")
        self.assertRegex(out, r"GNU_RELRO")
        self.assertNotIn("TEXTREL", out)
        self.assertRegex(out, r"\bNOW\b")
        for line in re.findall(r"^\s+LOAD.*$", out, re.M):
            self.assertNotRegex(line, r"RWE|WE")


class Symbols(SameAnswers):
    """Group A: what the library exports, and what it leaves to libc."""

    def test_A1_every_allocation_function_of_libc_is_a_hook(self):
        """By name: whatever libc exports that hands out or takes back a block has to be ours, or be named here."""
        libc = next(path for path in ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6") if Path(path).exists())
        names = re.findall(r" [TWi] (\w+)@", output_of("nm", "-D", "--defined-only", "--with-symbol-versions", libc))
        allocating = {name for name in names
                      if re.search(r"malloc|memalign|mallinfo|mallopt|^(aligned_|[cv]|pv|re)alloc|^c?free(_|$)", name)}
        left_to_libc = {name for name in allocating if name.startswith("__libc_")}
        left_to_libc |= {"mallopt"}  # says yes to its knobs, and none of them means anything here
        exported = set(re.findall(r" T (\w+)", output_of("nm", "-D", "--defined-only", LIBRARY)))
        self.assertGreater(len(allocating), 15)
        self.assertEqual(allocating - exported - left_to_libc, set())

    def test_A3_A4_A15_nothing_else_is_exported(self):
        out = output_of("nm", "-D", "--defined-only", LIBRARY)
        exported = {line.split()[-1] for line in out.splitlines()}
        for name in exported:
            self.assertNotRegex(name, r"^(_Z|mi_|__libc(?!_start_main$)|_U|pthread|str|dl|getline|realpath)")

    def test_A8_reports_and_knobs(self):
        plain, _ = self.compare(compile_program("sem_reports.c", "-w"))
        lines = plain.stdout.decode().splitlines()
        self.assertEqual(lines[:3], ["holds what was allocated 1", "not several times as much 1",
                                     "in use is not more than there is 1"])
        self.assertEqual(lines[-1], "afterwards as before")

    def test_A8_reports_tell_of_the_heap_that_serves(self):
        plain, _ = self.compare(compile_program("sem_heap_reports.c", "-w", "-pthread"))
        self.assertEqual(plain.stdout.decode().splitlines(), HEAP_REPORTS, plain.stderr)

    def test_A8_reports_of_a_heap_that_is_not_ours(self):
        """Bypassed, since another library is first: glibc's functions answer, as without us."""
        first = compile_program("sem_heap_reports.c", "-DLIBRARY", "-shared", "-fPIC",
                                output=SCRATCH / "libreports_first.so")
        program = compile_program("sem_heap_reports.c", "-w", "-pthread")
        environment = clean_environment(LD_PRELOAD=f"{first}:{LIBRARY}")
        done = self.run_plain([program, "short"], environment)
        self.assertEqual(done.stdout.decode().splitlines(), HEAP_REPORTS[:2], done.stderr)


if __name__ == "__main__":
    unittest.main()
