"""record is killed, told to end, interrupted or hung up on while the program runs; and a program that stands still.

What a signal to record means for the program is what it means under `env` or `time`: SIGKILL ends record alone, SIGTERM
and SIGHUP go through to the program, SIGINT is the terminal's affair. Whatever ends, the trace is whole.
"""
import os
import pty
import signal
import tempfile
import time
import unittest
from pathlib import Path

from accounts import MODES, SOAK, Run, wait_until
from tracing import SCRATCH, compile_program

STOPPED_S = 60 if SOAK else 2
# ioctl(PIDFD_GET_INFO) as on kernels before 6.15, which do not know how a process ended that somebody has reaped.
OLD_KERNEL = """#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
int ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  if ((request >> 8 & 0xff) == 0xff && (request & 0xff) == 11) {
    errno = ENOTTY;
    return -1;
  }
  return (int)syscall(SYS_ioctl, fd, request, argument);
}
"""


class Launcher(unittest.TestCase):
    def start(self, mode="full", **keywords):
        run = Run(self, "record", mode, "storm", 2, 0, "forever", **keywords)
        run.wait_for_rounds(100)
        return run

    def check(self, run, ending):
        run.wait_until_gone()
        observed, dropped, skipped = run.check(self)
        self.assertGreater(observed, 0)
        self.assertEqual((dropped, skipped), (0, 0))
        (infos,) = run.traces().values()
        self.assertEqual({key: infos[0]["run"]["ending"][key] for key in ending}, ending)
        run.check_nothing_left(self)

    def test_record_is_killed(self):
        """The program runs on and is recorded to its end."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.start(mode)
                os.kill(run.process.pid, signal.SIGKILL)
                run.process.wait()
                run.wait_for_rounds(2000)
                run.books.stop()
                out, err = run.process.communicate(timeout=60)
                self.assertEqual((out, err), ("threads 2\n", ""))
                run.wait_until_gone()
                run.check(self)
                run.check_nothing_left(self)

    def test_everybody_is_killed_on_an_older_kernel(self):
        """The collector cannot learn how the program ended, and waits for nobody to tell it."""
        folder = Path(tempfile.mkdtemp(dir=SCRATCH))
        source = folder / "old_kernel.c"
        source.write_text(OLD_KERNEL)
        library = compile_program("old_kernel", "-shared", "-fPIC", sources=[source])
        run = self.start(environment={"LD_PRELOAD": str(library)}, start_new_session=True)
        os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
        self.check(run, {})

    def test_record_is_told_to_end(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number):
                run = self.start()
                os.kill(run.process.pid, number)
                status, _, err = run.finish()
                self.assertEqual(status, 128 + number, err)
                self.check(run, {"kind": "signaled", "signal": number})

    def test_interrupt(self):
        """The terminal interrupts the whole group; record, interrupted alone, leaves the program alone."""
        run = self.start(start_new_session=True)
        os.kill(run.process.pid, signal.SIGINT)
        run.wait_for_rounds(2000)
        os.killpg(run.process.pid, signal.SIGINT)
        status, _, err = run.finish()
        self.assertEqual(status, 128 + signal.SIGINT, err)
        self.assertIn("wrote", err)
        self.check(run, {"kind": "signaled", "signal": signal.SIGINT})

    def test_terminal_hangs_up(self):
        """record leads the session of a terminal (a terminal window's or ssh's only command) that goes away."""
        master, slave = pty.openpty()

        def take_terminal():
            os.setsid()
            os.close(os.open(os.ttyname(slave), os.O_RDWR))  # becomes the controlling terminal
        run = self.start(preexec_fn=take_terminal, pass_fds=(slave,))
        os.close(slave)
        os.close(master)
        status, _, err = run.finish()
        self.assertEqual(status, 128 + signal.SIGHUP, err)
        self.check(run, {"kind": "signaled", "signal": signal.SIGHUP})

    def test_program_is_stopped(self):
        """No limit of time runs against a program that stands still: it goes on, and nothing is missing."""
        for mode in MODES:
            with self.subTest(mode=mode):
                run = self.start(mode)
                host = run.host_pid()
                os.kill(host, signal.SIGSTOP)
                time.sleep(STOPPED_S)
                before = run.books.rounds()
                time.sleep(0.1)
                self.assertEqual(run.books.rounds(), before)
                os.kill(host, signal.SIGCONT)
                run.wait_for_rounds(2000)
                run.books.stop()
                status, out, err = run.finish()
                self.assertEqual((status, out), (0, "threads 2\n"), err)
                run.check(self)

    def test_program_is_killed_while_stopped(self):
        run = self.start()
        host = run.host_pid()
        os.kill(host, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(host, signal.SIGKILL)
        status, _, err = run.finish()
        self.assertEqual(status, 128 + signal.SIGKILL, err)
        self.check(run, {"kind": "signaled", "signal": signal.SIGKILL})


if __name__ == "__main__":
    unittest.main()
