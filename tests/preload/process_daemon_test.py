"""Daemons: processes that outlive their parents, close every descriptor, and use the numbers for files of their own."""
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from process_modes import MODES, AllModes, traces_of
from tracing import LIBRARY, SCRATCH, TOOL, Trace, clean_environment, compile_program, record


def wait_until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come about within {seconds} s")
        time.sleep(0.01)


def is_complete(path):
    done = subprocess.run([TOOL, "info", path, "--json"], capture_output=True, text=True, env=clean_environment())
    return done.returncode == 0 and '"complete": true' in done.stdout


class Daemons(AllModes):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.program = compile_program("process_daemon.c", "-Wno-unused-result")

    def result(self):
        (self.folder / "parent-gone").touch()
        wait_until((self.folder / "result").exists, "the daemon's result")
        return (self.folder / "result").read_text()

    def run_daemon(self, how, mode, options):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        _, trace = record([self.program, self.folder, how], *options, mode=mode)
        self.assertEqual(self.result(), "child 3\nresult fd 0\n")
        return trace

    def test_E8_E9_F1_daemon_is_recorded_and_its_files_are_its_own(self):
        for how in ("closefrom", "close_range", "loop"):
            for name, (mode, options) in MODES.items():
                with self.subTest(how=how, mode=name):
                    trace = self.run_daemon(how, mode, options)
                    if name == "sampled":
                        continue
                    # The command, its child (a session leader), the daemon, the daemon's child.
                    wait_until(lambda: len(traces_of(trace)) == 4 and
                               all(is_complete(t.path) for t in traces_of(trace)), "four whole traces")
                    events = sorted(self.check_whole(t)["run"]["events"]["alloc"]["observed"]
                                    for t in traces_of(trace))
                    self.assertGreaterEqual(events[-1], 40000)
                    self.assertGreaterEqual(events[-2], 20000)

    def test_E8_E9_F1_daemon_under_a_bare_preload(self):
        environment = clean_environment(LD_PRELOAD=str(LIBRARY),
                                        TIDEMARK_OPTIONS=f"mode=full,out={self.folder}/%p.tmk")
        done = subprocess.run([self.program, self.folder, "loop"], env=environment, capture_output=True, timeout=120)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        self.assertEqual(self.result(), "child 3\nresult fd 0\n")
        wait_until(lambda: len(list(self.folder.glob("*.tmk"))) == 4 and
                   all(is_complete(p) for p in self.folder.glob("*.tmk")), "four whole traces")
        for path in self.folder.glob("*.tmk"):
            self.check_whole(Trace(path))


class Descriptors(AllModes):
    def start(self, redirection, path):
        opened = "".join(n for n in "0123" if f"{n}<&-" not in redirection and f"{n}>&-" not in redirection
                         and (n != "3" or "3<" in redirection))
        script = f'exec "$0" "$1" "{opened}" {redirection}'
        return ["sh", "-c", script, compile_program("process_descriptors.c", "-pthread"), path]

    def test_E10_first_open_in_main_gives_the_lowest_number(self):
        for redirection in ("", "0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", "3</dev/null"):
            for name in (None, *MODES):
                path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "file"
                command = self.start(redirection, path)
                with self.subTest(redirection=redirection, mode=name):
                    if name is None:
                        done = self.plain(command)
                    else:
                        mode, options = MODES[name]
                        done, trace = record(command, "-q", *options, mode=mode, check=False)
                        self.check_whole(trace)
                    self.assertEqual((done.returncode, done.stdout), (0, b""), done.stderr)
                    self.assertEqual(path.read_text(), "one\ntwo\n")

    def test_E11_bare_preload_with_streams_closed_writes_into_no_file(self):
        """What there is to say at start goes to standard error, and not into a file that has taken its number."""
        for redirection in ("", "2>&-", "0<&- 1>&- 2>&-"):
            for option in ("mode=full", "mode=full,colour=red"):
                path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "file"
                command = [str(c) for c in self.start(redirection, path)]
                environment = clean_environment(LD_PRELOAD=str(LIBRARY),
                                                TIDEMARK_OPTIONS=f"{option},out={path.parent}/%p.tmk")
                with self.subTest(redirection=redirection, option=option):
                    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL,
                                          capture_output=True, timeout=120)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertEqual(path.read_text(), "one\ntwo\n")
                    # Once for the shell, and for the program if it has a standard error.
                    said = 0 if "colour" not in option else 1 if "2>&-" in redirection else 2
                    self.assertEqual(done.stderr.count(b"colour=red"), said, done.stderr)


if __name__ == "__main__":
    unittest.main()
