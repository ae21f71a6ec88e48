"""The report as Markdown: budgets first, then each workload, then where the time goes.

Must not: judge; budgets.py did.
"""
from typing import Any

import budgets
import instructions
import ratios
from measure import Series

MIB = 1 << 20
END_OF_BEGINNING = "## Scenarios"


def short(series: dict[str, Series]) -> str:
    """One line for the terminal: CPU over glibc of each peer."""
    runs = {name: one.as_json()["runs"] for name, one in series.items()}
    told = []
    for name in runs:
        found = ratios.ratio(runs[name], runs["glibc"], "cpu")
        if name != "glibc":
            told.append(f"{name} {found.median:.2f}" if found else f"{name} gap")
    base = ratios.spread(ratios.values(runs["glibc"], "cpu"))
    return f"{base.median:.3f} s, " + ", ".join(told) if base else "no runs"


def beginning(text: str) -> str:
    return text.split(END_OF_BEGINNING)[0].rstrip()


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in cells), ""]


def budget_section(report: dict[str, Any]) -> list[str]:
    """One row per budget, with the workload that is furthest from it."""
    rows = []
    for (budget, _), verdicts in grouped(report["budgets"]).items():
        known = [v for v in verdicts if v.verdict != budgets.UNKNOWN]
        if not known:
            rows.append([budget, verdicts[0].limit, "", budgets.UNKNOWN, verdicts[0].note])
            continue
        worst = budgets.worst(known)
        missed = [v for v in known if v.verdict == budgets.MISSED]
        verdict = budgets.MET if not missed else "**missed**"
        if len(known) > 1:
            verdict += f", {len(known)} of {len(known)}" if not missed else f" by {len(missed)} of {len(known)}"
        others = ", ".join(f"{v.scope} {v.measured.split(' (')[0]}" for v in missed if v is not worst)
        note = "; ".join(filter(None, [f"also {others}" if others else "", worst.note]))
        rows.append([budget, worst.limit, f"{worst.measured} ({worst.scope})" if worst.scope else worst.measured,
                     verdict, note])
    return ["## Budgets", "", *table(["budget", "limit", "measured, at worst", "verdict", "note"], rows)]


def grouped(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[budgets.Verdict]]:
    """By budget; one that has different limits for different workloads is two, unless the limit is made from them."""
    groups: dict[tuple[str, str], list[budgets.Verdict]] = {}
    for row in rows:
        own_limit = "MiB" in row["limit"]
        groups.setdefault((row["budget"], "" if own_limit else row["limit"]), []).append(budgets.Verdict(**row))
    return groups


def budget_details(report: dict[str, Any]) -> list[str]:
    mark = {budgets.MISSED: "**missed**"}
    rows = [[v["budget"], v["scope"], v["limit"], v["measured"], mark.get(v["verdict"], v["verdict"]), v["note"]]
            for v in report["budgets"] if v["verdict"] != budgets.UNKNOWN]
    return ["## Budgets by workload", "",
            *table(["budget", "of", "limit", "measured", "verdict", "note"], rows)] if rows else []


def scenario_section(report: dict[str, Any]) -> list[str]:
    """One line per workload: its load, its verdict, its trend."""
    rows = []
    worse = {change["scope"].split(" (")[0] for change in report["trend"]["changes"]
             if change["verdict"] == "worse" and change["peer"].startswith("tidemark")}
    better = {change["scope"].split(" (")[0] for change in report["trend"]["changes"]
              if change["verdict"] == "better" and change["peer"].startswith("tidemark")}
    for name, workload in report["workloads"].items():
        verdicts = [v["verdict"] for v in report["budgets"] if v["scope"] == name]
        missed = verdicts.count(budgets.MISSED)
        verdict = f"**{missed} of {len(verdicts)} budgets missed**" if missed else f"{len(verdicts)} budgets met" \
            if verdicts else "no budget"
        trend = "first report" if not report["trend"]["since"] else \
            " and ".join(word for word, names in (("worse", worse), ("better", better)) if name in names) or "as before"
        rows.append([name, workload["what"], workload["load"], str(workload["threads"]), verdict, trend])
    since = report["trend"]["since"]
    lines = [END_OF_BEGINNING, "", f"Trend against the report of {since}." if since else
             "There is no earlier report of this kind to compare with.", "",
             *table(["scenario", "what", "load", "threads", "verdict", "trend"], rows)]
    ours = [c for c in report["trend"]["changes"] if c["peer"] not in report["peers"] or "tidemark" in c["peer"]]
    if ours:
        lines += table(["change", "of", "peer", "metric", "before", "now"],
                       [[c["verdict"], c["scope"], c["peer"], c["metric"], c["old"], c["new"]] for c in ours])
    return lines


