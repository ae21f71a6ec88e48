"""Plots as SVG, written by hand: lines for series, bars for ratios. No library, so that a report needs nothing.

Must not: compute what is plotted.
"""
import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import ratios

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 80, 170, 40, 50
COLOURS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#ad5a4a", "#787774", "#cb912f")
Line = list[list[float]]


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def document(width: int, height: int, title: str, body: list[str]) -> str:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" fill="#222">')
    return "\n".join([head, f"<title>{escape(title)}</title>",
                      f'<rect width="{width}" height="{height}" fill="#fff"/>',
                      text(width / 2, 20, title, "middle", 14), *body, "</svg>"]) + "\n"


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... ."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * 1.000001)


def short_number(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def line_plot(title: str, x_name: str, y_name: str, lines: dict[str, Line]) -> str:
    """x is logarithmic (all our x are sizes), y begins at 0: flat has to look flat."""
    points = [point for line in lines.values() for point in line]
    xs = sorted({point[0] for point in points})
    top = nice_ceiling(max((point[1] for point in points), default=1))
    low, high = math.log10(xs[0]), math.log10(xs[-1])
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / (high - low) if high > low else 0.5
        return LEFT + share * inner_width, TOP + (1 - max(0.0, y) / top) * inner_height

    body = []
    for step in range(5):
        y = top * step / 4
        _, at = place(xs[0], y)
        body.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        body.append(text(LEFT - 6, at + 4, short_number(y), "end", 11))
    for x in xs:
        body.append(text(place(x, 0)[0], HEIGHT - BOTTOM + 18, short_number(x), "middle", 11))
    body.append(text(LEFT + inner_width / 2, HEIGHT - 10, x_name, "middle"))
    body.append(text(8, TOP - 8, y_name))
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        where = [place(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in where]
        at = TOP + 14 + 18 * number
        body.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{at - 9}" width="10" height="10" fill="{colour}"/>')
        body.append(text(WIDTH - RIGHT + 30, at, name))
    return document(WIDTH, HEIGHT, title, body)


def bar_plot(title: str, groups: dict[str, dict[str, ratios.Spread]], names: list[str]) -> str:
    """Ratios to glibc, one bar per peer in each group; logarithmic, with 1 as the line to compare with."""
    bar, gap = 11, 14
    height = TOP + BOTTOM + sum(len(bars) * bar + gap for bars in groups.values())
    largest = max((spread.high for bars in groups.values() for spread in bars.values()), default=1)
    smallest = min((spread.low for bars in groups.values() for spread in bars.values()), default=1)
    low, high = math.log10(min(0.5, smallest)), math.log10(max(2.0, largest))
    left, width = 140, WIDTH - 140 - RIGHT

    def place(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * width

    body, y = [], float(TOP)
    for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if low <= math.log10(tick) <= high:
            colour = "#444" if tick == 1 else "#ddd"
            body.append(f'<line x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{TOP}" y2="{height - BOTTOM}" '
                        f'stroke="{colour}"/>')
            body.append(text(place(tick), height - BOTTOM + 16, f"{tick:g}", "middle", 11))
    for group, bars in groups.items():
        body.append(text(left - 8, y + len(bars) * bar / 2 + 4, group, "end"))
        for name, spread in bars.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            start, end = sorted((place(1), place(spread.median)))
            body.append(f'<rect x="{start:.1f}" y="{y:.1f}" width="{max(1.0, end - start):.1f}" height="{bar - 2}" '
                        f'fill="{colour}"><title>{escape(f"{group}, {name}: {spread.text()}")}</title></rect>')
            body.append(f'<line x1="{place(spread.low):.1f}" x2="{place(spread.high):.1f}" y1="{y + bar / 2 - 1:.1f}" '
                        f'y2="{y + bar / 2 - 1:.1f}" stroke="#000" stroke-width="1"/>')
            y += bar
        y += gap
    for number, name in enumerate(names):
        at = TOP + 14 + 18 * number
        body.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{at - 9}" width="10" height="10" '
                    f'fill="{COLOURS[number % len(COLOURS)]}"/>')
        body.append(text(WIDTH - RIGHT + 30, at, name))
    return document(WIDTH, max(int(height), TOP + 20 + 18 * len(names)), title, body)


BARS = {"cpu-sampled": ("CPU of all processes over glibc: allocators and sampling",
                        ["mimalloc", "jemalloc", "jemalloc-prof", "gperftools-sampled", "tidemark-sampled"]),
        "cpu-complete": ("CPU of all processes over glibc: complete recording",
                         ["tidemark-full", "heaptrack-record", "heaptrack"])}


def write_all(report: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Writes every plot. Returns [(file name, title)]."""
    drawn = []
    for name, (title, peers) in BARS.items():
        groups: dict[str, dict[str, ratios.Spread]] = {}
        for workload, measured in report["workloads"].items():
            base = measured["peers"].get("glibc", {}).get("runs", [])
            bars = {peer: ratios.ratio(measured["peers"][peer]["runs"], base, "cpu")
                    for peer in peers if peer in measured["peers"]}
            kept = {peer: spread for peer, spread in bars.items() if spread is not None and spread.low > 0}
            if kept:
                groups[workload] = kept
        if groups:
            (folder / f"{name}.svg").write_text(bar_plot(title, groups, peers), encoding="utf-8")
            drawn.append((f"{name}.svg", title))
    for series in report["series"]:
        if series["lines"]:
            plot = line_plot(series["title"], series["x"], series["y"], series["lines"])
            (folder / f"{series['name']}.svg").write_text(plot, encoding="utf-8")
            drawn.append((f"{series['name']}.svg", series["title"]))
    return drawn
