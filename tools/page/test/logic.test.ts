// Decoding, sums over windows, folding, layout, search and links, without a browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inflate, unzigzag, varints } from "../src/decode.js";
import { gammaQuantile, interval95, weightOfSample } from "../src/estimate.js";
import { layOut } from "../src/layout.js";
import { humanBytes, humanCount, humanDuration, humanInterval } from "../src/numbers.js";
import { compile, matches } from "../src/search.js";
import { peakIn, sumOf, usageByRow, usageBySize, wholeRun } from "../src/selection.js";
import { CalleesSource, CallersSource, TreeSource, outermost } from "../src/sources.js";
import { freshState, fromFragment, toFragment } from "../src/state.js";
import { FunctionNames, GONE, NO_FOLDING, foldTree, plainTree, usageOfFunctions, usageOfNodes } from "../src/tree.js";
import { profileOf } from "./profile.js";

const near = (actual: number, expected: number, relative = 1e-9) =>
  assert.ok(Math.abs(actual - expected) <= Math.abs(expected) * relative, `${actual} is not ${expected}`);

// a(b(a, c), d(c)): a calls itself; c and d are leaves. d is of another module.
const TREE: [number, number][] = [[0, 1], [1, 2], [2, 1], [2, 3], [1, 4], [5, 3]];
const profile = () => profileOf(TREE, [
  [3, [{ slice: 0, blocks: 1, bytes: 100 }]],
  [4, [{ slice: 1, blocks: 2, bytes: 20, released: 1, releasedBytes: 10 }, { slice: 3, blocks: 0, bytes: 0, released: 1, releasedBytes: 10 }]],
  [6, [{ slice: 2, blocks: 1, bytes: 7 }]],
]);

test("varints of one byte, of many and of 2^53 - 1", () => {
  assert.deepEqual(Array.from(varints(Uint8Array.from([0, 0x7f, 0x80, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]))),
                   [0, 127, 128, 2 ** 53 - 1]);
  assert.deepEqual([0, 1, 2, 3, 4].map(unzigzag), [0, -1, 1, -2, 2]);
});