def cell(found: ratios.Spread | None, digits: int = 2) -> str:
    return found.text(digits) if found else ""


def peer_rows(peers: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    base = peers.get("glibc", {}).get("runs", [])
    rows, gaps = [], []
    for name, series in peers.items():
        runs = series["runs"]
        if series["gap"]:
            gaps.append(f"- {name}: {series['gap']}")
        if series["facts"].get("output_differs"):
            gaps.append(f"- {name}: the program's output was not the one it has with glibc")
        if series["facts"].get("problem"):
            gaps.append(f"- {name}: {series['facts']['problem']}")
        if series["facts"].get("problems"):
            gaps.append(f"- {name}: the trace is damaged: {series['facts']['problems'][0]}")
        if series["facts"].get("bypassed"):
            gaps.append(f"- {name}: saw nothing, the program brings its own malloc")
        if not runs:
            continue
        rows.append([name, str(len(runs)), cell(ratios.spread(ratios.values(runs, "cpu")), 3),
                     cell(ratios.ratio(runs, base, "cpu")), cell(ratios.ratio(runs, base, "user")),
                     cell(ratios.ratio(runs, base, "wall")),
                     f"{ratios.spread(ratios.values(runs, 'host_peak')).median / MIB:.1f}",
                     f"{ratios.spread(ratios.values(runs, 'tree_peak')).median / MIB:.1f}"])
    return rows, gaps


PEER_HEAD = ["peer", "n", "CPU s", "CPU / glibc", "user / glibc", "wall / glibc", "peak MiB", "all processes MiB"]


def rule_miss_cost(facts: dict[str, Any]) -> str:
    """Time for unwinding rules that had to be looked up in CFI, and its part of what the hooks took."""
    cost = facts.get("own_cost") or {}
    if "rule_misses_ns" not in cost:
        return ""
    part = cost["rule_misses_ns"] / cost["hooks_ns"] if cost.get("hooks_ns") else 0
    return f"{cost['rule_misses_ns'] / 1e6:.2f} ms" + (f", {part:.1%} of the hooks" if part else "")


def recording_rows(peers: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, series in peers.items():
        facts = series["facts"]
        if not series["runs"] or "events" not in facts:
            continue
        events = sum(facts["events"].values())
        other = ratios.spread(ratios.values(series["runs"], "other"))
        unwinding = facts.get("unwinding") or {}
        stacks = unwinding.get("stacks") or 0

        def per_stack(field: str, number: dict[str, Any] = unwinding, count: int = stacks) -> str:
            return f"{number[field] / count:.1f}" if count else ""
        pairs = budgets.pairs_of(facts)
        rows.append([name, f"{events:,}", f"{facts['dropped']:,}",
                     f"{facts['trace_bytes'] / pairs:.2f}" if pairs else "",
                     f"{other.median:.3f}", f"{other.median / events * 1e6:.3f}" if events > 10_000 else "",
                     f"{facts['stacks']:,}", per_stack("frames_walked"), per_stack("frames_reused"),
                     f"{unwinding['rule_misses']:,}" if unwinding else "", rule_miss_cost(facts)])
    return rows


def analysis_rows(peers: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, series in peers.items():
        cost = series["facts"].get("analysis")
        if cost:
            told = [cost["gap"], ""] if "gap" in cost else [f"{cost['wall_s']:.2f}", f"{cost['peak_bytes'] / MIB:.0f}"]
            rows.append([name, cost["command"], *told])
    return rows


def workload_section(name: str, workload: dict[str, Any]) -> list[str]:
    lines = [f"### {name}", "", f"{workload['what']}. Load {workload['load']}, {workload['threads']} thread(s), size "
             f"{workload['size']}.", ""]
    rows, gaps = peer_rows(workload["peers"])
    lines += table(PEER_HEAD, rows) + gaps + ([""] if gaps else [])
    if workload["small"]:
        rows, gaps = peer_rows(workload["small"])
        lines += ["Slow peers, with less work and a baseline of their own:", "", *table(PEER_HEAD, rows), *gaps]
        lines += [""] if gaps else []
    rows = recording_rows(workload["peers"])
    if rows:
        lines += table(["recording", "events", "dropped", "trace B / pair", "collector CPU s", "per million events s",
                        "stacks", "frames walked / stack", "reused / stack", "rule misses", "they took"], rows)
    rows = analysis_rows(workload["peers"])
    if rows:
        lines += table(["analysis of", "by", "s", "MiB"], rows)
    return lines


def time_section(report: dict[str, Any]) -> list[str]:
    if not report["profiles"]:
        return []
    lines = ["## Where the time goes", "", "CPU of all processes by function, of workloads that missed a budget.", ""]
    for name, profile in report["profiles"].items():
        lines += [f"### {name}: time by function", ""]
        if "gap" in profile:
            lines += [profile["gap"], ""]
            continue
        lines += [f"Mode {profile['mode']}.", "",
                  *table(["%", "process", "module", "function"],
                         [[f"{f['percent']:.1f}", f["process"], f["module"], f"`{f['function'][:110]}`"]
                          for f in profile["functions"]])]
    return lines


def series_section(report: dict[str, Any]) -> list[str]:
    lines = ["## Scale and contention", ""] if report["series"] else []
    for series in report["series"]:
        lines += [f"### {series['title']}", ""]
        if series["gap"]:
            lines += [f"Not measured: {series['gap']}", ""]
            continue
        names = list(series["lines"])
        xs = [x for x, _ in series["lines"][names[0]]]
        lines += [series["y"] + ":", "", *table([series["x"], *names], [
            [f"{x:,}", *(f"{series['lines'][name][row][1]:.2f}" for name in names)] for row, x in enumerate(xs)])]
    return lines


def stopped_section(report: dict[str, Any]) -> list[str]:
    if not report["stopped"]:
        return []
    rows = []
    for mode, found in report["stopped"].items():
        if "gap" in found:
            rows.append([mode, found["gap"], "", "", "", ""])
            continue
        program = f"{found['program_s']:.2f}" if found["program_s"] is not None else "not before the collector went on"
        rows.append([mode, f"{found['stopped_s']:.0f}", f"{found['undisturbed_s']:.2f}", program,
                     f"{found['dropped']:,} of {found['observed']:,}", "yes" if found["readable"] else "**no**"])
    return ["## A collector that is stopped", "",
            "SIGSTOP from start-up on, then SIGCONT; the program makes 20 million events.", "",
            *table(["mode", "stopped s", "program undisturbed s", "program ended after s", "dropped", "trace readable"],
                   rows)]


def render(report: dict[str, Any], drawn: list[tuple[str, str]]) -> str:
    machine = report["machine"]
    lines = ["# Benchmark of tidemark", "",
             f"{report['date']}, revision {report['revision'] or 'unknown'}, {report['rounds']} rounds at most, "
             f"{'quick' if report['quick'] else 'full'} size, {report['seconds']:.0f} s. {machine['cpu']}, "
             f"{machine['cores']} cores, {machine['kernel']}, load {machine['load_1min']:.1f} at the start.", "",
             "Ratios are taken round by round; told is the median (smallest-largest). CPU is user + system of all "
             "processes, the profiler's own included.", "", *budget_section(report)]
    gaps = [f"- {name}: {peer['gap']}" for name, peer in report["peers"].items() if peer["gap"]]
    lines += ["Peers that are missing:", "", *gaps, ""] if gaps else []
    if report["workloads"]:
        lines += scenario_section(report)
    else:
        lines += [END_OF_BEGINNING, "", "No workload ran.", ""]
    lines += budget_details(report)
    if drawn:
        lines += ["## Plots", "", *(f"![{title}]({name})" for name, title in drawn), ""]
    counts = report["instructions"].get("counts")
    if counts:
        lines += ["## Instructions", "", *instructions.table(counts), ""]
    lines += series_section(report) + stopped_section(report)
    if report["workloads"]:
        lines += ["## Workloads", ""]
        for name, workload in report["workloads"].items():
            lines += workload_section(name, workload)
    lines += time_section(report)
    return "\n".join(lines).rstrip() + "\n"
