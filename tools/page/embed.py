"""Turns the built page into C++ source: what comes before its data, and what comes after, as two string views.

Run by meson. Must not: change the page.
"""
import sys

MARK = "@DATA@"
PIECE = 8000  # compilers limit a literal, not their concatenation


def literal(text):
    pieces = [text[at:at + PIECE] for at in range(0, len(text), PIECE)]
    return "\n".join(f'R"page({piece})page"' for piece in pieces)


def main(page, out):
    with open(page, encoding="utf-8") as file:
        head, tail = file.read().split(MARK)
    with open(out, "w", encoding="utf-8") as file:
        file.write("// Made of tools/page/built/page.html by tools/page/embed.py.\n#include <string_view>\n\n"
                   "namespace tidemark {\n\n"
                   "extern const std::string_view kFlamegraphPageHead, kFlamegraphPageTail;\n"
                   f"const std::string_view kFlamegraphPageHead = {literal(head)};\n"
                   f"const std::string_view kFlamegraphPageTail = {literal(tail)};\n\n"
                   "}  // namespace tidemark\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
