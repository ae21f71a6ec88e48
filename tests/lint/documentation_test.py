"""Holds documents, manual page and completion to what the tree and the built program really have.

Every rule of documents.py is first held to a sample. Must not: follow links to other hosts.
"""
import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

import documents
import tree

BUILD = Path(os.environ.get("TIDEMARK_BUILD_DIR", tree.ROOT / "build"))
TIDEMARK = BUILD / "tools" / "tidemark"


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tree.ROOT).stdout


class SampleTest(unittest.TestCase):
    def test_broken_links(self):
        files = {"README.md", "docs/a.md", "docs/b.md"}
        texts = {"README.md": "[a](docs/a.md) [x](docs/x.md) `[y](y.md)` [d](docs) [h](https://example.org/x)\n",
                 "docs/a.md": "# One two: `three`\n[b](b.md#four) [up](../README.md) [own](#one-two-three)\n",
                 "docs/b.md": "## Five\n```\n[z](z.md)\n```\n[r]: ../gone.md\n"}
        found = documents.broken_links(texts, files)
        self.assertEqual(len(found), 3, found)
        self.assertTrue(any("docs/x.md" in line for line in found))
        self.assertTrue(any("b.md#four" in line for line in found))
        self.assertTrue(any("gone.md" in line for line in found))

    def test_placeholders(self):
        self.assertTrue(documents.placeholders({"README.md": f"x\n{documents.PLACEHOLDER}\n"}))
        self.assertEqual(documents.placeholders({"README.md": "x\n", "a.py": documents.PLACEHOLDER}), [])

    def test_unknown_commands(self):
        text = ("```sh\n$ tidemark record -- true\nbuild/tools/tidemark frobnicate x\n# tidemark does\n```\n"
                "tidemark is\n")
        self.assertEqual(documents.unknown_commands({"a.md": text}, "tidemark", {"record"}),
                         ["a.md:3: tidemark has no command 'frobnicate'"])

    def test_help_is_understood(self):
        text = ("Usage: x\n\nOptions:\n  -h,--help        print\n  --json  see --not-this\n  -o, --output FILE\n\n"
                "Subcommands:\n  record        profile\n  info          show\n")
        self.assertEqual(documents.commands_of_help(text), ["record", "info"])
        self.assertEqual(documents.options_of_help(text), {"--help", "--json", "--output"})

    def test_missing_from(self):
        self.assertEqual(documents.missing_from("\\fB\\-\\-json\\fR, --jsonl", "page", {"--json"}), [])
        self.assertTrue(documents.missing_from("--json-lines", "page", {"--json"}))


class DocumentTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.texts = tree.tree_texts()
        cls.files = set(tree.tree_files())

    def check(self, violations):
        if violations:
            self.fail("\n" + "\n".join(violations))

    def test_links_lead_somewhere(self):
        self.check(documents.broken_links(self.texts, self.files))

    def test_no_placeholder_is_left(self):
        self.check(documents.placeholders(self.texts))

    def test_dev_commands_exist(self):
        known = set(re.findall(r"^cmd_(\w+)\(\)", self.texts["dev"], re.M)) | {"help"}
        self.assertIn("test", known)
        self.check(documents.unknown_commands(self.texts, "./dev", known))
        listed = set(re.findall(r"^  ([a-z]+) ", output_of("./dev", "help"), re.M))
        self.assertEqual(listed, known)

    def test_index_names_every_document(self):
        index = self.texts["docs/README.md"]
        self.check([f"docs/README.md does not link {name}" for name in sorted(self.files)
                    if re.fullmatch(r"docs/[\w-]+\.md", name) and name != "docs/README.md"
                    and f"({name[len('docs/'):]}" not in index])

    def test_changelog_has_this_version(self):
        version = re.search(r"version: '([^']+)'", self.texts["meson.build"])[1]
        self.assertRegex(self.texts["CHANGELOG.md"], rf"(?m)^## \[({re.escape(version)}|Unreleased)\]")


class ProgramTest(unittest.TestCase):
    """Manual page and completion against --help, of the program as built."""

    @classmethod
    def setUpClass(cls):
        cls.commands = documents.commands_of_help(output_of(TIDEMARK, "--help"))
        cls.options = {command: documents.options_of_help(output_of(TIDEMARK, command, "--help"))
                       for command in cls.commands}

    def check_knows_all(self, document, name):
        words = set(self.commands).union(*self.options.values())
        self.assertGreater(len(words), 10)
        missing = documents.missing_from(document, name, words)
        if missing:
            self.fail("\n" + "\n".join(missing))

    def test_every_command_has_help(self):
        self.assertIn("record", self.commands)
        for command in self.commands:
            self.assertIn("--help", self.options[command], command)

    def test_man_page_knows_all(self):
        self.check_knows_all((BUILD / "packaging" / "tidemark.1").read_text(), "the manual page")

    def test_bash_completion_knows_all(self):
        self.check_knows_all((BUILD / "packaging" / "tidemark").read_text(), "completion for bash")

    def test_zsh_completion_knows_all(self):
        self.check_knows_all((BUILD / "packaging" / "_tidemark").read_text(), "completion for zsh")

    def test_bash_completion_completes(self):
        script = BUILD / "packaging" / "tidemark"
        body = (f'source "{script}"; spec=$(complete -p tidemark); [[ $spec =~ -F\\ ([^ ]+) ]];'
                'COMP_WORDS=(tidemark reco); COMP_CWORD=1; COMP_LINE="tidemark reco"; COMP_POINT=13;'
                '"${BASH_REMATCH[1]}" tidemark reco tidemark; printf "%s\\n" "${COMPREPLY[@]}"')
        self.assertEqual(output_of("bash", "--norc", "-c", body).split(), ["record"])

    @unittest.skipUnless(shutil.which("man"), "man is not installed")
    def test_man_page_formats_without_warnings(self):
        page = BUILD / "packaging" / "tidemark.1"
        result = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
                                capture_output=True, text=True, env={**os.environ, "MANWIDTH": "100"})
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertGreater(len(result.stdout), 1000)

    def test_documents_name_existing_commands(self):
        found = documents.unknown_commands(tree.tree_texts(), "tidemark", self.commands)
        if found:
            self.fail("\n" + "\n".join(found))


if __name__ == "__main__":
    unittest.main()
