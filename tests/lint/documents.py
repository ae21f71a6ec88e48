"""Rules about documents: links that lead somewhere, commands that exist, a manual page that says what --help says.

Functions from texts to violations, like rules.py, so that each has a violating sample. No network: links to other
hosts are not followed. Must not: run programs.
"""
import posixpath
import re

PLACEHOLDER = "PLACEHOLDER" + "-OUTPUT"


def without_code(text):
    """The text with code blocks and inline code blanked, line numbers kept: a link in code is not a link."""
    text = re.sub(r"^( *)(```|~~~).*?^ *\2", lambda match: "\n" * match[0].count("\n"), text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchor_of(heading):
    """The fragment that a heading gets, as code hosts make it."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
    return kept.strip().replace(" ", "-")


def anchors_of(text):
    code_free = re.sub(r"^( *)(```|~~~).*?^ *\2", "", text, flags=re.M | re.S)
    anchors = {}
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", code_free, re.M):
        anchor = anchor_of(heading)
        count = anchors.get(anchor, 0)
        anchors[anchor] = count + 1
        found.add(f"{anchor}-{count}" if count else anchor)
    return found


def broken_links(texts, existing_files):
    """Relative links of *.md files to files or headings that are not there."""
    folders = {folder for name in existing_files for folder in parents(name)}
    found = []
    for path, text in texts.items():
        if not path.endswith(".md"):
            continue
        for number, line in enumerate(without_code(text).splitlines(), 1):
            for link in re.findall(r"\]\(<?([^)\s>]+)>?[^)]*\)", line) + re.findall(r"^\[[^\]]+\]: +(\S+)", line):
                if re.match(r"[a-z][a-z+.-]*:", link):
                    continue
                target, _, fragment = link.partition("#")
                resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) if target else path
                if resolved not in existing_files and resolved not in folders:
                    found.append(f"{path}:{number}: link to {link}: there is no {resolved}")
                elif fragment and resolved.endswith(".md") and fragment not in anchors_of(texts[resolved]):
                    found.append(f"{path}:{number}: link to {link}: {resolved} has no such heading")
    return found


def parents(name):
    while name:
        name = posixpath.dirname(name)
        yield name or "."


def placeholders(texts):
    return [f"{path}:{number}: {PLACEHOLDER} is left: put in what the command really prints"
            for path, text in texts.items() if path.endswith(".md")
            for number, line in enumerate(text.splitlines(), 1) if PLACEHOLDER in line]


def unknown_commands(texts, program, known, exempt=()):
    """Commands in code blocks of *.md that `program` does not have ("$ tidemark frobnicate")."""
    pattern = re.compile(rf"(?:^|[\s/$(;|&]){re.escape(program)} +([a-z][a-z-]*)\b")
    found = []
    for path, text in texts.items():
        if not path.endswith(".md") or path in exempt:
            continue
        in_block = False
        for number, line in enumerate(text.splitlines(), 1):
            if line.lstrip().startswith("```"):
                in_block = not in_block
            elif in_block and not line.lstrip().startswith(("#", "//")):
                found += [f"{path}:{number}: {program} has no command '{word}'"
                          for word in pattern.findall(line) if word not in known]
    return found


def commands_of_help(text):
    """Names in the list of commands of `tidemark --help`."""
    block = re.search(r"^(?:Subcommands|Commands):\n((?:[ \t]+.*\n?|\n(?=[ \t]))+)", text, re.M | re.I)
    return re.findall(r"^ {1,4}([a-z][a-z-]*)", block[1], re.M) if block else []


def options_of_help(text):
    """Long options that a --help lists: those at the beginning of an indented line."""
    options = set()
    for line in re.findall(r"^ +(-.*)$", text, re.M):
        words = re.split(r"\s", line.strip(), maxsplit=1)[0]
        options.update(word for word in re.split(r"[,|]", words) if word.startswith("--"))
        second = re.match(r"-\w,? +(--[a-z][\w-]*)", line)
        if second:
            options.add(second[1])
    return options


def missing_from(document, name, words):
    r"""Commands or options that a document made from the same table lacks. Roff writes hyphens as \-, fonts as \fB."""
    plain = re.sub(r"\\f(\(..|\[\w*\]|.)", "", document).replace("\\-", "-").replace("\\", "")
    return [f"{name} does not know {word}" for word in sorted(words)
            if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", plain)]
