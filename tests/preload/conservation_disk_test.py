"""A trace that cannot be written: full disks, limits, files and folders that go away, and things that are no file.

The program notices nothing, what was written can be read, and both `record` and the trace say what is missing. Small
file systems are mounted in a mount namespace that ends with the test.
"""
import ctypes
import os
import resource
import stat
import subprocess
import tempfile
import unittest
from pathlib import Path

from accounts import MODES, Run, check_image, plain, readable, wait_until
from tracing import SCRATCH, Trace

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def fill_up(path):
    """A file that takes all the room there is."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (4096, 1):
            while True:
                try:
                    os.write(file, bytes(size))
                except OSError:
                    break
    finally:
        os.close(file)


def writes_of(io):
    """How often the process has tried to write."""
    return int(next(line for line in io.read_text().splitlines() if line.startswith("syscw")).split()[1])


def in_namespace(folder, options, full=False):
    """For preexec_fn: a tmpfs on `folder` that only this process and its children see."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount():
        if (libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0 or
                libc.mount(b"tidemark", os.fsencode(folder), b"tmpfs", 0, options.encode()) != 0):
            raise OSError(ctypes.get_errno(), "cannot mount")
        if full:
            fill_up(f"{folder}/filler")
    return mount


class Disk(unittest.TestCase):
    def finish(self, run, plain_arguments):
        """The program was not disturbed. Returns what record said."""
        status, out, err = run.finish()
        self.assertEqual((status, out), plain(self, *plain_arguments)[:2], err)
        self.assertNotIn("not recording", err)
        return err

    def test_file_size_limit(self):
        """RLIMIT_FSIZE holds for the shared segment, too: a smaller one is taken then."""
        arguments = ("storm", 2, 100000, "return")
        limit = 256 << 10
        for launch in ("record", "preload"):
            with self.subTest(launch=launch):
                run = Run(self, launch, "full", *arguments,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
                err = self.finish(run, arguments)
                observed, _, lost = run.check(self)
                self.assertGreater(lost, 0)
                self.assertLess(lost, observed)
                self.assertLessEqual(run.path.stat().st_size, limit)
                if launch == "record":
                    self.assertIn("File too large", err)
                    self.assertIn("events are lost, the others can be read", err)
                run.check_nothing_left(self)

    def test_no_file_at_all_may_be_written(self):
        arguments = ("storm", 2, 1000, "return")
        run = Run(self, "record", "full", *arguments,
                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
        err = self.finish(run, arguments)
        self.assertIn("was not recorded", err)
        self.assertIn("ulimit -f", err)
        self.assertFalse(run.path.exists())
        run.check_nothing_left(self)

    def small_disk(self, size, *arguments, mode="full", options=(), full=False):
        """A run whose trace is on a tmpfs of its own; (run, the folder as seen from outside while the run lasts)."""
        folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        try:
            run = Run(self, "record", mode, *arguments, options=options, output=folder / "trace.tmk",
                      preexec_fn=in_namespace(folder, f"size={size}", full))
        except subprocess.SubprocessError:
            self.skipTest("needs the right to mount a small file system")
        holder = os.open(f"/proc/{run.process.pid}/root/{folder}", os.O_PATH | os.O_DIRECTORY)  # keeps it alive
        self.addCleanup(os.close, holder)
        return run, Path(f"/proc/self/fd/{holder}")

    def trace_of(self, inside):
        path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "trace.tmk"
        path.write_bytes((inside / "trace.tmk").read_bytes())
        return path

    def check_losses(self, run, inside, err):
        """Balanced to the event, and the losses said by everybody. Returns the facts of the trace."""
        path = self.trace_of(inside)
        info = Trace(path).info()
        (image,), = run.books.images().values()
        check_image(self, image, run.mode, info)
        self.assertTrue(info["run"]["complete"], info["problems"])
        lost = sum(kind["skipped"] for kind in info["run"]["events"].values())
        self.assertGreater(lost, 0)
        self.assertIn("No space left on device", err)
        self.assertIn(f"{lost:,} events are lost, the others can be read", err)
        self.assertIn("could not be written while recording", " ".join(info["problems"]))
        self.assertNotIn("nothing lost", Trace(path).tool("info", path))
        self.assertEqual(info["totals"]["unusable_events"], 0)
        readable(self, path)
        return info

    def test_full_disk(self):
        arguments = ("storm", 2, 150000, "return")
        run, inside = self.small_disk("256k", *arguments)
        err = self.finish(run, arguments)
        self.check_losses(run, inside, err)
        run.check_nothing_left(self)

    def test_disk_that_is_full_at_the_start(self):
        arguments = ("storm", 2, 1000, "return")
        run, _ = self.small_disk("64k", *arguments, full=True)
        err = self.finish(run, arguments)
        self.assertIn("No space left on device", err)
        self.assertIn("events are lost", err)
        run.check_nothing_left(self)

    def test_disk_that_has_room_again(self):
        """Recording goes on, with the stacks that were found while there was no room."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run, inside = self.small_disk("512k", "storm", 2, 0, "forever", mode=mode,
                                              options=("--ring-bytes", "1M"))
                run.wait_for_rounds()
                filler, trace = inside / "filler", inside / "trace.tmk"
                wait_until(trace.exists, "the trace")
                fill_up(filler)
                before = trace.stat().st_size
                # Three times: the first two may find the rest of a page, and the room that is kept for the end.
                attempts = Path(f"/proc/{run.collector_pid()}/io")
                goal = writes_of(attempts) + 3
                wait_until(lambda attempts=attempts, goal=goal: writes_of(attempts) >= goal, "attempts to write")
                filler.unlink()
                wait_until(lambda: trace.stat().st_size > before, "something is written again")
                run.books.stop()
                status, out, err = run.finish()
                self.assertEqual((status, out), (0, "threads 2\n"), err)
                self.check_losses(run, inside, err)
                run.check_nothing_left(self)

    def test_file_removed_meanwhile(self):
        for what in ("file", "folder"):
            with self.subTest(what=what):
                folder = Path(tempfile.mkdtemp(dir=SCRATCH))
                run = Run(self, "record", "full", "storm", 2, 0, "forever", output=folder / "trace.tmk")
                run.wait_for_rounds(1000)
                wait_until(run.path.exists, "the trace")
                run.path.unlink()
                if what == "folder":
                    folder.rmdir()
                run.wait_for_rounds(1000)
                run.books.stop()
                status, out, err = run.finish()
                self.assertEqual((status, out), (0, "threads 2\n"), err)
                self.assertIn("was removed or moved away while it was written", err)
                self.assertIn("events are lost", err)
                self.assertNotIn("wrote", err)
                run.check_nothing_left(self)

    def refused(self, path, why):
        """record does not start the program when it knows that there will be no trace."""
        run = Run(self, "record", "full", "storm", 1, 10, "return", output=path)
        status, out, err = run.finish(timeout=30)
        self.assertEqual((status, out), (125, ""), err)
        self.assertIn(why, err)
        self.assertEqual(run.books.images(), {})

    def test_things_that_are_no_file(self):
        folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        fifo = folder / "fifo"
        os.mkfifo(fifo)
        link = folder / "link"
        link.symlink_to(folder / "elsewhere")
        self.refused("/dev/full", "not a regular file")
        self.refused("/dev/null", "not a regular file")
        self.refused(fifo, "not a regular file")  # nobody reads it: opening it would wait for ever
        self.refused(link, "a symbolic link")
        self.refused(folder, "a directory")
        self.refused(folder / "missing" / "trace.tmk", "No such file or directory")
        self.assertTrue(stat.S_ISFIFO(fifo.lstat().st_mode))
        self.assertFalse((folder / "elsewhere").exists())

    def test_folder_that_must_not_be_written(self):
        if os.geteuid() == 0:
            folder = Path(tempfile.mkdtemp(dir=SCRATCH))
            run = Run(self, "record", "full", "storm", 1, 10, "return", output=folder / "trace.tmk",
                      preexec_fn=in_namespace(folder, "size=64k,ro"))
            status, out, err = run.finish()
            self.assertEqual((status, out), (125, ""), err)
            self.assertIn("Read-only file system", err)
        else:
            folder = Path(tempfile.mkdtemp(dir=SCRATCH))
            folder.chmod(0o555)
            self.refused(folder / "trace.tmk", "Permission denied")

    def test_bare_preload_that_cannot_write(self):
        """One line from the library, as nobody else could say it; the program runs as ever, and makes no other file."""
        folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        os.mkfifo(folder / "fifo")
        arguments = ("storm", 2, 1000, "return")
        for path in (folder / "missing" / "trace.tmk", folder / "fifo", Path("/dev/full")):
            with self.subTest(path=path):
                run = Run(self, "preload", "full", *arguments, output=path)
                status, out, err = run.finish()
                self.assertEqual((status, out), plain(self, *arguments)[:2])
                self.assertRegex(err, r"\Atidemark: not recording: [^\n]* write the trace\n\Z")
                self.assertEqual([entry.name for entry in folder.iterdir()], ["fifo"])
                self.assertEqual(list(Path("/dev").glob("full?*")), [])


if __name__ == "__main__":
    unittest.main()