test("base64 and gzip come back as what they were", async () => {
  const bytes = new Uint8Array(await new Response(new Blob(["a text\u0000"]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer());
  assert.equal(new TextDecoder().decode(await inflate(Buffer.from(bytes).toString("base64"))), "a text\u0000");
  await assert.rejects(inflate(Buffer.from(bytes.slice(0, 12)).toString("base64")));
});

test("numbers are written as the command line writes them", () => {
  assert.deepEqual([0, 17, 1023, 1024, 10234, 1048576 * 9.996, 1.3e9].map(humanBytes),
                   ["0 B", "17 B", "1023 B", "1.00 KiB", "9.99 KiB", "10.0 MiB", "1.21 GiB"]);
  assert.deepEqual([0, 999, 1000, 12345678].map(humanCount), ["0", "999", "1,000", "12,345,678"]);
  assert.deepEqual([999, 1500, 2.5e6, 1.2034e9, 61e9, 7380e9].map(humanDuration),
                   ["999 ns", "1 us", "2.5 ms", "1.203 s", "1 min 01 s", "2 h 03 min"]);
  assert.equal(humanInterval({ low: 3, high: 3 }, true), "");
  assert.equal(humanInterval({ low: 1048576 * 0.9, high: 1048576 * 1.4 }, true), "0.90 .. 1.40 MiB");
});

test("weights and intervals are those of tools/model/estimator.cc", () => {
  const weight = weightOfSample(10, 1000);
  near(weight.bytes, 1005.0083, 1e-7);
  near(weight.blocks, 100.50083, 1e-7);
  near(weight.unseenBytes, weight.bytes - 10);
  // Half of chi-square's quantiles as tables have them, for 6 and for 100 degrees of freedom.
  near(gammaQuantile(3, 0.025), 1.2373 / 2, 1e-4);
  near(gammaQuantile(50, 0.975), 129.5612 / 2, 1e-6);
  assert.deepEqual(interval95({ seen: 5, unseen: 0, variance: 0, heaviest: 1 }), { low: 5, high: 5 });
  const { low, high } = interval95({ seen: 10, unseen: 995, variance: 995 * 1005, heaviest: 1005 });
  assert.ok(low > 10 && low < 1005 && high > 1005 && high < 5000, `${low} ${high}`);
});

test("windows: what is allocated in them, what is live at their end", () => {
  const p = profile(), whole = wholeRun(p);
  const bytes = (quantity: "allocated" | "live" | "peak", from: number, to: number, instant = false) =>
    sumOf(usageByRow(p, p.stacks, quantity, { from, to, instant }).bytes).seen;
  assert.deepEqual(whole, { from: 0, to: 4, instant: false });
  assert.equal(bytes("allocated", 0, 4), 127);
  assert.equal(bytes("allocated", 1, 3), 27);
  assert.equal(bytes("live", 0, 4), 107);
  assert.equal(bytes("live", 2, 3), 117);
  assert.equal(peakIn(p, whole), 2);
  assert.equal(bytes("peak", 0, 4), 110);
  assert.equal(peakIn(p, { from: 2, to: 4, instant: false }), 3);
  assert.equal(bytes("peak", 0, 1, true), bytes("live", 0, 1, true));
});

test("sampled sums stand for what was not seen, and vanish with their last block", () => {
  const p = profileOf(TREE, [[3, [{ slice: 0, blocks: 2, bytes: 20, size: 10 }, { slice: 2, blocks: 0, bytes: 0, released: 2, releasedBytes: 20, size: 10 }]]], 4, true);
  const all = sumOf(usageByRow(p, p.stacks, "allocated", wholeRun(p)).bytes);
  near(all.seen + all.unseen, 2 * 1005.0083, 1e-7);
  const live = sumOf(usageByRow(p, p.stacks, "live", wholeRun(p)).bytes);
  assert.deepEqual([live.seen, live.unseen, live.variance], [0, 0, 0]);
  assert.equal(usageBySize(p, "allocated", wholeRun(p)).blocks.seen[4], 2);
});

test("a function that calls itself counts once per stack", () => {
  const p = profile(), tree = plainTree(p);
  assert.deepEqual(Array.from(tree.end), [7, 7, 5, 4, 5, 7, 7]);
  assert.deepEqual(Array.from(tree.outer.subarray(1)), [1, 1, 0, 1, 1, 1]);
  const functions = usageOfFunctions(tree, usageOfNodes(tree, usageByRow(p, p.stacks, "allocated", wholeRun(p))), 5);
  assert.deepEqual(Array.from(functions.total.bytes.seen), [0, 127, 120, 27, 7]);
  assert.deepEqual(Array.from(functions.self.bytes.seen), [0, 100, 0, 27, 0]);
});

test("hiding keeps every sum, removing and focusing take stacks away", () => {
  const p = profile(), names = new FunctionNames(p);
  const fold = (change: object) => foldTree(p, names, { ...NO_FOLDING, ...change });
  const total = (tree: ReturnType<typeof fold>) =>
    usageOfNodes(tree, usageByRow(p, p.stacks, "allocated", wholeRun(p))).total.bytes.seen[0];
  const hidden = fold({ hidden: [2] });
  assert.equal(total(hidden), 127);
  assert.ok(!hidden.fn.includes(2));
  const removed = fold({ removed: [3] });
  assert.equal(total(removed), 100);
  assert.deepEqual(Array.from(removed.nodeOfStack, (node) => node === GONE), [false, true, true]);
  assert.equal(total(fold({ focused: [4] })), 7);
  assert.equal(total(fold({ focused: [4, 2] })), 0);
  const merged = fold({ recursion: true });
  assert.equal(total(merged), 127);
  assert.equal(Array.from(merged.fn).filter((fn) => fn === 1).length, 1);
  const mine = fold({ mine: true });
  assert.equal(total(mine), 127);
  assert.ok(Array.from(mine.fn, (fn) => names.name[fn]).includes("[lib]"));
});

test("callers and callees add up to the function's total", () => {
  const p = profile(), tree = plainTree(p), usage = usageOfNodes(tree, usageByRow(p, p.stacks, "allocated", wholeRun(p)));
  const rank = new FunctionNames(p).rank();
  const inverted = new CallersSource(tree, usage, false, rank, null, 0);
  assert.deepEqual(inverted.children(0).map((node) => [inverted.fn(node), inverted.value(node)]), [[1, 100], [3, 27]]);
  const c = inverted.children(0)[1]!;
  assert.deepEqual(inverted.children(c).map((node) => [inverted.fn(node), inverted.value(node)]), [[2, 20], [4, 7]]);
  const from = outermost(tree, 3);
  assert.deepEqual(from, [4, 6]);
  assert.equal(new CallersSource(tree, usage, false, rank, from, 3).value(0), 27);
  const callees = new CalleesSource(tree, usage, false, rank, outermost(tree, 1), 1);
  assert.deepEqual(callees.children(0).map((node) => [callees.fn(node), callees.value(node)]), [[2, 120], [4, 7]]);
});

test("layout: every level adds up, what is too small is counted", () => {
  const p = profile(), tree = plainTree(p), usage = usageOfNodes(tree, usageByRow(p, p.stacks, "allocated", wholeRun(p)));
  const source = new TreeSource(tree, usage, false);
  const all = layOut(source, { zoom: 0, pixels: 1000, leastFraction: 0 });
  assert.deepEqual(all.map((box) => box.node).sort(), [0, 1, 2, 3, 4, 5, 6]);
  const sum = (row: number) => all.filter((box) => box.row === row).reduce((width, box) => width + box.width, 0);
  near(sum(1), 1);
  near(sum(2), 1);
  const coarse = layOut(source, { zoom: 0, pixels: 1000, leastFraction: 0.2 });
  assert.ok(coarse.some((box) => box.node === 5 && box.width > 0.05 && box.row === 2), "one that is alone keeps its name");
  const zoomed = layOut(source, { zoom: 2, pixels: 1000, leastFraction: 0 });
  assert.deepEqual(zoomed.filter((box) => box.above).map((box) => box.node), [0, 1]);
  near(zoomed.find((box) => box.node === 3)!.width, 100 / 120);
});

test("search: outermost matches, each stack once; a bad pattern is told", () => {
  const p = profile(), names = new FunctionNames(p), tree = plainTree(p);
  assert.deepEqual(matches(tree, compile("^a$", names)!), [1]);
  assert.deepEqual(matches(tree, compile("^[cd]$", names)!), [4, 5]);
  assert.deepEqual(matches(tree, compile("LIB", names)!), []);
  assert.deepEqual(matches(tree, compile("lib", names)!), [5]);
  assert.notEqual(compile("(", names)!.problem, "");
  assert.equal(compile("", names), null);
});

test("links restore what is looked at, and nonsense in them is left out", () => {
  const fresh = freshState("allocated"), bounds = { metrics: ["allocated", "live"], functions: 9, slices: 20 };
  const state = { ...fresh, view: "flame" as const, metric: "live", from: 3, to: 7, instant: false, zoom: [1, 2, 3], search: "a&b=#", fn: 4,
                  folding: { hidden: [1], removed: [2], focused: [3], recursion: true, mine: true }, below: 0.5, sort: "-total", theme: "dark" };
  assert.deepEqual(fromFragment(toFragment(state, fresh), fresh, bounds), state);
  assert.equal(toFragment(fresh, fresh), "");
  for (const bad of ["view=x", "metric=leaked", "time=5.2", "time=0.99", "zoom=1.99", "search=%", "sort=<", "below=-1", "fn=1e9", "="]) {
    const read = fromFragment(bad, fresh, bounds);
    assert.deepEqual({ ...read, zoom: [] }, fresh, bad);
  }
});
