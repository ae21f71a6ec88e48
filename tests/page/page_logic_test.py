"""The page's logic without a browser: tools/page/test/*.test.ts under node's own test runner.

Must not: know what those tests are about.
"""
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import browser


class PageLogic(unittest.TestCase):
    def test_all_of_it(self):
        browser.need_modules()
        with tempfile.TemporaryDirectory(dir=browser.SCRATCH) as folder:
            subprocess.run(["node", browser.PAGE / "build.mjs", "--tests", folder, browser.MODULES], check=True,
                           timeout=300)
            files = sorted(Path(folder).glob("*.mjs"))
            self.assertGreater(len(files), 0)
            done = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])
        self.assertGreaterEqual(int(re.search(r"^. pass (\d+)$", done.stdout, re.M)[1]), 10, done.stdout[-500:])


if __name__ == "__main__":
    unittest.main()
