"""The trend: this report against the last one of the same kind that is kept.

Only reports of the same machine and size are compared: other numbers would be another machine's. Must not: write.
"""
import json
from pathlib import Path
from typing import Any

import compare


def last_report(folder: Path, report: dict[str, Any]) -> dict[str, Any] | None:
    """The youngest kept report that can be compared with this one and shares a workload or part with it."""
    for path in sorted(folder.glob("*/report.json"), reverse=True):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # one that was cut short is no reason to lose the new one
        if found.get("schema") == report["schema"] and found["quick"] == report["quick"] \
                and found["machine"]["cpu"] == report["machine"]["cpu"] and found["date"] < report["date"] \
                and (set(found["workloads"]) & set(report["workloads"]) or not report["workloads"]):
            return found
    return None


def against(earlier: dict[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    if earlier is None:
        return {"since": None, "changes": []}
    changes = [change.as_json() for change in compare.changes(earlier, report)]
    return {"since": earlier["date"], "revision": earlier["revision"], "changes": changes}
