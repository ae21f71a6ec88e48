// What is counted: a metric over a window of time, as one amount per group (a stack, a thread, a size class).
//
// Every number that the page shows is a sum made here, of the cells of the trace, so that all views agree with each
// other and, for the whole run, with `tidemark report`. Must not: know views.
import { Profile, Rows } from "./decode.js";
import { Amount, weightOfSample } from "./estimate.js";

export type Metric = "allocated" | "live" | "peak" | "temporary" | "count";
export type Quantity = "allocated" | "live" | "peak" | "temporary";

// Slices from `from` to `to` - 1. An instant is what was live at the end of slice `to` - 1, with `from` 0.
export interface Window { from: number; to: number; instant: boolean }

export const METRIC_TITLES: Record<Metric, string> = {
  allocated: "bytes allocated", live: "bytes live at the end", peak: "bytes live at the peak",
  temporary: "temporary blocks", count: "blocks allocated",
};

export function quantityOf(metric: Metric): Quantity {
  return metric === "count" ? "allocated" : metric;
}
export function countsBlocks(metric: Metric): boolean {
  return metric === "count" || metric === "temporary";
}

// Sums by group. The last three are null in complete mode, where nothing is unseen.
export interface Amounts {
  seen: Float64Array;
  unseen: Float64Array | null;
  variance: Float64Array | null;
  heaviest: Float64Array | null;
}
export interface Usage { bytes: Amounts; blocks: Amounts }

export function newAmounts(count: number, sampled: boolean): Amounts {
  const column = () => (sampled ? new Float64Array(count) : null);
  return { seen: new Float64Array(count), unseen: column(), variance: column(), heaviest: column() };
}

export function amountAt(amounts: Amounts, i: number): Amount {
  return {
    seen: amounts.seen[i]!, unseen: amounts.unseen ? amounts.unseen[i]! : 0,
    variance: amounts.variance ? amounts.variance[i]! : 0, heaviest: amounts.heaviest ? amounts.heaviest[i]! : 0,
  };
}

export function valueAt(amounts: Amounts, i: number): number {
  return amounts.unseen ? amounts.seen[i]! + amounts.unseen[i]! : amounts.seen[i]!;
}

export function addAmount(to: Amounts, i: number, from: Amounts, j: number): void {
  to.seen[i] = to.seen[i]! + from.seen[j]!;
  if (to.unseen) {
    to.unseen[i] = to.unseen[i]! + from.unseen![j]!;
    to.variance![i] = to.variance![i]! + from.variance![j]!;
    to.heaviest![i] = Math.max(to.heaviest![i]!, from.heaviest![j]!);
  }
}

// The slices whose changes add up to the quantity: all up to a moment for what is live, else those of the window.
export function slicesOf(profile: Profile, quantity: Quantity, window: Window): [number, number] {
  if (quantity === "live") return [0, window.to];
  if (quantity === "peak") return [0, peakIn(profile, window)];
  return [window.from, window.to];
}

export function wholeRun(profile: Profile): Window {
  return { from: 0, to: profile.head.slices.bounds_ns.length - 1, instant: false };
}

export function isWholeRun(profile: Profile, window: Window): boolean {
  return !window.instant && window.from === 0 && window.to === profile.head.slices.bounds_ns.length - 1;
}

const liveBySlice = new WeakMap<Profile, Float64Array>();

// Bytes live at the end of every slice; estimates when sampled.
export function liveAtEnds(profile: Profile): Float64Array {
  let live = liveBySlice.get(profile);
  if (!live) {
    live = new Float64Array(profile.head.slices.bounds_ns.length - 1);
    const { slice, bytes, releasedBytes, size } = profile.threads;
    for (let i = 0; i < slice.length; i++) {
      const weight = size ? weightOfSample(size[i]!, profile.head.run.sample_bytes).blocks : 1;
      live[slice[i]!] = live[slice[i]!]! + (bytes[i]! - releasedBytes[i]!) * weight;
    }
    for (let i = 1; i < live.length; i++) live[i] = live[i]! + live[i - 1]!;
    liveBySlice.set(profile, live);
  }
  return live;
}

// The number of slices up to the highest point of a window: the peak itself if it lies there, else the highest end of
// a slice.
export function peakIn(profile: Profile, window: Window): number {
  const peak = profile.head.slices.peak;
  if (window.instant) return window.to;
  if (peak > window.from && peak <= window.to) return peak;
  const live = liveAtEnds(profile);
  let best = window.from + 1;
  for (let to = window.from + 1; to <= window.to; to++) if (live[to - 1]! >= live[best - 1]!) best = to;
  return best;
}

