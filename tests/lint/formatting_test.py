"""Holds C++ files to .clang-format. One version of clang-format decides: versions disagree, and would argue for ever.

Must not: change files; ./dev fmt does.
"""
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import tree

CLANG_FORMAT = "clang-format-14"


def unformatted(root, names):
    """Files that clang-format would change."""
    found = []
    for name in names:
        result = subprocess.run([CLANG_FORMAT, "--dry-run", "--Werror", "--ferror-limit=1", name], cwd=root,
                                capture_output=True, text=True)
        if result.returncode != 0:
            found.append(result.stderr.strip().splitlines()[0] if result.stderr.strip() else name)
    return found


@unittest.skipUnless(shutil.which(CLANG_FORMAT), f"{CLANG_FORMAT} is not installed")
class FormattingTest(unittest.TestCase):
    def test_a_violating_sample_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(tree.ROOT / ".clang-format", folder)
            (Path(folder) / "a.cc").write_text("int  a ;\n")
            (Path(folder) / "b.cc").write_text("int a;\n")
            found = unformatted(folder, ["a.cc", "b.cc"])
        self.assertEqual(len(found), 1)
        self.assertIn("a.cc", found[0])

    def test_tree_is_formatted(self):
        names = [name for name in tree.tree_files() if name.endswith((".cc", ".h"))
                 and not name.startswith(tree.DATA_FOLDERS)]
        self.assertGreater(len(names), 5)
        found = unformatted(tree.ROOT, names)
        if found:
            self.fail("./dev fmt would change:\n" + "\n".join(found))


if __name__ == "__main__":
    unittest.main()
