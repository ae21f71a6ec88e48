"""One program, plain and under tidemark in every mode: its answers have to be the same lines and the same exit status.

Programs print answers without addresses, so that those of two allocators can be compared as text. "idle" is a preload
that nobody asked to record: the fast paths serve everything. "every" samples each single allocation, so that all blocks
come from the sampled region; "often" mixes both. Must not: hold tests.
"""
import subprocess
import unittest

from tracing import LIBRARY, clean_environment, record

MODES = {
    "idle": None,
    "sampled": ("sampled", ()),
    "often": ("sampled", ("--sample-bytes", "4096")),
    "every": ("sampled", ("--sample-bytes", "1")),
    "full": ("full", ()),
}
RECORDING = tuple(name for name in MODES if MODES[name] is not None)


class SameAnswers(unittest.TestCase):
    maxDiff = 4000

    def run_plain(self, command, environment=None, timeout=120):
        return subprocess.run([str(part) for part in command], capture_output=True, stdin=subprocess.DEVNULL,
                              env=environment or clean_environment(), timeout=timeout)

    def run_in(self, mode, command, environment=None, timeout=120):
        """(finished process, its trace or None)"""
        if MODES[mode] is None:
            environment = dict(environment or clean_environment())
            others = environment.get("LD_PRELOAD")
            environment["LD_PRELOAD"] = f"{LIBRARY}:{others}" if others else str(LIBRARY)
            return self.run_plain(command, environment, timeout), None
        name, options = MODES[mode]
        return record(command, "-q", *options, mode=name, check=False, environment=environment, timeout=timeout)

    def compare(self, program, *arguments, modes=tuple(MODES), environment=None):
        """Returns (the plain run, {mode: (run, trace)}) after comparing stdout and status of all."""
        command = [str(program), *map(str, arguments)]
        plain = self.run_plain(command, environment)
        results = {}
        for name in modes:
            with self.subTest(mode=name):
                results[name] = done, _ = self.run_in(name, command, environment)
                self.assertEqual(done.stdout.decode().splitlines(), plain.stdout.decode().splitlines(), done.stderr)
                self.assertEqual(done.returncode, plain.returncode, done.stderr)
        return plain, results
