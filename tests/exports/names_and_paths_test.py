"""Names in exports are text and nothing else, in every format and viewer; paths are shortened when asked.

One program has functions that are called `<script>`, with quotes, control characters, no UTF-8, and 10,000 letters.
"""
import gzip
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

import firefox_test
import heaptrack_test
import pprof_test
import speedscope_test
import valgrind_viewers_test
from viewers import SCRATCH, ExportTest, compile_program, export, node_script, record, recording, run, HERE

NAMES = {"name_markup": b"<script>alert(1)</script>", "name_quotes": b"a\"b'c`d\\e;f,g",
         "name_controls": b"=line\none\r\x1b[31m\ttab", "name_bytes": b"no\xffutf8\xc3\x28\xe2\x80\xae",
         "name_long": b"L" + b"o" * 9998 + b"g"}
SOURCE = """
#include <stdlib.h>
void* volatile g_block;
%s
int main(void) { %s return 0; }
"""
FORMATS = ("folded", "pprof", "speedscope", "firefox", "dhat", "heaptrack", "callgrind", "massif", "csv", "json")


def hostile_trace():
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    source = folder / "names.c"
    functions = "\n".join(f"__attribute__((noinline)) void {name}(void) {{ g_block = malloc({1000 + i}); }}"
                          for i, name in enumerate(NAMES))
    source.write_text(SOURCE % (functions, " ".join(f"{name}();" for name in NAMES)))
    plain = compile_program("names.c", "-O0", sources=[source])
    program = folder / "names"
    renames = [part for name, hostile in NAMES.items() for part in (b"--redefine-sym", name.encode() + b"=" + hostile)]
    subprocess.run([b"objcopy", *renames, bytes(plain), bytes(program)], check=True)
    return record([program])[1]


class Names(ExportTest):
    @classmethod
    def setUpClass(cls):
        cls.trace = hostile_trace()

    def text_of(self, form):
        data = export(self.trace, form).read_bytes()
        return (gzip.decompress(data) if form == "pprof" else data)

    def test_plain_text_in_every_format(self):
        for form in FORMATS:
            with self.subTest(format=form):
                data = self.text_of(form)
                if form == "pprof":  # binary: only its strings are text
                    self.assertNotIn(b"\x1b[31m", data)
                    self.assertNotIn(b"line\none", data)
                    self.assertNotIn(b"no\xff", data)
                else:
                    text = data.decode()  # raises where it is no UTF-8
                    bad = {c for c in text if ord(c) < 32 and c not in "\r\n" or ord(c) == 127}
                    if form != "json":  # where names are kept as they are, in strings
                        bad |= set(text) & {"\u202e"}
                    self.assertEqual(bad, set())
                self.assertIn(b"<script>alert(1)", data)
                self.assertIn(b"L" + b"o" * 9998 + b"g", data)

    def test_documents_stay_whole(self):
        for form in ("speedscope", "firefox", "dhat", "json"):
            document = json.loads(self.text_of(form))
            self.assertIn("a\\\"b'c`d\\\\e;f,g", json.dumps(document), form)
        lines = self.text_of("folded").decode().splitlines()
        self.assertEqual(sum(int(line.rpartition(" ")[2]) for line in lines),
                         self.trace.report()["totals"]["allocated"]["bytes"])

    def test_in_pprof(self):
        _, samples, locations, _, _ = pprof_test.raw(export(self.trace, "pprof"))
        self.assertEqual(sum(values[1] for values, _, _ in samples),
                         self.trace.report()["totals"]["allocated"]["bytes"])
        names = {line[0] for lines in locations.values() for line in lines}
        self.assertTrue(any("<script>alert(1)</script>" in name for name in names))

    def test_in_heaptrack_print(self):
        text = heaptrack_test.heaptrack_print(export(self.trace, "heaptrack"))
        self.assertIn("<>alert(", text)  # it leaves out what it takes for template arguments

    def test_in_callgrind_annotate(self):
        rows = valgrind_viewers_test.Callgrind().rows(self.trace, "no")
        self.assertEqual(rows["<script>alert(1)</script>"], 1000)
        self.assertEqual(rows["L" + "o" * 9998 + "g"], 1004)

    def test_in_ms_print(self):
        self.assertIn("<script>alert(1)</script>", run("ms_print", export(self.trace, "massif")))

    def test_in_dh_view(self):
        view = valgrind_viewers_test
        root = json.loads(node_script(view.LOAD_DHAT, view.DH_VIEW, export(self.trace, "dhat")))
        self.assertEqual(root["tb"], self.trace.report()["totals"]["allocated"]["bytes"])

    def test_in_the_firefox_profiler(self):
        with firefox_test.Profiler(export(self.trace, "firefox", name="profile.json")) as profiler:
            rows = profiler.samples("native-allocations")["topFunctionsByTotal"]
        self.assertTrue(any("<script>alert(1)</script>" in row["name"] for row in rows))

    def test_in_speedscope(self):
        html = speedscope_test.rows_of_sandwich(export(self.trace, "speedscope"))
        self.assertIn("&lt;script&gt;alert(1)", html)
        self.assertNotIn("<script>alert(1)", html)

    def test_a_spreadsheet_sees_no_formula(self):
        text = self.text_of("csv").decode()
        self.assertIn("\"'=line?one", text)
        self.assertNotIn("\"=", text)


class Paths(ExportTest):
    def forms(self, *options):
        for form in FORMATS:
            data = export(recording("templates"), form, *options).read_bytes()
            yield form, (gzip.decompress(data) if form == "pprof" else data).decode(errors="replace")

    def test_a_prefix_is_cut_off(self):
        folder = str(HERE / "programs")
        with_it = [form for form, text in self.forms() if folder in text]
        self.assertIn("pprof", with_it)
        self.assertIn("massif", with_it)
        for form, text in self.forms("--strip-path-prefix", str(HERE.parent), "--strip-path-prefix", "/nowhere"):
            self.assertNotIn(folder, text, form)
            if form in with_it:
                self.assertIn("exports/programs/templates.cc", text, form)
        # Letters are no folder.
        for form, text in self.forms("--strip-path-prefix", folder[:-2]):
            self.assertEqual(folder in text, form in with_it, form)

    def test_short_paths_have_no_folder(self):
        for form, text in self.forms("--short-paths"):
            self.assertNotIn("programs/", text, form)
            if form not in ("folded",):
                self.assertIn("templates.cc", text, form)

    def test_no_source_text(self):
        for form, text in self.forms():
            self.assertNotIn("g_kept_count", text, form)


if __name__ == "__main__":
    unittest.main()
