// The call tree as it is looked at: what is hidden, focused or folded makes another tree of the same stacks, whose sums
// stay exact. Also the amounts of every node under a selection.
//
// Nodes are in preorder (children behind their parent, ordered by name), so that a subtree is a range and sums need one
// pass. Must not: draw, or know what is selected.
import { Profile } from "./decode.js";
import { Amounts, Usage, addAmount, newAmounts } from "./selection.js";

export const GONE = 0xffffffff;  // node of a stack that is not in the tree

export interface Folding {
  hidden: number[];      // functions whose frames are left out; their callers get what is theirs
  removed: number[];     // functions whose stacks are left out
  focused: number[];     // functions that every stack must go through
  recursion: boolean;    // a function that calls itself, directly or not, is one frame
  mine: boolean;         // other modules than the program's own are one frame each
}

export const NO_FOLDING: Folding = { hidden: [], removed: [], focused: [], recursion: false, mine: false };

export function isFolded(folding: Folding): boolean {
  return folding.hidden.length + folding.removed.length + folding.focused.length > 0 || folding.recursion || folding.mine;
}

export interface Tree {
  parent: Uint32Array;
  fn: Uint32Array;
  joined: Uint32Array;   // how many nodes one of function 0 stands for
  end: Uint32Array;      // the first node behind the subtree
  outer: Uint8Array;     // 1: no caller has the same function
  nodeOfStack: Uint32Array;
}

// Function names and what follows from them. Numbers beyond the profile's functions stand for whole modules.
export class FunctionNames {
  readonly name: string[];
  readonly module: string[];
  readonly known: boolean[];
  readonly mine: boolean[];
  private readonly ofModule = new Map<string, number>();
  private ranks: Uint32Array | null = null;

  constructor(profile: Profile) {
    this.name = profile.functions.name.slice();
    this.module = profile.functions.module.slice();
    this.known = Array.from(profile.functions.known, (k) => k === 1);
    this.mine = Array.from(profile.functions.mine, (m) => m === 1);
  }
  // The number that stands for all functions of the module of `fn`.
  moduleOf(fn: number): number {
    const module = this.module[fn]!;
    let id = this.ofModule.get(module);
    if (id === undefined) {
      id = this.name.length;
      this.ofModule.set(module, id);
      this.name.push(`[${module || "no module"}]`);
      this.module.push(module);
      this.known.push(true);
      this.mine.push(false);
      this.ranks = null;
    }
    return id;
  }
  // Place of every function in the order of names; joined nodes come last.
  rank(): Uint32Array {
    if (!this.ranks) {
      const order = Array.from(this.name.keys()).sort((a, b) => {
        if (a === 0 || b === 0) return a === 0 ? (b === 0 ? 0 : 1) : -1;
        return this.name[a]! < this.name[b]! ? -1 : this.name[a]! > this.name[b]! ? 1 : a - b;
      });
      this.ranks = new Uint32Array(order.length);
      order.forEach((fn, i) => { this.ranks![fn] = i; });
    }
    return this.ranks;
  }
}

function endsOf(parent: Uint32Array): Uint32Array {
  const end = new Uint32Array(parent.length);
  for (let i = parent.length - 1; i > 0; i--) {
    end[i] = Math.max(end[i]!, i + 1);
    end[parent[i]!] = Math.max(end[parent[i]!]!, end[i]!);
  }
  end[0] = parent.length;
  return end;
}

function outerOf(parent: Uint32Array, fn: Uint32Array, functions: number): Uint8Array {
  const outer = new Uint8Array(parent.length), onPath = new Uint32Array(functions), path: number[] = [0];
  for (let i = 1; i < parent.length; i++) {
    while (path[path.length - 1] !== parent[i]) {
      const f = fn[path.pop()!]!;
      onPath[f] = onPath[f]! - 1;
    }
    const f = fn[i]!;
    outer[i] = onPath[f] === 0 ? 1 : 0;
    onPath[f] = onPath[f]! + 1;
    path.push(i);
  }
  return outer;
}

function finish(parent: Uint32Array, fn: Uint32Array, joined: Uint32Array, nodeOfStack: Uint32Array,
                functions: number): Tree {
  return { parent, fn, joined, nodeOfStack, end: endsOf(parent), outer: outerOf(parent, fn, functions) };
}

export function plainTree(profile: Profile): Tree {
  const { parent, fn, joined } = profile.tree;
  return finish(parent, fn, joined, profile.stackNode, profile.functions.name.length);
}

