"""Installs the build into an empty folder and uses it from there, as a packager and a user would.

Must not: find anything in the build tree; that is what it is to detect.
"""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ.get("TIDEMARK_SOURCE_DIR", Path(__file__).resolve().parent.parent.parent))
BUILD = Path(os.environ.get("TIDEMARK_BUILD_DIR", ROOT / "build"))


def run(*command, **keywords):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, **keywords)


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="tidemark-install-")
        cls.addClassCleanup(folder.cleanup)
        cls.destination = Path(folder.name) / "image"
        result = run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", cls.destination)
        if result.returncode != 0:
            raise AssertionError(f"meson install failed:\n{result.stdout}{result.stderr}")
        options = {option["name"]: option["value"]
                   for option in json.loads(run("meson", "introspect", "--buildoptions", BUILD).stdout)}
        cls.prefix = cls.destination / options["prefix"].lstrip("/")
        cls.libdir = cls.prefix / options["libdir"]
        cls.mandir = cls.prefix / options["mandir"]
        cls.datadir = cls.prefix / options["datadir"]
        cls.includedir = cls.prefix / options["includedir"]
        cls.program = cls.prefix / "bin" / "tidemark"
        cls.library = cls.libdir / "tidemark" / "libtidemark.so"

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tidemark-installed-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_everything_is_there_and_nothing_else(self):
        expected = {self.program, self.library, self.includedir / "tidemark.h",
                    self.datadir / "tidemark" / "default.supp",
                    self.libdir / "pkgconfig" / "tidemark.pc", self.mandir / "man1" / "tidemark.1",
                    self.datadir / "bash-completion" / "completions" / "tidemark",
                    self.datadir / "zsh" / "site-functions" / "_tidemark"}
        found = {path for path in self.destination.rglob("*") if not path.is_dir()}
        self.assertEqual({str(path) for path in found}, {str(path) for path in expected})
        self.assertTrue(os.access(self.program, os.X_OK))

    def test_program_uses_the_installed_library(self):
        trace = self.folder / "maps.tmk"
        result = run(self.program, "record", "-o", trace, "--", "cat", "/proc/self/maps", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(str(self.library), result.stdout)
        self.assertNotIn(str(BUILD), result.stdout)
        self.assertGreater(trace.stat().st_size, 0)

    def test_status_is_passed_through(self):
        result = run(self.program, "record", "-o", self.folder / "a.tmk", "--", "sh", "-c", "exit 37", cwd=self.folder)
        self.assertEqual(result.returncode, 37, result.stderr)

    def test_image_can_be_moved(self):
        moved = self.folder / "moved"
        run("cp", "-a", self.prefix, moved)
        result = run(moved / "bin" / "tidemark", "record", "-o", self.folder / "a.tmk", "--", "cat", "/proc/self/maps")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"{moved}/", result.stdout)

    def test_no_path_of_the_build_is_searched(self):
        for path in (self.program, self.library):
            dynamic = run("readelf", "-dW", path).stdout
            self.assertIn("NEEDED", dynamic)
            self.assertNotRegex(dynamic, r"\((RPATH|RUNPATH)\)")

    def test_header_works_by_pkg_config_and_without_the_library(self):
        environment = {**os.environ, "PKG_CONFIG_LIBDIR": str(self.libdir / "pkgconfig"),
                       "PKG_CONFIG_SYSROOT_DIR": str(self.destination)}
        flags = run("pkg-config", "--cflags", "--libs", "tidemark", env=environment)
        self.assertEqual(flags.returncode, 0, flags.stderr)
        for compiler, suffix in (("gcc", "c"), ("g++", "cc")):
            with self.subTest(compiler=compiler):
                source = self.folder / f"user.{suffix}"
                source.write_text('#include <tidemark.h>\nint main(void) { TIDEMARK_MARK("on"); '
                                  'return TIDEMARK_IS_RECORDING() ? 42 : 0; }\n')
                program = self.folder / f"user-{suffix}"
                built = run(compiler, "-Wall", "-Wextra", "-Werror", source, *flags.stdout.split(), "-o", program)
                self.assertEqual(built.returncode, 0, built.stderr)
                self.assertEqual(run(program).returncode, 0)
                recorded = run(self.program, "record", "-o", self.folder / "a.tmk", "--", program)
                self.assertEqual(recorded.returncode, 42, recorded.stderr)

    def test_pkg_config_names_the_preload_library(self):
        environment = {**os.environ, "PKG_CONFIG_LIBDIR": str(self.libdir / "pkgconfig")}
        named = run("pkg-config", "--variable=preload_library", "tidemark", env=environment).stdout.strip()
        self.assertTrue(named.endswith("/tidemark/libtidemark.so"), named)
        self.assertTrue((self.destination / named.lstrip("/")).exists(), named)


if __name__ == "__main__":
    unittest.main()
