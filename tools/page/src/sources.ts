// What a flame graph can be drawn of: the tree itself, or a tree that is made of it while somebody looks at it: callers
// above callees (inverted), and the two halves of a sandwich. Made level by level, because whole they would be many
// times the tree. Must not: draw.
import { Amount } from "./estimate.js";
import { Amounts, amountAt, valueAt } from "./selection.js";
import { NodeUsage, Tree } from "./tree.js";

export interface NodeAmounts { bytes: Amount; blocks: Amount }

export interface Source {
  readonly root: number;
  // Does a step away from the root lead to callees? Otherwise to callers.
  readonly towardsCallees: boolean;
  fn(node: number): number;
  joined(node: number): number;
  parent(node: number): number;  // of the root: itself
  value(node: number): number;
  children(node: number): readonly number[];
  total(node: number): NodeAmounts;
  self(node: number): NodeAmounts;  // asked for by the function itself, here
}

export class TreeSource implements Source {
  readonly root = 0;
  readonly towardsCallees = true;
  constructor(readonly tree: Tree, readonly usage: NodeUsage, private readonly blocks: boolean) {}
  fn(node: number) { return this.tree.fn[node]!; }
  joined(node: number) { return this.tree.joined[node]!; }
  parent(node: number) { return this.tree.parent[node]!; }
  value(node: number) { return valueAt(this.blocks ? this.usage.total.blocks : this.usage.total.bytes, node); }
  children(node: number): number[] {
    const children: number[] = [];
    for (let child = node + 1; child < this.tree.end[node]!; child = this.tree.end[child]!) children.push(child);
    return children;
  }
  total(node: number) { return pick(this.usage.total, node); }
  self(node: number) { return pick(this.usage.self, node); }
}

function pick(usage: { bytes: Amounts; blocks: Amounts }, node: number): NodeAmounts {
  return { bytes: amountAt(usage.bytes, node), blocks: amountAt(usage.blocks, node) };
}

function sum(usage: { bytes: Amounts; blocks: Amounts }, nodes: readonly number[]): NodeAmounts {
  const add = (amounts: Amounts) => {
    const all: Amount = { seen: 0, unseen: 0, variance: 0, heaviest: 0 };
    for (const node of nodes) {
      const one = amountAt(amounts, node);
      all.seen += one.seen;
      all.unseen += one.unseen;
      all.variance += one.variance;
      all.heaviest = Math.max(all.heaviest, one.heaviest);
    }
    return all;
  };
  return { bytes: add(usage.bytes), blocks: add(usage.blocks) };
}

// Nodes of the tree that a merged node stands for (`at`), and whose amounts it has (`counted`).
interface Merged { fn: number; parent: number; at: number[]; counted: number[]; value: number; children: number[] | null }

abstract class MergedSource implements Source {
  readonly root = 0;
  abstract readonly towardsCallees: boolean;
  protected readonly merged: Merged[] = [];
  constructor(protected readonly tree: Tree, protected readonly usage: NodeUsage, protected readonly blocks: boolean,
              private readonly rank: Uint32Array) {}

  fn(node: number) { return this.merged[node]!.fn; }
  parent(node: number) { return this.merged[node]!.parent; }
  value(node: number) { return this.merged[node]!.value; }
  joined(node: number) {
    const { fn, at } = this.merged[node]!;
    return fn === 0 ? at.reduce((all, one) => all + this.tree.joined[one]!, 0) : 0;
  }
  children(node: number): readonly number[] {
    const of = this.merged[node]!;
    if (!of.children) {
      const groups = this.step(of);
      of.children = Array.from(groups.values(), (group) => this.add(group, node))
        .sort((a, b) => this.rank[this.fn(a)]! - this.rank[this.fn(b)]!);
    }
    return of.children;
  }
  abstract total(node: number): NodeAmounts;
  abstract self(node: number): NodeAmounts;
  protected abstract step(of: Merged): Map<number, Merged>;