export function foldTree(profile: Profile, names: FunctionNames, folding: Folding): Tree {
  if (!isFolded(folding)) return plainTree(profile);
  const old = profile.tree, count = old.parent.length;
  const hidden = new Set(folding.hidden), removed = new Set(folding.removed);
  const nodeOf = new Int32Array(count), gone = new Uint8Array(count);
  const focusSeen = folding.focused.map(() => new Uint8Array(count));
  const parent: number[] = [0], fn: number[] = [0], joined: number[] = [0];
  const children = new Map<number, number>();
  const width = 2 ** 26;  // more functions than a page can hold
  for (let i = 1; i < count; i++) {
    const up = old.parent[i]!, raw = old.fn[i]!;
    gone[i] = gone[up]! | (removed.has(raw) ? 1 : 0);
    folding.focused.forEach((f, k) => { focusSeen[k]![i] = focusSeen[k]![up]! | (raw === f ? 1 : 0); });
    let above = nodeOf[up]!;
    if (hidden.has(raw)) {
      nodeOf[i] = above;
      continue;
    }
    const f = folding.mine && raw !== 0 && !names.mine[raw] ? names.moduleOf(raw) : raw;
    if (folding.mine && f !== raw && fn[above] === f) {
      nodeOf[i] = above;
      continue;
    }
    if (folding.recursion && f !== 0) {
      while (above !== 0 && fn[above] !== f) above = parent[above]!;
      if (above !== 0) {
        nodeOf[i] = above;
        continue;
      }
      above = nodeOf[up]!;
    }
    const key = above * width + f;
    let node = children.get(key);
    if (node === undefined) {
      node = parent.length;
      children.set(key, node);
      parent.push(above);
      fn.push(f);
      joined.push(0);
    }
    joined[node] = joined[node]! + old.joined[i]!;
    nodeOf[i] = node;
  }
  const rows = Uint32Array.from(profile.stackNode, (node) =>
    gone[node] || focusSeen.some((seen) => !seen[node]) ? GONE : nodeOf[node]!);
  return inOrder(parent, fn, joined, rows, names);
}

// Only nodes that a stack needs stay; children go behind their parents, by name.
function inOrder(parent: number[], fn: number[], joined: number[], rows: Uint32Array, names: FunctionNames): Tree {
  const needed = new Uint8Array(parent.length);
  needed[0] = 1;
  for (const row of rows) {
    if (row !== GONE) needed[row] = 1;
  }
  for (let i = parent.length - 1; i > 0; i--) if (needed[i]) needed[parent[i]!] = 1;
  const rank = names.rank();
  const lists = new Map<number, number[]>();
  for (let i = 1; i < parent.length; i++) {
    if (!needed[i]) continue;
    const list = lists.get(parent[i]!);
    if (list) list.push(i);
    else lists.set(parent[i]!, [i]);
  }
  const place = new Uint32Array(parent.length), order: number[] = [], pending = [0];
  while (pending.length > 0) {
    const node = pending.pop()!;
    place[node] = order.length;
    order.push(node);
    const list = lists.get(node);
    if (!list) continue;
    list.sort((a, b) => rank[fn[b]!]! - rank[fn[a]!]!);
    for (const child of list) pending.push(child);
  }
  return finish(Uint32Array.from(order, (node) => place[parent[node]!]!), Uint32Array.from(order, (node) => fn[node]!),
                Uint32Array.from(order, (node) => joined[node]!),
                rows.map((row) => (row === GONE ? GONE : place[row]!)), names.name.length);
}

// What each node holds: itself, and with everything below it.
export interface NodeUsage { self: Usage; total: Usage }

function spread(tree: Tree, rows: Amounts): [Amounts, Amounts] {
  const count = tree.parent.length, sampled = rows.unseen !== null;
  const self = newAmounts(count, sampled), total = newAmounts(count, sampled);
  for (let row = 0; row < tree.nodeOfStack.length; row++) {
    if (tree.nodeOfStack[row] !== GONE) addAmount(self, tree.nodeOfStack[row]!, rows, row);
  }
  for (let i = count - 1; i >= 0; i--) {
    addAmount(total, i, self, i);
    if (i > 0) addAmount(total, tree.parent[i]!, total, i);
  }
  return [self, total];
}

export function usageOfNodes(tree: Tree, rows: Usage): NodeUsage {
  const [selfBytes, totalBytes] = spread(tree, rows.bytes);
  const [selfBlocks, totalBlocks] = spread(tree, rows.blocks);
  return { self: { bytes: selfBytes, blocks: selfBlocks }, total: { bytes: totalBytes, blocks: totalBlocks } };
}

// By function: self, and total with a recursive function counted once per stack.
export function usageOfFunctions(tree: Tree, nodes: NodeUsage, functions: number): NodeUsage {
  const sampled = nodes.self.bytes.unseen !== null;
  const make = (): Usage => ({ bytes: newAmounts(functions, sampled), blocks: newAmounts(functions, sampled) });
  const result: NodeUsage = { self: make(), total: make() };
  for (let i = 1; i < tree.parent.length; i++) {
    const f = tree.fn[i]!;
    addAmount(result.self.bytes, f, nodes.self.bytes, i);
    addAmount(result.self.blocks, f, nodes.self.blocks, i);
    if (!tree.outer[i]) continue;
    addAmount(result.total.bytes, f, nodes.total.bytes, i);
    addAmount(result.total.blocks, f, nodes.total.blocks, i);
  }
  return result;
}