// `groupOf`: by row and cell; -1 leaves it out.
export function usageOf(profile: Profile, rows: Rows, groups: number, groupOf: (row: number, cell: number) => number,
                        quantity: Quantity, window: Window): Usage {
  const usage: Usage = { bytes: newAmounts(groups, profile.sampled), blocks: newAmounts(groups, profile.sampled) };
  const [from, to] = slicesOf(profile, quantity, window);
  const minus = quantity === "live" || quantity === "peak";
  const plusBytes = quantity === "temporary" ? rows.temporaryBytes! : rows.bytes;
  const plusBlocks = quantity === "temporary" ? rows.temporaryBlocks! : rows.blocks;
  const { first, slice, releasedBytes, releasedBlocks, size } = rows;
  const weights = size ? weightsOf(profile, rows) : null;
  const { bytes, blocks } = usage;
  for (let row = 0; row < rows.count; row++) {
    for (let i = first[row]!; i < first[row + 1]!; i++) {
      const group = groupOf(row, i);
      if (group < 0) continue;
      if (weights && rows.blocks[i]! > 0) {
        // Of all that was ever sampled, as the command line has it: what was missed may be of the heaviest kind.
        const s = Math.max(size![i]!, 1), w = weights[i]!;
        bytes.heaviest![group] = Math.max(bytes.heaviest![group]!, s * (w + 1));
        blocks.heaviest![group] = Math.max(blocks.heaviest![group]!, w + 1);
      }
      if (slice[i]! < from || slice[i]! >= to) continue;
      const count = plusBlocks[i]! - (minus ? releasedBlocks[i]! : 0);
      bytes.seen[group] = bytes.seen[group]! + plusBytes[i]! - (minus ? releasedBytes[i]! : 0);
      blocks.seen[group] = blocks.seen[group]! + count;
      if (!weights) continue;
      const s = Math.max(size![i]!, 1), w = weights[i]!, v = w * (w + 1);
      bytes.unseen![group] = bytes.unseen![group]! + count * s * w;
      bytes.variance![group] = bytes.variance![group]! + count * s * s * v;
      blocks.unseen![group] = blocks.unseen![group]! + count * w;
      blocks.variance![group] = blocks.variance![group]! + count * v;
    }
  }
  if (weights) {
    // Nothing alive is exactly nothing: rounding must not leave a fraction of a byte behind.
    for (let group = 0; group < groups; group++) {
      if (blocks.seen[group] !== 0) continue;
      bytes.unseen![group] = bytes.variance![group] = blocks.unseen![group] = blocks.variance![group] = 0;
    }
  }
  return usage;
}

const weightsByRows = new WeakMap<Rows, Float64Array>();

// q/p of every cell: how many unseen blocks one of its samples stands for.
function weightsOf(profile: Profile, rows: Rows): Float64Array {
  let weights = weightsByRows.get(rows);
  if (!weights) {
    const sampleBytes = profile.head.run.sample_bytes;
    weights = rows.size!.map((size) => weightOfSample(size, sampleBytes).unseenBlocks);
    weightsByRows.set(rows, weights);
  }
  return weights;
}

export function usageByRow(profile: Profile, rows: Rows, quantity: Quantity, window: Window): Usage {
  return usageOf(profile, rows, rows.count, (row) => row, quantity, window);
}

// By size class. Sampled traces have the sizes in the cells of their stacks.
export function usageBySize(profile: Profile, quantity: Quantity, window: Window): Usage {
  const groups = profile.head.sizes.length;
  if (profile.sizes) return usageOf(profile, profile.sizes, groups, (row) => row, quantity, window);
  const { size } = profile.threads;
  const bucketOf = (bytes: number) => Math.max(4, Math.ceil(Math.log2(Math.max(bytes, 1))));
  return usageOf(profile, profile.threads, groups, (_, cell) => bucketOf(size![cell]!), quantity, window);
}

// The sum over all groups.
export function sumOf(amounts: Amounts): Amount {
  const sum: Amount = { seen: 0, unseen: 0, variance: 0, heaviest: 0 };
  for (let i = 0; i < amounts.seen.length; i++) {
    sum.seen += amounts.seen[i]!;
    if (amounts.unseen) {
      sum.unseen += amounts.unseen[i]!;
      sum.variance += amounts.variance![i]!;
      sum.heaviest = Math.max(sum.heaviest, amounts.heaviest![i]!);
    }
  }
  return sum;
}
