// A profile made of what a test says, as if it had been decoded. Must not: be more than the tests need.
import { Profile, Rows } from "../src/decode.js";

export interface Cell { slice: number; blocks: number; bytes: number; released?: number; releasedBytes?: number; temporary?: number; size?: number }

export function rowsOf(lists: Cell[][], sampled = false): Rows {
  const cells = lists.flat(), first = new Uint32Array(lists.length + 1);
  lists.forEach((list, i) => { first[i + 1] = first[i]! + list.length; });
  const column = (pick: (cell: Cell) => number) => Float64Array.from(cells, pick);
  return {
    count: lists.length, first, slice: Uint16Array.from(cells, (cell) => cell.slice),
    blocks: column((c) => c.blocks), bytes: column((c) => c.bytes), releasedBlocks: column((c) => c.released ?? 0),
    releasedBytes: column((c) => c.releasedBytes ?? (c.released ?? 0) * (c.bytes / (c.blocks || 1))),
    temporaryBlocks: sampled ? null : column((c) => c.temporary ?? 0), temporaryBytes: sampled ? null : column(() => 0),
    size: sampled ? column((c) => c.size ?? 0) : null,
  };
}

// `tree`: [parent, function] of every node but the root, in preorder. Functions are a, b, c, ... of module "m", the last
// of them in "lib". Stacks: [node, cells].
export function profileOf(tree: [number, number][], stacks: [number, Cell[]][], slices = 4, sampled = false): Profile {
  const functions = Math.max(...tree.map(([, fn]) => fn));
  const names = Array.from({ length: functions + 1 }, (_, fn) => (fn === 0 ? "" : String.fromCharCode(96 + fn)));
  const rows = rowsOf(stacks.map(([, cells]) => cells), sampled);
  return {
    head: {
      title: "", metric: "allocated", metrics: ["allocated", "live", "peak", "count"], command: "x", ending: "",
      run: { mode: sampled ? "sampled" : "full", sample_bytes: sampled ? 1000 : 0 } as Profile["head"]["run"],
      totals: {}, losses: "", unwinding: null, problems: [], nodes: { all: tree.length, joined: 0 },
      slices: { bounds_ns: Array.from({ length: slices + 1 }, (_, i) => i * 1000), peak: 2 }, first_ns: 0,
      last_ns: slices * 1000, marks: [], memory: [], threads: [[1, 1, "t"]], sizes: Array.from({ length: 65 }, (_, i) => [2 ** i, 2 ** i]),
      rows: stacks.length, columns: [],
    },
    sampled,
    functions: {
      name: names, module: names.map((name, fn) => (name === "" ? "" : fn === functions ? "lib" : "m")),
      known: new Uint8Array(functions + 1).fill(1), mine: Uint8Array.from(names, (_, fn) => (fn > 0 && fn < functions ? 1 : 0)),
    },
    sites: { fn: new Uint32Array([1]), file: [""], line: new Uint32Array([0]) },
    tree: { parent: Uint32Array.from([0, ...tree.map(([parent]) => parent)]), fn: Uint32Array.from([0, ...tree.map(([, fn]) => fn)]),
            joined: new Uint32Array(tree.length + 1) },
    stackNode: Uint32Array.from(stacks, ([node]) => node), stackSite: new Uint32Array(stacks.length),
    stacks: rows, threads: rowsOf([stacks.flatMap(([, cells]) => cells)], sampled), sizes: null,
    points: { live: new Float64Array(1), highest: new Float64Array(1), allocated: new Float64Array(1), released: new Float64Array(1) },
  };
}
