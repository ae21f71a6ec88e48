"""Stacks that mislead: wrong frame pointers, wrong or damaged or missing call frame information, in real processes.

Whatever the unwinder is shown, the program goes on, and every event is recorded with the stack as far as it is known.
The checked library takes each stack a second time without caches. Damage below is made with fixed seeds.
"""
import random
import re
import subprocess
import unittest

from tracing import BUILD, SCRATCH, clean_environment, compile_program, record

CHECKED = BUILD / "interpose" / "libtidemark_checked.so"
MODES = {"every": ("sampled", ("--sample-bytes", "1")), "full": ("full", ())}


def checked_environment():
    return clean_environment(TIDEMARK_LIBRARY=str(CHECKED))


class Registers(unittest.TestCase):
    def test_G8_G15_any_frame_pointer_and_wrong_call_frame_information(self):
        program = compile_program("unwind_garbage.c", "-w")
        plain = subprocess.run([program, "20"], capture_output=True, check=True).stdout
        calls = int(plain.split()[-1])
        self.assertGreater(calls, 4000)
        for name, (mode, options) in MODES.items():
            for environment in (clean_environment(), checked_environment()):
                with self.subTest(mode=name, library=environment.get("TIDEMARK_LIBRARY", "")):
                    done, trace = record([program, "20"], "-q", *options, mode=mode, environment=environment)
                    self.assertEqual(done.stdout, plain)
                    run = trace.info()["run"]
                    self.assertEqual(run["unwinding"]["wrong"], 0)
                    # Without information about the caller a stack ends there, and says so.
                    self.assertGreater(run["unwinding"]["truncated"], calls / 10)
                    if name == "full":
                        self.assertGreaterEqual(run["events"]["alloc"]["recorded"], calls)
                        self.assertGreaterEqual(run["events"]["free"]["recorded"], calls)


def sections_of(library):
    """name -> (offset in the file, bytes)"""
    text = subprocess.run(["readelf", "-SW", library], capture_output=True, text=True, check=True).stdout
    return {match[1]: (int(match[2], 16), int(match[3], 16))
            for match in re.finditer(r"\] (\S+) +\S+ +[0-9a-f]+ ([0-9a-f]+) ([0-9a-f]+)", text)}


class Tables(unittest.TestCase):
    """A library whose .eh_frame is damaged is loaded and used; nothing but an exception would need it."""
    FILES = 120

    @classmethod
    def setUpClass(cls):
        cls.host = compile_program("unwind_plugin_host.c", "-fomit-frame-pointer", "-ldl")
        cls.plugin = compile_program("unwind_plugin.c", "-DLETTER=x", "-fPIC", "-shared", "-fomit-frame-pointer",
                                     output=SCRATCH / "unwind_sound.so")

    def run_host(self, *plugins, environment=None, mode="full"):
        done, trace = record([self.host, *plugins], "-q", mode=mode, environment=environment,
                             *(["--sample-bytes", "1"] if mode == "sampled" else []))
        self.assertEqual(done.stdout.decode(), f"plugins {len(plugins)}\n")
        return trace

    def stacks_through(self, trace):
        return {stack: n for stack, n in trace.folded("count").items() if stack[-1] == "called_back"}

    def test_G7_sound_tables_give_the_whole_chain(self):
        stacks = self.stacks_through(self.run_host(self.plugin))
        self.assertEqual({stack[-5:] for stack in stacks},
                         {("main", "plugin_call", "middle_x", "bottom_x", "called_back")}, stacks)

    def test_G15_damaged_tables(self):
        """Bytes of .eh_frame and its search table changed at random: no fault, and every event is there."""
        whole = self.plugin.read_bytes()
        sections = sections_of(self.plugin)
        damaged = []
        for seed in range(self.FILES):
            numbers = random.Random(seed)
            data = bytearray(whole)
            names = [(".eh_frame",), (".eh_frame_hdr",), (".eh_frame", ".eh_frame_hdr")][seed % 3]
            for name in names:
                offset, size = sections[name]
                for _ in range(numbers.choice((1, 2, 5, 20, size // 4))):
                    at = offset + numbers.randrange(size)
                    value = numbers.choice((0, 0xff, 0x80, 0x7f, numbers.randrange(256), data[at] ^ 1 << seed % 8))
                    data[at] = value
            path = SCRATCH / f"unwind_damaged_{seed}.so"
            path.write_bytes(data)
            damaged.append(path)
        for environment in (clean_environment(), checked_environment()):
            trace = self.run_host(*damaged, environment=environment)
            run = trace.info()["run"]
            self.assertEqual(run["unwinding"]["wrong"], 0)
            called = sum(n for stack, n in trace.folded("count").items() if stack[-1] == "called_back")
            self.assertEqual(called, 3 * len(damaged))
        # The damage was seen: not every chain could be followed.
        self.assertGreater(run["unwinding"]["truncated"], len(damaged))

    def test_G7_no_tables_at_all(self):
        """Code without call frame information ends the stack, is marked, and nothing is made up above it."""
        bare = compile_program("unwind_plugin.c", "-DLETTER=x", "-fPIC", "-shared", "-fomit-frame-pointer",
                               "-fno-asynchronous-unwind-tables", "-fno-unwind-tables",
                               output=SCRATCH / "unwind_no_tables.so")
        stacks = self.stacks_through(self.run_host(bare))
        self.assertTrue(stacks)
        for stack in stacks:
            self.assertEqual(stack, ("[truncated]", "bottom_x", "called_back"))


if __name__ == "__main__":
    unittest.main()
