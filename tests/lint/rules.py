"""The rules of the source tree, each a function from {path: text} to a list of violations ("path:line: what").

A rule takes the texts as an argument so that its own test can hand it a violating sample. Words and addresses that a
rule forbids are put together from pieces here, or the rule would find itself. Must not: read files.
"""
import re
from collections import defaultdict

CPP = (".cc", ".h")
MAX_LINES = 600
COMMENT_OPENS = {".cc": ("//", "/*"), ".h": ("//", "/*"), ".c": ("//", "/*"), ".py": ('"""', "#"), ".sh": ("#",),
                 ".ts": ("//", "/*")}
VAGUE = "util|utils|utility|utilities|common|misc|helper|helpers"

# Which headers a layer may include, by folder of the including file. Data flows interpose -> profiler -> tools, and
# tools know of the profiler only what describes a trace and how one is collected.
PROFILER_HEADERS_FOR_TOOLS = {
    "collector.h", "columns.h", "crc32c.h", "free_lists.h", "options.h", "session_server.h", "session.h",
    "reachability.h", "trace_format.h", "trace_names.h", "trace_writer.h", "include/tidemark.h",
}
LAYERS = {
    "interpose": lambda header: header.startswith(("interpose/", "profiler/")),
    "profiler": lambda header: header.startswith("profiler/"),
    "tools": lambda header: header.startswith("tools/")
    or header.startswith("profiler/") and header[len("profiler/"):] in PROFILER_HEADERS_FOR_TOOLS,
    "examples": lambda header: header == "profiler/include/tidemark.h",
}
LAYER_NAMES = ("interpose/", "profiler/", "tools/", "tests/", "bench/", "examples/", "analysis/")

# Foreign libraries that exactly one file may know: replacing one of them has to stay a change of one file.
SOLE_OWNER_HEADERS = {
    "mimalloc": r"mimalloc(-\w+)?\.h",
    "libunwind": r"libunwind(-\w+)?\.h",
    "Capstone": r"capstone/\w+\.h",
    "libdw": r"(elfutils/(libdw|libdwfl|libdwelf|known-dwarf)\.h|dwarf\.h)",
}

MARKERS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")
REGISTRY_HOSTS = tuple("".join(pieces) for pieces in (
    ("py", "pi.org"), ("pythonhosted", ".org"), ("deb.", "debian.org"), ("security.", "debian.org"),
    ("archive.", "ubuntu.com"), ("registry.", "npmjs.org"), ("registry.", "yarnpkg.com"), ("crates", ".io"),
    ("rubygems", ".org"), ("repo1.", "maven.org"), ("repo.maven", ".apache.org"), ("proxy.", "golang.org"),
    ("conda.", "anaconda.org"), ("registry-1.", "docker.io")))
# Folders of the machine that somebody works on; what a reader's machine has too (/usr, /tmp, /proc) is fine.
MACHINE_PATHS = tuple("/" + name + "/" for name in ("wo" + "rk", "fa" + "rm", "ro" + "ot")) + (
    "/tmp/" + "build-", "." + "library/")


def suffix_of(path):
    name = path.rsplit("/", 1)[-1]
    return "." + name.rsplit(".", 1)[-1] if "." in name else ""


def includes_of(text):
    """(line number, header) of every #include."""
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if match:
            yield number, match[1]


def include_direction(texts):
    found = []
    for path, text in texts.items():
        layer = path.split("/", 1)[0]
        if suffix_of(path) not in CPP or layer not in LAYERS:
            continue
        for number, header in includes_of(text):
            if header.startswith(LAYER_NAMES) and not LAYERS[layer](header):
                found.append(f"{path}:{number}: {layer}/ must not include {header}")
            if header.startswith("../"):
                found.append(f"{path}:{number}: include from the root of the tree, not {header}")
    return found


def sole_owner_headers(texts):
    found = []
    for library, pattern in SOLE_OWNER_HEADERS.items():
        owners = sorted({path for path, text in texts.items()
                         if suffix_of(path) in CPP and not path.startswith(("tests/", "bench/", "examples/"))
                         for _, header in includes_of(text) if re.fullmatch(pattern, header)})
        if len(owners) > 1:
            found.append(f"{library} is included by more than one file: {', '.join(owners)}")
    return found


def file_length(texts):
    found = []
    for path, text in texts.items():
        lines = text.count("\n")
        if lines > MAX_LINES and suffix_of(path) != ".json":  # schemas and samples are data
            found.append(f"{path}:{MAX_LINES}: {lines} lines, more than {MAX_LINES}: split it by idea")
    return found