  protected add(merged: Merged, parent: number): number {
    merged.parent = parent;
    this.merged.push(merged);
    return this.merged.length - 1;
  }
  protected into(groups: Map<number, Merged>, fn: number, at: number, counted: number, value: number) {
    const group = groups.get(fn);
    if (group) {
      group.at.push(at);
      group.counted.push(counted);
      group.value += value;
    } else {
      groups.set(fn, { fn, parent: 0, at: [at], counted: [counted], value, children: null });
    }
  }
}

// From functions to who called them. `whole`: every stack from its leaf; else the callers of the nodes in `from`.
export class CallersSource extends MergedSource {
  readonly towardsCallees = false;
  private readonly counts: Amounts;
  constructor(tree: Tree, usage: NodeUsage, blocks: boolean, rank: Uint32Array, from: number[] | null, fn: number) {
    super(tree, usage, blocks, rank);
    const of = from === null ? usage.self : usage.total;
    this.counts = blocks ? of.blocks : of.bytes;
    this.ofWhat = of;
    if (from === null) {
      const leaves: number[] = [];
      for (let i = 1; i < tree.parent.length; i++) if (this.isCounted(i)) leaves.push(i);
      const value = valueAt(blocks ? usage.total.blocks : usage.total.bytes, 0);
      this.add({ fn: 0, parent: 0, at: leaves, counted: leaves, value, children: null }, 0);
      const groups = new Map<number, Merged>();
      for (const leaf of leaves) this.into(groups, tree.fn[leaf]!, leaf, leaf, valueAt(this.counts, leaf));
      this.merged[0]!.children = Array.from(groups.values(), (group) => this.add(group, 0))
        .sort((a, b) => rank[this.fn(a)]! - rank[this.fn(b)]!);
    } else {
      const value = from.reduce((all, node) => all + valueAt(this.counts, node), 0);
      this.add({ fn, parent: 0, at: from, counted: from, value, children: null }, 0);
    }
  }
  private readonly ofWhat: { bytes: Amounts; blocks: Amounts };
  private isCounted(node: number) {
    return this.usage.self.bytes.seen[node] !== 0 || this.usage.self.blocks.seen[node] !== 0;
  }
  protected step(of: Merged) {
    const groups = new Map<number, Merged>();
    for (let i = 0; i < of.at.length; i++) {
      const up = this.tree.parent[of.at[i]!]!;
      if (up === 0) continue;
      this.into(groups, this.tree.fn[up]!, up, of.counted[i]!, valueAt(this.counts, of.counted[i]!));
    }
    return groups;
  }
  total(node: number) { return sum(this.ofWhat, this.merged[node]!.counted); }
  self(node: number) {
    // What the functions asked for themselves is all in the first level; further up, nothing is added.
    const { parent, counted } = this.merged[node]!;
    return parent === 0 ? sum(this.usage.self, counted) : sum(this.usage.self, []);
  }
}

// From a function to whom it calls.
export class CalleesSource extends MergedSource {
  readonly towardsCallees = true;
  constructor(tree: Tree, usage: NodeUsage, blocks: boolean, rank: Uint32Array, from: number[], fn: number) {
    super(tree, usage, blocks, rank);
    const counts = blocks ? usage.total.blocks : usage.total.bytes;
    const value = from.reduce((all, node) => all + valueAt(counts, node), 0);
    this.add({ fn, parent: 0, at: from, counted: from, value, children: null }, 0);
  }
  protected step(of: Merged) {
    const groups = new Map<number, Merged>();
    const { tree } = this, counts = this.blocks ? this.usage.total.blocks : this.usage.total.bytes;
    for (const at of of.at) {
      for (let child = at + 1; child < tree.end[at]!; child = tree.end[child]!) {
        this.into(groups, tree.fn[child]!, child, child, valueAt(counts, child));
      }
    }
    return groups;
  }
  total(node: number) { return sum(this.usage.total, this.merged[node]!.at); }
  self(node: number) { return sum(this.usage.self, this.merged[node]!.at); }
}

// Where a function begins, seen from the root: its own calls of itself are inside.
export function outermost(tree: Tree, fn: number): number[] {
  const nodes: number[] = [];
  for (let i = 1; i < tree.parent.length; i++) if (tree.fn[i] === fn && tree.outer[i]) nodes.push(i);
  return nodes;
}
