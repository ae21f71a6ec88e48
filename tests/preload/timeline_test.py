"""`tidemark timeline` draws what the model counted, and `tidemark top` shows it: in a terminal and without one.

Pictures are read back as XML. Must not: depend on when a screen is drawn, only on what it shows in the end.
"""
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tracing import SCRATCH, TOOL, clean_environment, compile_program, record

SVG = "{http://www.w3.org/2000/svg}"
DEADLINE_S = 120


def run(*arguments):
    return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, env=clean_environment(),
                          timeout=DEADLINE_S)


def lives(way):
    program = compile_program("heap_lives.c", "-pthread")
    return record([program, way])[1]


class TimelinePicture(unittest.TestCase):
    def picture(self, trace, *options):
        out = trace.path.parent / "timeline.svg"
        done = run("timeline", trace.path, "-o", out, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return ElementTree.fromstring(out.read_text()), out.read_text()

    def test_slots_add_up_and_the_peak_is_marked(self):
        trace = lives("sawtooth")
        root, text = self.picture(trace)
        blocks = 0
        for title in root.iter(SVG + "title"):
            blocks += int(re.search(r"allocated: .* in ([\d,]+) blocks", title.text).group(1).replace(",", ""))
        self.assertEqual(blocks, 65536)
        self.assertIn("peak 2.00 MiB at", text)
        self.assertEqual({node.get("class") for node in root.iter(SVG + "path")} - {"rss"}, {"live", "rate", "freed"})

    def test_names_are_escaped_and_windows_cut(self):
        trace = lives("sawtooth")
        root, text = self.picture(trace, "--title", "<script>&\"'")
        self.assertEqual(len(list(root.iter(SVG + "script"))), 0)
        self.assertIn("&lt;script&gt;", text)
        root, text = self.picture(trace, "--from", "1h")
        self.assertNotIn("peak", "".join(node.text or "" for node in root.iter(SVG + "text")))

    def test_usage(self):
        trace = lives("growth")
        self.assertEqual(run("timeline", trace.path, "-o", "picture.png").returncode, 2)
        self.assertEqual(run("timeline", "/nonexistent.tmk", "-o", "-").returncode, 3)


class Top(unittest.TestCase):
    def test_one_screen_where_there_is_no_terminal(self):
        trace = lives("leak")
        done = run("top", trace.path)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertLessEqual(len(lines), 24)
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertNotIn("\x1b", done.stdout)
        self.assertIn("live 8.00 MiB in 8,192 blocks", done.stdout)
        self.assertRegex(done.stdout, r"100\.0 % +8\.00 MiB +8,192 +LinearLeak")

    def test_no_such_process(self):
        self.assertEqual(run("top", "/nonexistent.tmk").returncode, 3)
        done = run("top", os.getpid())
        self.assertEqual(done.returncode, 3)
        self.assertIn("is not being recorded", done.stderr)

    def test_a_running_process(self):
        folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        program = compile_program("heap_lives.c", "-pthread")
        ready = folder / "ready"
        with subprocess.Popen([TOOL, "record", "-q", "--mode", "full", "-o", folder / "run.tmk", "--",
                               program, "wait", ready], env=clean_environment()) as recording:
            try:
                end = time.monotonic() + DEADLINE_S
                while not ready.exists() or not ready.read_text().strip():
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.05)
                pid = int(ready.read_text())
                while "live 8.00 MiB in 8,192 blocks" not in (shown := run("top", pid)).stdout:
                    self.assertLess(time.monotonic(), end, shown)
                    time.sleep(0.2)
                self.assertIn("running", shown.stdout)
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(recording.wait(DEADLINE_S), 128 + signal.SIGTERM)
            finally:
                if recording.poll() is None:
                    recording.terminate()

    def on_a_terminal(self, keys, stop):
        trace = lives("leak")
        controller, terminal = pty.openpty()
        before = subprocess.run(["stty", "-a"], stdin=terminal, capture_output=True, text=True).stdout
        environment = clean_environment(TERM="xterm", COLUMNS="80", LINES="24")
        with subprocess.Popen([TOOL, "top", trace.path], stdin=terminal, stdout=terminal, stderr=terminal,
                              env=environment, start_new_session=True) as top:
            try:
                shown = b""
                end = time.monotonic() + DEADLINE_S
                while b"q: quit" not in shown:
                    self.assertLess(time.monotonic(), end, shown)
                    if select.select([controller], [], [], 1)[0]:
                        shown += os.read(controller, 65536)
                if keys:
                    os.write(controller, keys)
                if stop:
                    top.send_signal(stop)
                self.assertEqual(top.wait(DEADLINE_S), 0)
                while select.select([controller], [], [], 0.2)[0]:
                    shown += os.read(controller, 65536)
            finally:
                if top.poll() is None:
                    top.kill()
        after = subprocess.run(["stty", "-a"], stdin=terminal, capture_output=True, text=True).stdout
        os.close(controller)
        os.close(terminal)
        return shown, before, after

    def test_q_and_signals_leave_the_terminal_as_it_was(self):
        for keys, stop in ((b"q", None), (b"", signal.SIGINT), (b"", signal.SIGTERM)):
            with self.subTest(keys=keys, stop=stop):
                shown, before, after = self.on_a_terminal(keys, stop)
                self.assertEqual(before, after)
                self.assertTrue(shown.startswith(b"\x1b[?1049h\x1b[?25l"))
                self.assertTrue(shown.endswith(b"\x1b[?25h\x1b[?1049l"))
                self.assertIn(b"live 8.00 MiB", shown)


if __name__ == "__main__":
    unittest.main()
