"""The classes and amounts of `tidemark leaks` are those of valgrind's memcheck, program by program, to the byte.

Definitely and indirectly lost blocks are compared, on programs as Debian ships them, some of which lose small known
amounts. Possibly lost and reachable ones are not: valgrind runs programs in an environment and on a processor
of its own. perl is not among them: a block that memcheck calls indirectly lost is possibly lost for us
(docs/leaks.md). Both tools look after destructors; memcheck is told not to free what the C library keeps, which
would hide it.
Must not: name the amounts; they are the distribution's.
"""
import concurrent.futures
import json
import re
import shutil
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tracing import TOOL, clean_environment

# (input, command); what memcheck and we run is the very same.
PROGRAMS = [
    ("", "date"), ("", "ls /usr"), ("b\na\n", "sort"), ("", "tar cf /dev/null /etc/hostname"),
    ("", "grep root /etc/passwd"), ("abc\n", "sed s/a/b/"), ("a b\n", "gawk {print$2}"), ("2^20\n", "bc -q"),
    ('{"a":1}', "jq ."), ("<a/>", "xmllint -"), ("select 1;\n", "sqlite3"), ("", "git --version"),
    ("", "gcc --version"), ("", "cat /etc/passwd"), ("", "wc /etc/passwd"), ("", "find /etc/apt"),
    ("", "cut -c1 /etc/passwd"), ("", "uniq /etc/passwd"), ("", "md5sum /etc/passwd"), ("", "od /etc/hostname"),
    ("abc\n", "tr a b"), ("", "head /etc/passwd"), ("", "id"), ("", "du /etc/apt"), ("", "stat /etc"),
    ("", "df /tmp"), ("", "who"), ("", "expr 1 + 2"), ("", "make --version"), ("", "xz --version"),
    ("", "readelf -h /bin/ls"), ("", "gzip -c /etc/hostname"),
    ("", "/usr/bin/python3 -c import\tjson;json.dumps({1:2})"),
]
NAMES = {"Leak_DefinitelyLost": "definite", "Leak_IndirectlyLost": "indirect"}


def ours(command, stdin, folder):
    path = folder / "run.tmk"
    subprocess.run([TOOL, "record", "-q", "--mode", "full", "--leak-check", "--follow-children", "no", "-o", path, "--",
                    *command], input=stdin, capture_output=True, env=clean_environment(), timeout=300)
    done = subprocess.run([TOOL, "leaks", "--format", "json", "--children", "no", "--no-default-suppressions", path],
                          capture_output=True, text=True, env=clean_environment(), timeout=300)
    found = json.loads(done.stdout)
    if found["verdict"] == "could not check":
        raise AssertionError(f"{command}: {found['reasons']}")
    return {kind: (found["totals"][kind]["bytes"], found["totals"][kind]["blocks"]) for kind in NAMES.values()}


def memchecks(command, stdin, folder):
    path = folder / "valgrind.xml"
    subprocess.run(["valgrind", "--leak-check=full", "--show-leak-kinds=all", "--run-libc-freeres=no",
                    "--run-cxx-freeres=no", "--xml=yes", f"--xml-file={path}", *command], input=stdin,
                   capture_output=True, env=clean_environment(), timeout=300)
    sums = {kind: (0, 0) for kind in NAMES.values()}
    for error in ElementTree.parse(path).getroot().findall("error"):
        kind = NAMES.get(error.find("kind").text)
        if kind is None:
            continue
        size = int(error.find("xwhat/leakedbytes").text)
        # The sum of a definite record has what its blocks hold in it: "32 (16 direct, 16 indirect) bytes".
        direct = re.search(r"\(([\d,]+) direct,", error.find("xwhat/text").text)
        if direct:
            size = int(direct.group(1).replace(",", ""))
        sums[kind] = (sums[kind][0] + size, sums[kind][1] + int(error.find("xwhat/leakedblocks").text))
    return sums


def compare(program):
    stdin, line = program
    command = [word.replace("\t", " ") for word in line.split(" ")]
    with tempfile.TemporaryDirectory(prefix="tidemark-memcheck-") as folder:
        return line, ours(command, stdin.encode(), Path(folder)), memchecks(command, stdin.encode(), Path(folder))


class MemcheckTest(unittest.TestCase):
    def test_amounts_are_memchecks(self):
        programs = [program for program in PROGRAMS if shutil.which(program[1].split(" ")[0])]
        self.assertGreaterEqual(len(programs), 25)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = list(pool.map(compare, programs))
        for line, found, expected in results:
            with self.subTest(program=line):
                self.assertEqual(found, expected)
        losing = [line for line, found, _ in results if found["definite"][1] != 0]
        self.assertGreaterEqual(len(losing), 3, "programs that lose nothing prove little")

    def test_a_difference_would_be_seen(self):
        """The comparison itself: sort loses a block, cat does not."""
        with tempfile.TemporaryDirectory(prefix="tidemark-memcheck-") as folder:
            self.assertNotEqual(ours(["sort", "/etc/hostname"], b"", Path(folder)),
                                memchecks(["cat", "/etc/hostname"], b"", Path(folder)))


if __name__ == "__main__":
    unittest.main()
