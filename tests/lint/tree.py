"""Which files belong to the tree: what the rules look at, and what the formatter and clang-tidy are given.

Tracked and new files alike, so that a rule speaks before the commit and not after it. Works without git (a release
archive) by walking. Must not: depend on history, branch or commit.

  python3 tests/lint/tree.py .cc .h            prints the files with one of these suffixes
  python3 tests/lint/tree.py --compiled BUILD  prints the C++ files that a build directory compiles
"""
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Inputs that are data: bytes on purpose, not text that somebody reads.
DATA_FOLDERS = ("tests/golden/", "tests/fuzz/corpus/")


def files_without_git(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__", "node_modules")
                      and not name.startswith("build")]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root)


def tree_files(root=ROOT):
    """Paths of all files of the tree, relative to its root, sorted."""
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             capture_output=True, text=True) if (root / ".git").exists() else None
    if listing and listing.returncode == 0:
        names = [name for name in listing.stdout.split("\0") if name]
    else:
        names = list(files_without_git(root))
    return sorted({name for name in names if (root / name).is_file() and not (root / name).is_symlink()})


def tree_texts(root=ROOT):
    """{path: text} of all files that are text and not data."""
    texts = {}
    for name in tree_files(root):
        if name.startswith(DATA_FOLDERS):
            continue
        try:
            texts[name] = (root / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # binary: no rule of text applies
    return texts


def compiled_files(build):
    entries = json.loads((Path(build) / "compile_commands.json").read_text(encoding="utf-8"))
    compiled = {os.path.realpath(os.path.join(entry["directory"], entry["file"])) for entry in entries}
    return [str(ROOT / name) for name in tree_files() if name.endswith(".cc") and str(ROOT / name) in compiled]


def main(arguments):
    if arguments[:1] == ["--compiled"]:
        print("\n".join(compiled_files(arguments[1])))
    else:
        print("\n".join(name for name in tree_files() if name.endswith(tuple(arguments))))


if __name__ == "__main__":
    main(sys.argv[1:])
