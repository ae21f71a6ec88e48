"""Names in a trace come from the program that was watched: in every view they are text and nothing else.

A thread, a function, the folder of the program and its command line are named with escape sequences, markup and bytes
that are no UTF-8. Must not: look at what is measured; other tests do.
"""
import json
import subprocess
import tempfile
import unicodedata
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tracing import ROOT, SCRATCH, TOOL, clean_environment, compile_program, record

# A title for the terminal, colour, markup, a quotation mark, C1's CSI in UTF-8, text turned round, and no UTF-8.
HOSTILE = b"\x1b]0;owned\x07\x1b[31m<script>alert(1)</script>\"&;\xc2\x9b31m\xe2\x80\xae\xff\r"
TURNS_TEXT = {"\u061c", "\u200e", "\u200f", "\u2028", "\u2029", *map(chr, range(0x202a, 0x202f)),
              *map(chr, range(0x2066, 0x206a))}


class HostileNames(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        hostile = HOSTILE.decode(errors="surrogateescape")
        folder = Path(tempfile.mkdtemp(dir=SCRATCH)) / hostile  # two of them, as the markup has a slash
        folder.mkdir(parents=True)
        plain = compile_program("artefact_names.c", "-O0", "-pthread", f"-I{ROOT}")
        program = folder / hostile.replace("/", "")
        subprocess.run([b"objcopy", b"--redefine-sym", b"hostile_function=" + HOSTILE, str(plain), program], check=True)
        _, cls.trace = record([program, hostile])

    def view(self, *arguments):
        done = subprocess.run([TOOL, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=clean_environment(), timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_plain(done.stderr)
        return done.stdout

    def assert_plain(self, output):
        text = output.decode()  # raises where it is no UTF-8
        bad = {char for char in text if char != "\n" and unicodedata.category(char) == "Cc" or char in TURNS_TEXT}
        self.assertEqual(bad, set(), ascii(text))
        return text

    def test_i3_names_are_plain_text_in_tables(self):
        by = {}
        for grouping in ("site", "function", "module", "thread", "size"):
            with self.subTest(by=grouping):
                by[grouping] = self.assert_plain(self.view("report", self.trace.path, "--by", grouping, "--all-frames"))
        # They are there, so that the test is one.
        self.assertIn("<script>alert(1)</script>", by["function"])
        self.assertIn("<b>&", by["thread"])
        text = self.assert_plain(self.view("info", self.trace.path))
        self.assertIn("<b>&", text)
        self.assertIn("<script>alert(1)</script>", text)
        text = self.assert_plain(self.view("export", self.trace.path, "--format", "folded", "-o", "-"))
        self.assertIn("<script>alert(1)</script>", text)

    def test_i3_names_are_strings_in_json(self):
        for command in (("report", "--json"), ("info", "--json"), ("export", "--format", "json", "-o", "-")):
            with self.subTest(command=command):
                output = self.view(command[0], self.trace.path, *command[1:])
                self.assertFalse(set(output) & set(range(0x20)) - {0x0a}, "control characters outside of escapes")
                document = json.loads(output.decode())
                self.assertIn("<script>alert(1)</script>", json.dumps(document))
                self.assertIn("\x1b]0;owned\x07", " ".join(document["run"]["command"]))

    def test_i3_names_are_text_in_the_flame_graph(self):
        output = self.view("flamegraph", self.trace.path, "-o", "-", "--title", "</title><script>alert(2)</script>")
        self.assertNotIn(b"<script>alert", output)
        self.assertFalse(set(output) & set(range(0x20)) - {0x0a, 0x09})
        svg = ElementTree.fromstring(output.decode())
        scripts = [node for node in svg.iter() if node.tag.endswith("script")]
        self.assertEqual(len(scripts), 1)
        self.assertNotIn("alert", scripts[0].text)
        titles = [node.text for node in svg.iter() if node.tag.endswith("title")]
        self.assertTrue(any("<script>alert(1)</script>" in title for title in titles))
        links = [value for node in svg.iter() for name, value in node.attrib.items() if name.endswith("href")]
        self.assertEqual(links, [])
        handlers = [name for node in svg.iter() for name in node.attrib if name.lower().startswith("on")]
        self.assertEqual(handlers, [])


if __name__ == "__main__":
    unittest.main()
