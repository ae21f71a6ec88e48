"""When memory ends or a system call fails, a program gets null and ENOMEM, or its block; it never crashes or hangs.

sem_survivor.c is the program: it checks each block it gets and what it was refused. Limits on address space and data
are swept, and sem_faults.c lets the library's and mimalloc's own system calls fail one after the other, in the start of
the process, in its work, and in a forked child that attaches.
"""
import os
import re
import resource
import subprocess
import tempfile
import unittest

from tracing import LIBRARY, SCRATCH, clean_environment, compile_program, record

SOAK = os.environ.get("TIDEMARK_SOAK") == "1"
SERVED, OUT_OF_MEMORY = 0, 3
MIB = 1 << 20


class Limits(unittest.TestCase):
    def run_limited(self, command, limits, environment=None):
        def limit():
            for which, size in limits.items():
                resource.setrlimit(which, (size, size))
        return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment or clean_environment(), preexec_fn=limit, timeout=120,
                              stdin=subprocess.DEVNULL)

    def modes(self):
        folder = tempfile.mkdtemp(dir=SCRATCH)
        for options in (None, "mode=sampled", "mode=sampled,sample_bytes=1", "mode=full"):
            environment = clean_environment(LD_PRELOAD=str(LIBRARY))
            if options:
                environment["TIDEMARK_OPTIONS"] = f"{options},out={folder}/t.%p.tmk"
            yield options or "idle", environment

    def sweep(self, which, sizes, needed=SERVED):
        """At every size at which the plain program starts, the other one ends as it says."""
        program = compile_program("sem_survivor.c")
        ends = {SERVED: 0, OUT_OF_MEMORY: 0}
        for size in sizes:
            plain = self.run_limited([program], {which: size})
            if plain.returncode not in (SERVED, OUT_OF_MEMORY):  # the loader, or the kernel, had not enough
                self.assertNotIn(b"wrong", plain.stdout)
                continue
            for mode, environment in self.modes():
                with self.subTest(bytes=size, mode=mode):
                    done = self.run_limited([program], {which: size}, environment)
                    self.assertIn((done.returncode, done.stdout),
                                  ((SERVED, b"served\n"), (OUT_OF_MEMORY, b"out of memory\n")), done.stderr)
                    ends[done.returncode] += 1
                    if size >= sizes[-1]:
                        self.assertEqual(done.returncode, needed)
        self.assertGreater(ends[SERVED], 0)
        return ends

    def test_H1_limited_address_space(self):
        small = [size * MIB for size in range(3, 24, 1 if SOAK else 5)]
        large = [size * MIB for size in ([*range(24, 3000, 16)] if SOAK else (40, 64, 100, 160, 250, 400, 600, 1000,
                                                                              1500, 2500, 4000))]
        self.sweep(resource.RLIMIT_AS, small + large)

    def test_H11_limited_data(self):
        self.sweep(resource.RLIMIT_DATA, [size * MIB for size in ((*range(1, 300, 4), 500) if SOAK else
                                                                  (1, 4, 20, 60, 120, 200, 500))])

    def test_H1_limited_program_gets_what_there_is(self):
        """The heap's range is 0.44 of what the limit leaves, or more; below 512 MiB glibc's serves, and has all."""
        program = compile_program("sem_hoard.c")
        for limit in (300 * MIB, 700 * MIB, 1500 * MIB, 5000 * MIB):
            plain = int(self.run_limited([program], {resource.RLIMIT_AS: limit}).stdout)
            for mode, environment in self.modes():
                with self.subTest(limit=limit, mode=mode):
                    done = self.run_limited([program], {resource.RLIMIT_AS: limit}, environment)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    share = 0.9 if limit < 512 * MIB else 0.42
                    self.assertGreaterEqual(int(done.stdout), plain * share - 40 * MIB)


class Faults(unittest.TestCase):
    """Every system call from the library's first on fails once, then each time from some call on."""

    def faults(self, how, mode, arguments, options=()):
        supervisor = compile_program("sem_faults.c")
        program = compile_program("sem_survivor.c")
        command = [supervisor, how, LIBRARY, program, *arguments]
        if mode is None:
            done = subprocess.run([str(part) for part in command], capture_output=True, env=clean_environment(),
                                  stdin=subprocess.DEVNULL, timeout=600)
        else:
            done, _ = record(command, "-q", *options, mode=mode, check=False, timeout=600)
        if done.returncode == 77:
            self.skipTest(done.stdout.decode().strip())
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        first, *ends = done.stdout.decode().splitlines()
        calls = int(re.search(r"calls (\d+)$", first)[1])
        self.assertEqual(re.search(r"status (\d+)", first)[1], "0", first)
        self.assertGreaterEqual(calls, 15)
        self.assertGreaterEqual(sum(int(re.search(r"times (\d+)", end)[1]) for end in ends), calls * 0.6)
        return ends

    def each_call_once(self, mode, options=()):
        """Every attempt is repeated by the program, so that nothing may be seen of one failure."""
        for end in self.faults("once", mode, ["once", "fork"], options):
            self.assertRegex(end, r"^status 0 times \d+ first \w+ output served\|child served\|parent served\|$")

    def all_calls_from_one_on(self, mode, options=()):
        for end in self.faults("ever", mode, ["fork"], options):
            self.assertRegex(end, r"^status (0|3) times \d+ first \w+ output "
                                  r"(served\|(child served\|(parent served\|)?)?)?(out of memory\|)?$")

    def test_one_failure_idle(self):
        self.each_call_once(None)

    def test_one_failure_sampled(self):
        self.each_call_once("sampled", ("--sample-bytes", "1000"))

    def test_one_failure_full(self):
        self.each_call_once("full")

    def test_lasting_failure_idle(self):
        self.all_calls_from_one_on(None)

    def test_lasting_failure_sampled(self):
        self.all_calls_from_one_on("sampled", ("--sample-bytes", "1000"))

    def test_lasting_failure_full(self):
        self.all_calls_from_one_on("full")


if __name__ == "__main__":
    unittest.main()
