"""What a process sees of its surroundings is the same under tidemark; what the library shows to the loader.

One small program here; programs that nobody here wrote are in the tables of the other neutral_*_test.py files.
"""
import re
import subprocess
import unittest
from pathlib import Path

from tracing import LIBRARY, SCRATCH, clean_environment, compile_program, record

MODES = ("sampled", "full")


class Surroundings(unittest.TestCase):
    """What a process can see: descriptors, threads, children, errno, signals, environment."""

    def see(self, mode):
        program = compile_program("surroundings.c", "-pthread", "-ldl")
        command = [program, compile_program("neutral_constructor.c", "-shared", "-fPIC")]
        if mode is None:
            done = subprocess.run(command, capture_output=True, env=clean_environment(), stdin=subprocess.DEVNULL)
        elif mode == "preload":
            environment = clean_environment(LD_PRELOAD=str(LIBRARY),
                                            TIDEMARK_OPTIONS=f"mode=full,out={SCRATCH}/s.%p.tmk")
            done = subprocess.run(command, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
        else:
            done, _ = record(command, "-q", mode=mode)
        return done.returncode, done.stdout, done.stderr

    def test_same_in_every_mode(self):
        plain = self.see(None)
        self.assertEqual(plain[0], 0)
        self.assertIn(b"errno 0", plain[1])
        self.assertIn(b"constructor: 2 arguments", plain[1])
        for mode in (*MODES, "preload"):
            with self.subTest(mode=mode):
                self.assertEqual(self.see(mode), plain)


class Exports(unittest.TestCase):
    """What the library shows to the loader."""

    def test_exported_symbols_are_the_hook_table(self):
        table = (Path(__file__).resolve().parent.parent.parent / "interpose" / "hook_table.h").read_text()
        wanted = set(re.findall(r"^  (?:HOOK|REPORT|EXIT|API|WATCHED)\((\w+)\)", table, re.M))
        out = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertEqual({line.split()[-1] for line in out.splitlines()}, wanted)

    def test_needs_libc_only(self):
        out = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertEqual(re.findall(r"\(NEEDED\).*\[(.*)\]", out), ["libc.so.6"])
        for flag in ("NOW", "NODELETE", "INITFIRST"):
            self.assertIn(flag, out)

    def test_no_dynamic_tls_and_no_executable_stack(self):
        out = subprocess.run(["readelf", "-rlW", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("DTPMOD", out)
        self.assertRegex(out, r"GNU_STACK\s+\S+ \S+ \S+ \S+ \S+ RW ")


if __name__ == "__main__":
    unittest.main()
