"""The golden traces, event by event against the dumps that come with them; and every prefix of them.

The lines of a dump are described in docs/trace-format.md, "Golden traces". Must not: need the built tool.
"""
import json

import pytest
from conftest import GOLDEN, SOAK

from tidemark_analysis import Trace, TraceError, sections
from tidemark_analysis.events import GUARD_REPORT
from tidemark_analysis.reader import TraceFile


def dump(file: TraceFile) -> str:
    def document(value) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    lines = [f"info {document(file.info)}"]
    lines += [f'module {m.start:x} {m.end:x} {m.load_bias:x} {m.first_tsc} "{m.build_id.hex()}" "{m.path.hex()}"'
              for m in file.modules]
    lines += [f'thread {t.serial} {t.tid} {t.first_tsc} "{t.name.hex()}"' for t in file.threads]
    nodes = file.nodes
    lines += [f"node {i} {nodes.parent[i]} {int(nodes.ip[i]):x} {nodes.flags[i]}" for i in range(len(nodes))]
    lines += ["memory " + " ".join(map(str, row)) for row in file.memory.tolist()]
    for check in file.leak_checks:
        h, r = check.header, check.rows
        lines.append(f"leak_check {check.number} {int(check.whole)} " + " ".join(str(h[name]) for name in (
            "trigger", "method", "outcome", "flags", "tsc", "pause_us", "scan_us", "threads", "threads_not_stopped",
            "root_bytes", "live_blocks", "live_bytes")))
        lines += [f"leak {r.leak_class[i]} {r.root[i]} {r.node[i]} {r.blocks[i]} {r.bytes[i]} {int(r.address[i]):x} "
                  f"{int(r.leader[i]):x} {r.flags[i]}" for i in range(len(r.node))]
    e = file.events
    for i, time_ns in enumerate(file.clock.times_ns(e.tsc).tolist()):
        text = e.marks.get(i, b"").hex()
        line = (f"event {file.event_threads[i]} {time_ns} {e.kind[i]} {e.api[i]} {e.node[i]} {e.tsc[i]} "
                f"{int(e.address[i]):x} {int(e.old_address[i]):x} {e.size[i]} {e.elapsed[i]} {e.counts.get(i, 0)} "
                f'{e.gap_kinds.get(i, 0)} "{text}"')
        if e.kind[i] == GUARD_REPORT:
            g = e.guards[i]
            line += (f" guard {g.error} {g.access} {g.offset} {g.allocated_node} {g.allocated_thread} "
                     f"{g.released_node} {g.released_thread}")
        lines.append(line)
    lines.append(f"end {document(file.end)}")
    lines += [f"problem {problem}" for problem in file.problems]
    return "\n".join(lines) + "\n"


def test_there_are_golden_traces():
    assert len(GOLDEN) >= 7


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_says_what_the_dump_says(path):
    assert dump(TraceFile.open(path)) == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_prefix_is_a_trace_or_the_documented_error(path):
    data = path.read_bytes()
    refused = most = events = 0
    whole = None
    # The small form cuts near the borders of sections and here and there between; the long one at every byte.
    borders = [at + off for at in _section_offsets(data) for off in (-1, 0, 1, 16, 31, 32, 33)]
    cuts = range(len(data)) if SOAK or len(data) < 1200 else sorted({*range(60), *borders, *range(0, len(data), 97)})
    for cut in cuts:
        if not 0 <= cut < len(data):
            continue
        try:
            file = TraceFile(data[:cut])
        except TraceError:
            refused += 1
            continue
        assert file.problems or file.end is not None  # nothing but the INDEX is missing
        if whole != (found := sections.scan(data[:cut]).sections):  # else it is the trace that we have just read
            whole, events = found, len(file.events)
        assert events >= most, "a longer prefix holds fewer events"
        most = events
    assert refused >= 48  # the file header, the first section's header and a byte of it


def _section_offsets(data: bytes) -> list[int]:
    found = []
    at = data.find(b"TMKS")
    while at >= 0:
        found.append(at)
        at = data.find(b"TMKS", at + 1)
    return [*found, len(data)]


def test_errors_name_the_file_and_what_to_do(tmp_path):
    with pytest.raises(TraceError, match=r"missing\.tmk: cannot be read: No such file"):
        Trace.open(tmp_path / "missing.tmk")
    for name, data, sentence in (("empty", b"", "the file is empty"),
                                 ("other", b"\x7fELF" + bytes(60), "not a tidemark"),
                                 ("cut", b"TIDEMARK\2\0", "damaged or cut off")):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(TraceError, match=rf"{name}: .*{sentence}"):
            Trace.open(path)
    newer = bytearray(GOLDEN[0].read_bytes()[:16])
    newer[8] = 3
    from tidemark_analysis.checksum import crc32c
    newer[12:16] = crc32c(bytes(newer[:12])).to_bytes(4, "little")
    with pytest.raises(TraceError, match=r"format version 3\.\d+, and this reader knows 2\.x"):
        TraceFile(bytes(newer))