def vague_names(texts):
    found = []
    for path, text in texts.items():
        for component in path.split("/"):
            if re.search(rf"(^|[_.-])({VAGUE})([_.-]|$)", component, re.I):
                found.append(f"{path}:1: '{component}' says nothing: name the concept")
        if suffix_of(path) not in CPP:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r"\s*(?:namespace|class|struct|enum class|enum)\s+(\w+)", line)
            if match and re.search(rf"(^|[a-z_])({VAGUE})s?($|[A-Z_])", match[1], re.I):
                words = re.findall(r"[A-Z]?[a-z]+", match[1])
                if any(re.fullmatch(VAGUE, word, re.I) for word in words):
                    found.append(f"{path}:{number}: '{match[1]}' says nothing: name the concept")
    return found


def pragma_once(texts):
    """Headers that are installed have a guard by name: two copies of one are one header."""
    return [f"{path}:1: a header without #pragma once" for path, text in texts.items()
            if suffix_of(path) == ".h" and not re.search(r"^#pragma once$", text, re.M)
            and not ("/include/" in path and re.search(r"^#ifndef (\w+)\n#define \1$", text, re.M))]


def opening_comment(texts):
    found = []
    for path, text in texts.items():
        lines = [line for line in text.splitlines() if not line.startswith("#!")]
        first = lines[0] if lines else ""
        opens = COMMENT_OPENS.get(suffix_of(path))
        if opens and text.strip() and not first.startswith(opens):
            found.append(f"{path}:1: a file opens with a comment: what it is, why so, what it must not do")
    return found


def unfinished_markers(texts):
    pattern = re.compile(r"\b(" + "|".join(MARKERS) + r")\b")
    return [f"{path}:{number}: '{match[0]}': finish it, or say it in a sentence in the documents"
            for path, text in texts.items() for number, line in enumerate(text.splitlines(), 1)
            if (match := pattern.search(line))]


def registry_hosts(texts):
    return [f"{path}:{number}: names the registry {host}: the user's own configuration decides that"
            for path, text in texts.items() for number, line in enumerate(text.splitlines(), 1)
            for host in REGISTRY_HOSTS if host in line]


def machine_paths(texts):
    pattern = re.compile(r"(?<![\w.}\)*-])(" + "|".join(re.escape(path) for path in MACHINE_PATHS) + ")")
    return [f"{path}:{number}: {match[0]}... is a folder of one machine"
            for path, text in texts.items() for number, line in enumerate(text.splitlines(), 1)
            if (match := pattern.search(line))]


def whitespace(texts):
    found = []
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip():
                found.append(f"{path}:{number}: space at the end of the line")
            if "\t" in line and suffix_of(path) in (*CPP, ".py", ".build"):
                found.append(f"{path}:{number}: a tab")
        if text and not text.endswith("\n"):
            found.append(f"{path}: no newline at the end of the file")
    return found


def line_width(texts):
    return [f"{path}:{number}: {len(line)} columns, more than 120"
            for path, text in texts.items() if suffix_of(path) in (*CPP, ".c", ".py", ".build", ".sh")
            for number, line in enumerate(text.splitlines(), 1) if len(line) > 120]


def meson_knows_every_source(texts):
    """A source file or test that no meson.build names would rot unseen. Tests compile their samples themselves."""
    named = defaultdict(str)
    for path, text in texts.items():
        if path.endswith("meson.build"):
            named[path.split("/", 1)[0]] += text
    everywhere = "".join(named.values())
    found = []
    for path in texts:
        if not path.endswith(".cc") or path.startswith(("examples/", "bench/")):
            continue
        stem = path.rsplit("/", 1)[-1][:-len(".cc")]
        if path.startswith("tests/") and not stem.endswith(("_test", "_fuzz")):
            continue
        short = re.sub(r"^cmd_|_test$|_fuzz$", "", stem)
        known = named[path.split("/", 1)[0]]
        if not (f"{stem}.cc'" in known or f"{path}'" in everywhere or re.search(rf"['/]{re.escape(short)}'", known)):
            found.append(f"{path}:1: no meson.build names it: it is not built")
    return found


ALL = (include_direction, sole_owner_headers, file_length, vague_names, pragma_once, opening_comment,
       unfinished_markers, registry_hosts, machine_paths, whitespace, line_width, meson_knows_every_source)
