"""Finds the whole sections of a trace, also of a damaged one (docs/trace-format.md, "File" and "Recovery").

Must not: decode what is in a section, or fail because of one.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from .checksum import crc32c

FILE_MAGIC, SECTION_MAGIC = b"TIDEMARK", b"TMKS"
MAJOR_VERSION = 2
FILE_HEADER_BYTES, SECTION_HEADER_BYTES = 16, 32
INFO, MODULES, STACKS, EVENTS, THREADS, CLOCK, MEMORY, END, INDEX, LEAKS = range(1, 11)
_MAX_BYTES = 64 << 20
_MAX_BYTES_OF = {INFO: 16 << 20, END: 16 << 20, EVENTS: 4 << 20}
_NAMES = {INFO: "info", MODULES: "modules", STACKS: "stacks", THREADS: "threads", CLOCK: "clock", MEMORY: "memory",
          END: "end", INDEX: "index", LEAKS: "leaks"}
_RAW, _ZSTD = 0, 1


class TraceError(Exception):
    """Nothing can be told of this file: it is no trace, of another version, or not readable."""


def name_of(kind: int, subject: int) -> str:
    return f"events of thread {subject}" if kind == EVENTS else _NAMES.get(kind, f"type {kind}")


@dataclass(frozen=True)
class Section:
    offset: int
    type: int
    encoding: int
    stored_bytes: int
    raw_bytes: int
    sequence: int
    checksum: int
    subject: int

    @property
    def end(self) -> int:
        return self.offset + SECTION_HEADER_BYTES + self.stored_bytes

    def __str__(self) -> str:
        return f"section {self.sequence} ({name_of(self.type, self.subject)}) at byte {self.offset}"


@dataclass(frozen=True)
class Damage:
    """Bytes that are lost, from `offset` to `end`; `section` is the header they begin with, if one is readable."""
    offset: int
    end: int
    section: Section | None
    at_end: bool  # of the file

    def sentence(self, index: dict[int, tuple[int, int]]) -> str:
        """`index` may know what a header no longer tells: offset -> type and subject."""
        skipped = f"{counted(self.end - self.offset, 'byte')} skipped"
        if self.section:
            if self.at_end:
                return (f"{self.section} is cut off: {self.end - self.offset:,} of its "
                        f"{counted(self.section.end - self.section.offset, 'byte')} are there")
            return f"{self.section} is damaged: {skipped}"
        if self.offset in index:
            return f"the section ({name_of(*index[self.offset])}) at byte {self.offset} is damaged: {skipped}"
        if self.at_end:
            return (f"the last {counted(self.end - self.offset, 'byte')} of the file, from byte {self.offset} on, are "
                    f"not a whole section: skipped")
        return (f"{counted(self.end - self.offset, 'byte')} at byte {self.offset} are damaged and no longer a section: "
                f"skipped")


@dataclass
class Scan:
    """What there is: whole sections in the order of the file, the first of each number, and what is lost."""
    header_is_damaged: bool = False
    sections: list[Section] = field(default_factory=list)
    copies: list[Section] = field(default_factory=list)  # whole, but their number was there before
    damages: list[Damage] = field(default_factory=list)

    def problems(self, index: dict[int, tuple[int, int]]) -> list[str]:
        found = []
        if self.header_is_damaged:
            found.append(f"the file header (the first {FILE_HEADER_BYTES} bytes) is damaged: format version "
                         f"{MAJOR_VERSION} is assumed")
        found += [f"{copy} has the number of another section: skipped"
                  for copy in sorted(self.copies, key=lambda section: section.sequence)]
        found += [damage.sentence(index) for damage in self.damages]
        known = {section.sequence for section in self.sections}
        known |= {damage.section.sequence for damage in self.damages if damage.section}
        if missing := _describe_missing(known):
            found.append(missing)
        return found

    @property
    def whole_bytes(self) -> int:
        """Where the last whole section ends."""
        return self.sections[-1].end if self.sections else FILE_HEADER_BYTES


def counted(number: int, singular: str) -> str:
    return f"{number:,} {singular}{'' if number == 1 else 's'}"


def _header_at(data: bytes, offset: int) -> Section | None:
    """The section header at `offset`, if one is there: magic, checksum and sizes are right."""
    if len(data) - offset < SECTION_HEADER_BYTES or data[offset:offset + 4] != SECTION_MAGIC:
        return None
    kind, encoding, stored, raw, sequence, checksum, subject, own = struct.unpack_from("<2H6I", data, offset + 4)
    limit = _MAX_BYTES_OF.get(kind, _MAX_BYTES)
    if stored > limit or raw > limit or (encoding == _RAW and stored != raw):
        return None
    if crc32c(data[offset:offset + 28]) != own:
        return None
    return Section(offset, kind, encoding, stored, raw, sequence, checksum, subject)


def _payload_is_whole(data: bytes, section: Section) -> bool:
    payload = memoryview(data)[section.offset + SECTION_HEADER_BYTES:section.end]
    return len(payload) == section.stored_bytes and crc32c(payload) == section.checksum


def _next_header(data: bytes, offset: int) -> Section | None:
    while (offset := data.find(SECTION_MAGIC, offset)) >= 0:
        if section := _header_at(data, offset):
            return section
        offset += 1
    return None


def _header_is_damaged(data: bytes) -> bool:
    """A damaged file header is forgiven when a section follows it."""
    if not data:
        raise TraceError("the file is empty: the recording ended before it began")
    header = data[:FILE_HEADER_BYTES]
    if len(header) == FILE_HEADER_BYTES:
        magic, major, minor, checksum = struct.unpack("<8s2HI", header)
        if magic == FILE_MAGIC and crc32c(header[:12]) == checksum:
            if major != MAJOR_VERSION:
                raise TraceError(f"this trace has format version {major}.{minor}, and this reader knows "
                                 f"{MAJOR_VERSION}.x: read it with the tidemark that wrote it")
            return False
        if _header_at(data, FILE_HEADER_BYTES):
            return True
    if data.startswith(FILE_MAGIC[:len(header)]):
        raise TraceError("the file header of the trace is damaged or cut off, and no section follows it")
    raise TraceError("this is not a tidemark trace")


def scan(data: bytes) -> Scan:
    """Walks over the file. The bytes of payloads that other headers claim are checksummed once more at most."""
    found = Scan(_header_is_damaged(data))
    budget = 2 * len(data) + (1 << 20)  # of bytes to be checksummed: hostile headers would make this quadratic
    offset = lost_from = FILE_HEADER_BYTES
    lost: Section | None = None  # the header that begins the lost range
    seen: set[int] = set()

    def lose_until(end: int, at_end: bool = False) -> None:
        if end > lost_from:
            found.damages.append(Damage(lost_from, end, lost, at_end))

    while offset < len(data) and budget >= 0:
        section = _header_at(data, offset) or _next_header(data, offset)
        if section is None:
            break
        lose_until(section.offset)
        offset = lost_from = section.offset
        lost = None
        if section.end > len(data):
            lost = section
            offset += SECTION_HEADER_BYTES
            continue
        budget -= section.stored_bytes
        if _payload_is_whole(data, section):
            (found.copies if section.sequence in seen else found.sections).append(section)
            seen.add(section.sequence)
            offset = lost_from = section.end
            continue
        lost = section
        if section.end == len(data) or _header_at(data, section.end):
            lose_until(section.end)
            offset = lost_from = section.end
            lost = None
        else:
            offset = section.offset + SECTION_HEADER_BYTES
    if lost_from < len(data):
        lose_until(len(data), at_end=lost is None or lost.end > len(data))
    return found


def _describe_missing(known: set[int]) -> str:
    ranges = []
    missing = expected = 0
    for sequence in sorted(known):
        if sequence > expected:
            missing += sequence - expected
            ranges.append(str(expected) if sequence == expected + 1 else f"{expected} to {sequence - 1}")
        expected = sequence + 1
    if not missing:
        return ""
    numbers = ", ".join(ranges[:8]) + (" and others" if len(ranges) > 8 else "")
    return f"{counted(missing, 'section')} {'is missing: number' if missing == 1 else 'are missing: numbers'} {numbers}"


def _zstd_decoder() -> tuple[Callable[[bytes, int], bytes], type[Exception]]:
    """Python 3.14 has zstd of its own; before, the package `zstandard` does it. Neither may decode more than `size`."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        import zstandard

        decoder = zstandard.ZstdDecompressor()

        def decode(data: bytes, size: int) -> bytes:
            if zstandard.frame_content_size(data) not in (-1, size):
                return b""
            return decoder.decompress(data, max_output_size=max(size, 1), allow_extra_data=False)

        return decode, zstandard.ZstdError

    def decode_by_python(data: bytes, size: int) -> bytes:
        stream = zstd.ZstdDecompressor()
        raw = bytes(stream.decompress(data, max_length=size + 1))
        return raw if stream.eof and not stream.unused_data else b""

    return decode_by_python, zstd.ZstdError


_decode_zstd, _ZstdError = _zstd_decoder()


def payload_of(data: bytes, section: Section) -> bytes | None:
    """The decoded payload, or None when it does not decode to what the header says."""
    stored = data[section.offset + SECTION_HEADER_BYTES:section.end]
    if section.encoding == _RAW:
        return stored
    if section.encoding != _ZSTD:
        return None
    try:
        raw = _decode_zstd(stored, section.raw_bytes)
    except _ZstdError:
        return None
    return raw if len(raw) == section.raw_bytes else None
