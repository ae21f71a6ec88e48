"""Too few descriptors to attach, and /dev/shm full or absent: the program runs as ever, recorded in full or not at all.

Where it is not recorded, record says so, and there is no trace that would say that nothing was allocated.
"""
import ctypes
import os
import subprocess
import unittest

from accounts import MODES, Run, plain

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def with_shared_memory(way):
    """For preexec_fn: a /dev/shm that is `full` or `absent`, for this process and its children."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare():
        if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
            raise OSError(ctypes.get_errno(), "cannot have a mount namespace")
        # Hidden below an empty folder that takes no file, or so small that one page fills it.
        options = b"size=4k" if way == "full" else b"size=4k,nr_inodes=1,mode=0"
        if libc.mount(b"tidemark", b"/dev/shm", b"tmpfs", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "cannot mount")
        if way == "full":
            with open("/dev/shm/filler", "wb") as file:
                file.write(bytes(4096))
    return prepare


class Limits(unittest.TestCase):
    def test_shared_memory_full_or_absent(self):
        arguments = ("storm", 2, 2000, "return")
        for way in ("full", "absent"):
            for launch in ("record", "preload"):
                for mode in MODES:
                    with self.subTest(way=way, launch=launch, mode=mode):
                        try:
                            run = Run(self, launch, mode, *arguments, preexec_fn=with_shared_memory(way))
                        except subprocess.SubprocessError:
                            self.skipTest("needs the right to mount")
                        status, out, err = run.finish()
                        self.assertEqual((status, out), plain(self, *arguments)[:2], err)
                        observed, _, _ = run.check(self)
                        self.assertGreater(observed, 2000)

    def test_descriptors(self):
        """From none that is free to as many as it takes."""
        arguments = ("storm", 2, 2000, "return")
        recorded = []
        for free in range(6):
            with self.subTest(free=free):
                limit = f'ulimit -n {3 + free}; exec "$@"'
                # As in the plain run, in which the program starts with the same descriptors.
                run = Run(self, "record", "full", *arguments, host=("sh", "-c", limit, "sh"))
                status, out, err = run.finish()
                expected = plain(self, *arguments, host=("sh", "-c", limit, "sh"))
                self.assertEqual((status, out), expected[:2], err)
                self.assertNotIn("not recording", err)  # the program's stderr is its own
                images = run.books.images()
                if status != 0:  # the loader itself could not open libc
                    self.assertEqual(images, {})
                    recorded.append(None)
                    continue
                (pid, (image,)), = images.items()
                infos = [info for info in run.traces().get(pid, []) if "conserve_work" in info["run"]["executable"]]
                recorded.append(bool(infos))
                if infos:
                    run.check(self)
                else:
                    self.assertIn("1 process was not recorded", err)
                run.check_nothing_left(self)
        self.assertIn(None, recorded)
        self.assertIn(False, recorded)
        self.assertTrue(recorded[-1], recorded)


if __name__ == "__main__":
    unittest.main()
