"""Compares the symbolizer with llvm-symbolizer, frame by frame, on random text addresses of one ELF file.

compare.py LOOKUP FILE [--addresses N] [--minimum PERCENT] [--show N]. Addresses are drawn with a fixed seed. Deliberate
differences are not counted: clone suffixes of names, a plain name where ours has its scope or parameters, names the
other left mangled, assembler labels it takes for functions, and its guess of a file where neither knows a line.
Exit status: 0 agreement of at least --minimum, 1 less, 77 no llvm-symbolizer (a skip). Must not: change any file.
"""
import argparse
import collections
import json
import random
import re
import shutil
import subprocess
import sys


def text_section(path):
    listing = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\] \.text\s+PROGBITS\s+([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", listing)
    return int(match[1], 16), int(match[2], 16)


def ours(lookup, path, addresses):
    text = subprocess.run([lookup, path], input="\n".join(map(hex, addresses)), capture_output=True, text=True,
                          check=True)
    sys.stderr.write(text.stderr)
    result = {}
    for line in text.stdout.splitlines():
        if line.startswith("0x"):
            frames = result.setdefault(int(line, 16), [])
        else:
            function, file, number, _ = line[1:].split("\t")
            frames.append((function, file, int(number)))
    return result


def theirs(tool, path, addresses):
    command = [tool, "--output-style=JSON", "--functions=linkage", "--demangle", "--inlines", f"--obj={path}"]
    text = subprocess.run(command, input="\n".join(map(hex, addresses)), capture_output=True, text=True, check=True)
    result = {}
    for line in text.stdout.splitlines():
        answer = json.loads(line)
        result[int(answer["Address"], 16)] = [
            (frame["FunctionName"], frame["FileName"], frame["Line"]) for frame in answer.get("Symbol", [])
            if frame["FunctionName"] or frame["FileName"]]
    return result


def same_name(mine, other):
    # Demanglers differ in white space and in how they abbreviate std::string.
    def tidy(name):
        name = re.sub(r" \[clone [^]]*\]| \(\.[\w.]+\)|\.(cold|part|isra|constprop)[\w.]*$", "", name)
        name = re.sub(r"\[abi:\w+\]", "", name)
        name = re.sub(r"::h[0-9a-f]{16}$", "", name)
        name = re.sub(r"'lambda\d*'|\{lambda\([^{}]*\)#\d+\}|<lambda\([^<>]*\)>", "LAMBDA", name)
        name = name.replace("std::basic_string<char, std::char_traits<char>, std::allocator<char>>", "std::string")
        return re.sub(r"\s+", "", name)
    if other == "" and mine or other.startswith(("label_", "_Z")) or "$" in other:
        return True  # no DWARF of a dwz file; a label for a function; not demangled
    mine, other = tidy(mine), tidy(other)
    if mine == other or mine.endswith("::" + other):
        return True
    if "(" in other and "LAMBDA" not in mine + other:
        return False
    return re.search(r"(^|::|\s)" + re.escape(other) + r"(\(|<|$)", mine) is not None or "LAMBDA" in mine + other


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lookup")
    parser.add_argument("file")
    parser.add_argument("--addresses", type=int, default=2000)
    parser.add_argument("--minimum", type=float, default=99.0)
    parser.add_argument("--show", type=int, default=0)
    arguments = parser.parse_args()
    names = [f"llvm-symbolizer-{version}" for version in range(22, 13, -1)] + ["llvm-symbolizer"]
    tool = next(filter(None, map(shutil.which, names)), None)
    if tool is None:
        print("skipped: llvm-symbolizer is not installed (apt-get install llvm)")
        return 77
    start, length = text_section(arguments.file)
    chooser = random.Random(20240229)
    addresses = sorted({start + chooser.randrange(length) for _ in range(arguments.addresses)})
    mine, other = ours(arguments.lookup, arguments.file, addresses), theirs(tool, arguments.file, addresses)
    counts = collections.Counter()
    shown = 0
    for address in addresses:
        a, b = mine.get(address, []), other.get(address, [])
        problem = None
        if len(a) != len(b):
            problem = "depth"
        else:
            for (name_a, file_a, line_a), (name_b, file_b, line_b) in zip(a, b):
                if not same_name(name_a, name_b):
                    problem = "name"
                elif line_a != line_b or line_a and file_a != file_b:
                    problem = "line"
                if problem:
                    break
        counts[problem or "same"] += 1
        if problem and shown < arguments.show:
            shown += 1
            print(f"{address:#x} {problem}\n  ours   {a}\n  theirs {b}")
    percent = 100.0 * counts["same"] / len(addresses)
    print(f"{len(addresses)} addresses: {percent:.2f} % the same, {dict(counts)}")
    return 0 if percent >= arguments.minimum else 1


if __name__ == "__main__":
    sys.exit(main())
