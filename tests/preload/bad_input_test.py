"""Bad input gets one clear sentence and the documented status, and nothing that was recorded is lost.

Statuses: reading tools 2 usage, 3 unreadable; `record` 125 own failure, 126 not executable, 127 not found.
"""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tracing import LIBRARY, SCRATCH, TOOL, Trace, clean_environment, compile_program, record, wait_for_trace

READERS = (["info"], ["report"], ["flamegraph", "-o", str(SCRATCH / "none.svg")],
           ["export", "--format", "folded", "-o", "-"],
           ["export", "--format", "json", "-o", "-"])


def run(*arguments, **keywords):
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, errors="replace",
                          env=keywords.pop("env", clean_environment()), timeout=120, stdin=subprocess.DEVNULL,
                          **keywords)


def crc32c(data):
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4), bit by bit."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


class BadInput(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))

    def assert_one_sentence(self, done, status, *words):
        self.assertEqual(done.returncode, status, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("tidemark: "), lines[0])
        for word in words:
            self.assertIn(word, lines[0])

    def readers_refuse(self, path, *words):
        for reader in READERS:
            with self.subTest(reader=reader[0]):
                self.assert_one_sentence(run(TOOL, reader[0], path, *reader[1:]), 3, str(path), *words)

    def test_not_a_trace(self):
        path = self.folder / "x.tmk"
        path.write_text("#!/bin/sh\necho this is no trace at all, but it is long enough to have been one\n" * 9)
        self.readers_refuse(path, "not a")

    def test_empty_file(self):
        path = self.folder / "x.tmk"
        path.write_bytes(b"")
        self.readers_refuse(path, "empty")

    def test_missing_file_and_folder(self):
        self.readers_refuse(self.folder / "none.tmk", "No such file")
        self.readers_refuse(self.folder, "directory")

    def test_unknown_version(self):
        _, trace = record(["true"])
        data = bytearray(trace.path.read_bytes())
        data[8:10] = (99).to_bytes(2, "little")
        data[12:16] = crc32c(bytes(data[:12])).to_bytes(4, "little")
        path = self.folder / "x.tmk"
        path.write_bytes(data)
        self.readers_refuse(path, "version")

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "needs root and setpriv to become nobody")
    def test_unreadable_file(self):
        _, trace = record(["true"])
        self.assertEqual(trace.path.stat().st_mode & 0o777, 0o600)
        visible = Path(tempfile.mkdtemp())
        try:
            visible.chmod(0o755)
            copy = visible / "x.tmk"
            shutil.copy(trace.path, copy)
            copy.chmod(0o600)
            tool = visible / "tidemark"
            shutil.copy(TOOL, tool)
            done = run("setpriv", "--reuid=65534", "--clear-groups", tool, "info", copy)
            self.assert_one_sentence(done, 3, "Permission denied")
        finally:
            shutil.rmtree(visible)

    def test_truncated_trace_gives_what_is_whole(self):
        program = compile_program("many_sites.c", "-g1")
        _, trace = record([program])
        data = trace.path.read_bytes()
        for keep in (0.3, 0.6, 0.95):
            with self.subTest(keep=keep):
                path = self.folder / "cut.tmk"
                path.write_bytes(data[:int(len(data) * keep)])
                done = run(TOOL, "report", path)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout + done.stderr, "interrupted|no end|cut short|damaged|missing")

    def test_damaged_trace_gives_what_is_whole(self):
        _, trace = record([compile_program("many_sites.c", "-g1")])
        data = bytearray(trace.path.read_bytes())
        data[len(data) // 2] ^= 0x55
        path = self.folder / "damaged.tmk"
        path.write_bytes(data)
        info = Trace(path).info()
        self.assertTrue(info["problems"])
        self.assertIn("damaged", " ".join(info["problems"]))

    def test_command_that_does_not_exist(self):
        self.assert_one_sentence(run(TOOL, "record", "--", "no-such-command-here", cwd=self.folder), 127,
                                 "no-such-command-here")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_command_that_is_not_executable(self):
        path = self.folder / "plain"
        path.write_text("text")
        self.assert_one_sentence(run(TOOL, "record", "--", path, cwd=self.folder), 126, str(path))

    def test_output_in_a_folder_that_does_not_exist(self):
        done = run(TOOL, "record", "-o", self.folder / "no" / "x.tmk", "--", "sh", "-c", "echo ran")
        self.assert_one_sentence(done, 125, "No such file")
        self.assertEqual(done.stdout, "")

    def test_output_that_is_no_trace_is_not_overwritten(self):
        path = self.folder / "thesis.txt"
        path.write_text("years of work")
        self.assert_one_sentence(run(TOOL, "record", "-o", path, "--", "true"), 125, str(path))
        self.assertEqual(path.read_text(), "years of work")

    def test_static_program_runs_and_is_said_to_be_unseen(self):
        program = compile_program("every_entry_point.c", "-static")
        done = run(TOOL, "record", "-o", self.folder / "x.tmk", "--", program, "-")
        self.assertEqual(done.returncode, 0)
        self.assertIn("static", done.stderr)

    def test_own_malloc_is_said_to_be_unseen(self):
        program = compile_program("own_malloc.c", "-rdynamic")
        done = run(TOOL, "record", "-o", self.folder / "x.tmk", "--", program)
        self.assertEqual((done.returncode, done.stdout), (0, "own malloc works\n"))
        self.assertIn("own malloc", done.stderr)

    def test_sanitizer_program_is_run_and_said_to_be_unseen(self):
        program = compile_program("every_entry_point.c", "-fsanitize=address")
        plain = run(program, "-", cwd=self.folder)
        done = run(TOOL, "record", "--", program, "-", cwd=self.folder)
        self.assertEqual((done.returncode, done.stdout), (plain.returncode, plain.stdout))
        self.assertIn("is built with AddressSanitizer, which brings its own malloc", done.stderr)
        self.assertEqual(run(TOOL, "doctor", "--", program).returncode, 1)

    def test_musl_program_is_run_and_said_to_be_unseen(self):
        if shutil.which("musl-gcc") is None:
            self.skipTest("needs musl-gcc (musl-tools)")
        program = compile_program("process_plain.c", "-pthread", compiler="musl-gcc", output=SCRATCH / "musl-said")
        plain = run(program, "-", cwd=self.folder)
        done = run(TOOL, "record", "--", program, "-", cwd=self.folder)
        self.assertEqual((done.returncode, done.stdout), (plain.returncode, plain.stdout))
        self.assertIn("is linked against musl", done.stderr)
        self.assertEqual(run(TOOL, "doctor", "--", program).returncode, 1)

    def test_full_disk_disturbs_nobody_and_keeps_what_was_written(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to mount a small file system")
        small = self.folder / "small"
        small.mkdir()
        if run("mount", "-t", "tmpfs", "-o", "size=16k", "none", small).returncode != 0:
            self.skipTest("may not mount here")
        try:
            program = compile_program("many_sites.c", "-g1")
            done = run(TOOL, "record", "--mode", "full", "-o", small / "x.tmk", "--", program)
            self.assertEqual(done.returncode, 0)
            self.assertIn("No space left", done.stderr)
            info = Trace(small / "x.tmk").info()
            self.assertGreater(sum(t["events"] for t in info["threads"]), 1000)
            self.assertTrue(info["problems"])
        finally:
            run("umount", small)

    def test_unknown_command_and_option(self):
        self.assert_one_sentence(run(TOOL, "reprot", "x"), 2, "report")
        self.assertEqual(run(TOOL, "report", "--nonsense", "x").returncode, 2)
        self.assertEqual(run(TOOL, "record", "--mode", "sometimes", "--", "true").returncode, 125)


class BarePreload(unittest.TestCase):
    def test_bad_option_is_said_once_at_start(self):
        environment = clean_environment(LD_PRELOAD=str(LIBRARY),
                                        TIDEMARK_OPTIONS=f"mode=full,colour=red,out={SCRATCH}/b.%p.tmk")
        done = run("true", env=environment)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertIn("colour=red", done.stderr)

    def test_same_trace_as_record(self):
        program = compile_program("many_sites.c", "-g1")
        path = SCRATCH / "bare.%p.tmk"
        environment = clean_environment(LD_PRELOAD=str(LIBRARY), TIDEMARK_OPTIONS=f"mode=full,out={path}")
        child = subprocess.Popen([program], env=environment)
        self.assertEqual(child.wait(60), 0)
        bare = wait_for_trace(Path(str(path).replace("%p", str(child.pid))))
        _, recorded = record([program])
        self.assertEqual(bare.folded("allocated"), recorded.folded("allocated"))
        self.assertEqual(bare.report()["totals"]["peak"]["bytes"], recorded.report()["totals"]["peak"]["bytes"])
        self.assertEqual(bare.path.stat().st_mode & 0o777, 0o600)


if __name__ == "__main__":
    unittest.main()
