"""Where the frames of a trace are: module and offset of every stack node, and an identity that other hosts share.

Addresses differ from run to run. A frame is the same on all hosts when build-id and offset in the module are, so a
stack has an id made of those alone, from the root to the leaf: profiles of many processes add up by it.

Must not: read symbols; `tidemark export --format json` has names by node.
"""
from __future__ import annotations

from functools import cached_property
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from .columns import Numbers
from .reader import Module, StackNodes

NO_MODULE = -1
TRUNCATED, INTERRUPTED = 2, 4  # flags of a node
_MASK = (1 << 64) - 1


class StackFrames:
    """By node number."""

    def __init__(self, nodes: StackNodes, modules: list[Module]):
        self.nodes, self.modules = nodes, modules

    @cached_property
    def module(self) -> NDArray[np.int32]:
        """Number of the module, or NO_MODULE. Of those whose range holds the address and whose first node is not above
        the node, the one with the highest first node; of equal ones the last."""
        found = np.full(len(self.nodes), NO_MODULE, np.int32)
        # A return address may lie behind its module's last instruction: the call in front of it counts.
        at = self.nodes.ip - np.where(self.nodes.flags & np.uint64(INTERRUPTED), np.uint64(0), np.uint64(1))
        by_address = np.argsort(at, kind="stable")
        sorted_at = at[by_address]
        for number in sorted(range(len(self.modules)), key=lambda i: self.modules[i].first_node):
            module = self.modules[number]
            low, high = np.searchsorted(sorted_at, np.array([module.start, max(module.end, module.start)], np.uint64))
            inside = by_address[low:high]
            found[inside[inside >= module.first_node]] = number
        found[(self.nodes.ip == 0) | ~self.nodes.defined] = NO_MODULE
        return found

    @cached_property
    def offset(self) -> Numbers:
        """Address as in the ELF file, of the return address; the address itself where no module is known."""
        bias = np.array([module.load_bias for module in self.modules] + [0], np.uint64)
        return self.nodes.ip - bias[self.module]

    @cached_property
    def module_identity(self) -> list[int]:
        """What a module is called on every host: by its build-id, or by its path where it has none."""
        return [int.from_bytes(blake2b(module.build_id or b"path " + module.path, digest_size=8).digest(), "little")
                for module in self.modules]

    @cached_property
    def stack_id(self) -> Numbers:
        """A 64-bit hash of the (module identity, offset) of all frames. Frames without a module, of code made at run
        time, are all alike in it. 0 is the empty stack."""
        identities = np.array([*self.module_identity, 0], np.uint64)
        frames = _mixed(identities[self.module] ^ _mixed(np.where(self.module == NO_MODULE, np.uint64(1), self.offset)))
        frame_of, parent_of = frames.tolist(), self.nodes.parent.tolist()
        ids = [0] * len(frame_of)
        for node in range(1, len(ids)):  # a parent has a smaller number
            value = (ids[parent_of[node]] * 0x9E3779B97F4A7C15 + frame_of[node]) & _MASK
            value = ((value ^ (value >> 32)) * 0xD6E8FEB86659FD93) & _MASK
            ids[node] = (value ^ (value >> 32)) or 1
        return np.array(ids, np.uint64)

    @cached_property
    def depth(self) -> NDArray[np.uint32]:
        parents = self.nodes.parent.tolist()
        depths = [0] * len(parents)
        for node in range(1, len(depths)):
            depths[node] = depths[parents[node]] + 1
        return np.array(depths, np.uint32)

    @cached_property
    def module_names(self) -> list[str]:
        """File names of the modules, without folders."""
        return [module.path.rsplit(b"/", 1)[-1].decode("utf-8", "replace") for module in self.modules]

    def label(self, node: int) -> str:
        """A frame as `tidemark report` writes one without a symbol: the call's own address, not the return address."""
        if node == 0:
            return "[no stack]"
        if int(self.nodes.flags[node]) & TRUNCATED:
            return "[truncated]"
        call = (int(self.offset[node]) - (not int(self.nodes.flags[node]) & INTERRUPTED)) & _MASK
        module = int(self.module[node])
        return f"{self.module_names[module]}+0x{call:x}" if module != NO_MODULE else f"[unknown module+0x{call:x}]"


def _mixed(values: Numbers) -> Numbers:
    """Every bit of a number into every bit of the result (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
