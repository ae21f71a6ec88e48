// The data of a page: base64 and gzip to typed arrays. The other end of tools/page_data.cc; the two are one format.
//
// Must not: compute anything that a view shows.

export interface Rounded { bytes: number; blocks: number; bytes_95?: [number, number]; blocks_95?: [number, number]; samples?: number }

export interface Head {
  title: string;
  metric: string;
  metrics: string[];
  run: {
    mode: string; sample_bytes: number; pid: number; duration_ns: number; complete: boolean; bypassed: boolean;
    executable: string; guards_given_up: boolean; foreign_frees: number;
    events: Record<string, { observed: number; recorded: number; dropped: number; skipped: number }>;
    unwinding: { stacks: number; truncated: number; frame_pointer_guesses: number; wrong: number } | null;
  };
  totals: Record<string, any>;
  command: string;
  ending: string;
  losses: string;
  unwinding: string | null;
  problems: string[];
  nodes: { all: number; joined: number };
  slices: { bounds_ns: number[]; peak: number };
  first_ns: number;
  last_ns: number;
  marks: [number, string][];
  memory: [number, number][];
  threads: [number, number, string][];
  sizes: [number, number][];
  rows: number;
  columns: [string, number][];
}

// What stacks, threads or sizes did, slice by slice: cells first[row] to first[row + 1] - 1 belong to a row.
export interface Rows {
  count: number;
  first: Uint32Array;
  slice: Uint16Array;
  blocks: Float64Array;
  releasedBlocks: Float64Array;
  bytes: Float64Array;
  releasedBytes: Float64Array;
  temporaryBytes: Float64Array | null;  // null when sampled
  temporaryBlocks: Float64Array | null;
  size: Float64Array | null;  // sampled only: bytes of each block
}

export interface Functions { name: string[]; module: string[]; known: Uint8Array; mine: Uint8Array }

// Nodes in preorder, 0 is the root; function 0 stands for joined nodes.
export interface RawTree { parent: Uint32Array; fn: Uint32Array; joined: Uint32Array }

export interface Profile {
  head: Head;
  sampled: boolean;
  functions: Functions;
  sites: { fn: Uint32Array; file: string[]; line: Uint32Array };
  tree: RawTree;
  stackNode: Uint32Array;
  stackSite: Uint32Array;
  stacks: Rows;
  threads: Rows;
  sizes: Rows | null;
  points: { live: Float64Array; highest: Float64Array; allocated: Float64Array; released: Float64Array };
}

export async function inflate(base64: string): Promise<Uint8Array> {
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function varints(bytes: Uint8Array): Float64Array {
  let count = 0;
  for (let i = 0; i < bytes.length; i++) if (bytes[i]! < 0x80) count++;
  const values = new Float64Array(count);
  for (let i = 0, at = 0; i < count; i++) {
    let byte = bytes[at++]!;
    let value = byte & 0x7f;
    // Multiplied, not shifted: beyond 32 bits a shift would wrap.
    for (let scale = 128; byte >= 0x80; scale *= 128) {
      byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
    }
    values[i] = value;
  }
  return values;
}

export function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

function textsOf(lengths: Float64Array, bytes: Uint8Array): string[] {
  const decoder = new TextDecoder();
  const whole = decoder.decode(bytes);
  const texts = new Array<string>(lengths.length);
  const ascii = whole.length === bytes.length;
  for (let i = 0, at = 0; i < lengths.length; i++) {
    const end = at + lengths[i]!;
    texts[i] = ascii ? whole.slice(at, end) : decoder.decode(bytes.subarray(at, end));
    at = end;
  }
  return texts;
}

function rowsOf(prefix: string, column: (name: string) => Float64Array, sampled: boolean): Rows {
  const counts = column(`${prefix}.cells`);
  const first = new Uint32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i++) first[i + 1] = first[i]! + counts[i]!;
  const slice = Uint16Array.from(column(`${prefix}.slice`));
  const blocks = column(`${prefix}.blocks`);
  const releasedBlocks = column(`${prefix}.releasedBlocks`);
  for (let i = 0; i < releasedBlocks.length; i++) releasedBlocks[i] = blocks[i]! + unzigzag(releasedBlocks[i]!);
  const size = sampled ? column(`${prefix}.size`) : null;
  for (let row = 0; row < counts.length; row++) {
    for (let i = first[row]!; i < first[row + 1]!; i++) {
      const before = i > first[row]!;
      if (before) slice[i] = slice[i]! + slice[i - 1]!;
      if (size) size[i] = unzigzag(size[i]!) + (before ? size[i - 1]! : 0);
    }
  }
  const rows: Rows = {
    count: counts.length, first, slice, blocks, releasedBlocks, size,
    bytes: size ? blocks.map((n, i) => n * size[i]!) : column(`${prefix}.bytes`),
    releasedBytes: size ? releasedBlocks.map((n, i) => n * size[i]!) : column(`${prefix}.releasedBytes`),
    temporaryBytes: sampled ? null : column(`${prefix}.temporaryBytes`),
    temporaryBlocks: sampled ? null : column(`${prefix}.temporaryBlocks`),
  };
  if (!size) for (let i = 0; i < blocks.length; i++) rows.releasedBytes[i] = rows.bytes[i]! + unzigzag(rows.releasedBytes[i]!);
  return rows;
}

