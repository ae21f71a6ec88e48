"""What glibc tests of its own malloc, written anew from the manuals: the same cases have to pass with ours.

One program has all cases and prints each that passed; a wrong answer is printed with its line and ends it.
"""
import unittest

from same_answers import SameAnswers
from tracing import compile_program

CASES = ["tst-malloc", "tst-calloc", "tst-realloc", "tst-reallocarray", "tst-memalign", "tst-posix_memalign",
         "tst-valloc", "tst-pvalloc", "tst-malloc-usable", "tst-malloc-too-large", "tst-malloc-thread-exit",
         "tst-mallocfork", "tst-obstack", "no malloc hooks"]


class Glibcs(SameAnswers):
    def test_what_glibc_tests(self):
        plain, _ = self.compare(compile_program("sem_glibc.c", "-w", "-pthread"))
        self.assertEqual(plain.stdout.decode().splitlines(), CASES, plain.stderr)


if __name__ == "__main__":
    unittest.main()
