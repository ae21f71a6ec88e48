"""The interactive page that is committed is the one that its source builds, and its TypeScript has no error of type.

Must not: change the page; `node tools/page/build.mjs` does.
"""
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import tree

PAGE = tree.ROOT / "tools" / "page"
MODULES = PAGE / "node_modules"
BUILT = PAGE / "built" / "page.html"
HOW = "node tools/page/build.mjs tools/page/built/page.html tools/page/node_modules"


class PageAssetTest(unittest.TestCase):
    def need(self, module):
        if shutil.which("node") is None or not (MODULES / module).exists():
            self.skipTest(f"node or tools/page/node_modules/{module} is not there; ./dev lint installs them")

    def build(self, page):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "page.html"
            subprocess.run(["node", page / "build.mjs", out, MODULES], check=True, capture_output=True, timeout=300)
            return out.read_text(encoding="utf-8")

    def test_built_page_is_that_of_its_source(self):
        self.need("esbuild")
        self.assertEqual(self.build(PAGE), BUILT.read_text(encoding="utf-8"), f"build it anew: {HOW}")

    def test_another_source_builds_another_page(self):
        self.need("esbuild")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "page"
            shutil.copytree(PAGE, copy, ignore=shutil.ignore_patterns("node_modules", "built", "test"))
            source = copy / "src" / "numbers.ts"
            source.write_text(source.read_text().replace('"KiB"', '"kib"'))
            self.assertNotEqual(self.build(copy), BUILT.read_text(encoding="utf-8"))

    def test_types(self):
        self.need("typescript")
        done = subprocess.run(["node", MODULES / "typescript" / "bin" / "tsc", "-p", PAGE], capture_output=True,
                              text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_policy_allows_nothing_but_the_page_itself(self):
        text = BUILT.read_text(encoding="utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
        self.assertTrue(policy.startswith("default-src 'none'; script-src 'sha256-"), policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(re.findall(r'(?:src|href)="?https?:', text), [])

    def test_lock_file_names_no_host(self):
        self.assertNotIn('"resolved"', (PAGE / "package-lock.json").read_text())


if __name__ == "__main__":
    unittest.main()