function treeOf(column: (name: string) => Float64Array): RawTree {
  const up = column("node.up"), fns = column("node.function"), joinedCounts = column("node.joined");
  const count = up.length + 1;
  const parent = new Uint32Array(count), fn = new Uint32Array(count), joined = new Uint32Array(count);
  const path: number[] = [0];  // from the root to the node before
  for (let i = 1, j = 0; i < count; i++) {
    path.length -= up[i - 1]!;
    parent[i] = path[path.length - 1]!;
    fn[i] = fns[i - 1]!;
    if (fn[i] === 0) joined[i] = joinedCounts[j++]!;
    path.push(i);
  }
  return { parent, fn, joined };
}

export function decode(bytes: Uint8Array): Profile {
  const headLength = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const head: Head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headLength)));
  const places = new Map<string, Uint8Array>();
  let at = 4 + headLength;
  for (const [name, length] of head.columns) {
    places.set(name, bytes.subarray(at, at + length));
    at += length;
  }
  const column = (name: string) => varints(places.get(name) ?? new Uint8Array());
  const texts = textsOf(column("text.length"), places.get("text.bytes") ?? new Uint8Array());
  const flags = column("function.flags");
  const functions: Functions = {
    name: ["", ...Array.from(column("function.name"), (i) => texts[i]!)],
    module: ["", ...Array.from(column("function.module"), (i) => texts[i]!)],
    known: Uint8Array.from([1, ...Array.from(flags, (f) => f & 1)]),
    mine: Uint8Array.from([0, ...Array.from(flags, (f) => f >> 1 & 1)]),
  };
  const sampled = head.run.mode === "sampled";
  const stackNode = Uint32Array.from(column("stack.node"));
  for (let i = 1; i < stackNode.length; i++) stackNode[i] = stackNode[i]! + stackNode[i - 1]!;
  return {
    head, sampled, functions,
    sites: {
      fn: Uint32Array.from(column("site.function")),
      file: Array.from(column("site.file"), (i) => texts[i]!),
      line: Uint32Array.from(column("site.line")),
    },
    tree: treeOf(column),
    stackNode,
    stackSite: Uint32Array.from(column("stack.site")),
    stacks: rowsOf("stack", column, sampled),
    threads: rowsOf("thread", column, sampled),
    sizes: sampled ? null : rowsOf("size", column, false),
    points: {
      live: column("point.live"), highest: column("point.highest"),
      allocated: column("point.allocated"), released: column("point.released"),
    },
  };
}
