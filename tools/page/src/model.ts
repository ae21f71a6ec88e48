// What the views show of a state: the tree as folded, the amounts as selected; each made once and kept until what it
// depends on changes. Must not: touch the page.
import { Profile } from "./decode.js";
import { Amount } from "./estimate.js";
import {
  METRIC_TITLES, Metric, Usage, Window, countsBlocks, isWholeRun, newAmounts, peakIn, quantityOf, sumOf, usageByRow,
  usageBySize, wholeRun, addAmount,
} from "./selection.js";
import { CalleesSource, CallersSource, Source, TreeSource, outermost } from "./sources.js";
import { State } from "./state.js";
import { FunctionNames, GONE, NodeUsage, Tree, foldTree, usageOfFunctions, usageOfNodes } from "./tree.js";

// A value that is made again when its key changes.
class Kept<T> {
  private key: string | null = null;
  private value!: T;
  get(key: string, make: () => T): T {
    if (this.key !== key) {
      this.value = make();
      this.key = key;
    }
    return this.value;
  }
}

export class Model {
  readonly names: FunctionNames;
  private readonly kept = {
    tree: new Kept<Tree>(), rows: new Kept<Usage>(), nodes: new Kept<NodeUsage>(), functions: new Kept<NodeUsage>(),
    whole: new Kept<TreeSource>(), inverted: new Kept<CallersSource>(), callers: new Kept<CallersSource>(),
    callees: new Kept<CalleesSource>(),
  };

  constructor(readonly profile: Profile) {
    this.names = new FunctionNames(profile);
  }

  window(state: State): Window {
    return state.from < 0 ? wholeRun(this.profile) : { from: state.from, to: state.to, instant: state.instant };
  }
  metric(state: State): Metric { return state.metric as Metric; }
  inBlocks(state: State) { return countsBlocks(this.metric(state)); }

  private selectionKey(state: State) { return `${quantityOf(this.metric(state))} ${state.from} ${state.to} ${state.instant}`; }
  private foldingKey(state: State) { return JSON.stringify(state.folding); }
  private key(state: State) { return `${this.selectionKey(state)} ${this.inBlocks(state)} ${this.foldingKey(state)}`; }

  tree(state: State): Tree {
    return this.kept.tree.get(this.foldingKey(state), () => foldTree(this.profile, this.names, state.folding));
  }
  // Per stack of the trace.
  rows(state: State): Usage {
    return this.kept.rows.get(this.selectionKey(state), () =>
      usageByRow(this.profile, this.profile.stacks, quantityOf(this.metric(state)), this.window(state)));
  }
  nodes(state: State): NodeUsage {
    return this.kept.nodes.get(`${this.selectionKey(state)} ${this.foldingKey(state)}`, () =>
      usageOfNodes(this.tree(state), this.rows(state)));
  }
  functions(state: State): NodeUsage {
    return this.kept.functions.get(`${this.selectionKey(state)} ${this.foldingKey(state)}`, () =>
      usageOfFunctions(this.tree(state), this.nodes(state), this.names.name.length));
  }
  whole(state: State): Source {
    return this.kept.whole.get(this.key(state), () =>
      new TreeSource(this.tree(state), this.nodes(state), this.inBlocks(state)));
  }
  inverted(state: State): Source {
    return this.kept.inverted.get(this.key(state), () =>
      new CallersSource(this.tree(state), this.nodes(state), this.inBlocks(state), this.names.rank(), null, 0));
  }
  callers(state: State): Source {
    return this.kept.callers.get(`${this.key(state)} ${state.fn}`, () => {
      const tree = this.tree(state);
      return new CallersSource(tree, this.nodes(state), this.inBlocks(state), this.names.rank(),
                               outermost(tree, state.fn), state.fn);
    });
  }
  callees(state: State): Source {
    return this.kept.callees.get(`${this.key(state)} ${state.fn}`, () => {
      const tree = this.tree(state);
      return new CalleesSource(tree, this.nodes(state), this.inBlocks(state), this.names.rank(),
                               outermost(tree, state.fn), state.fn);
    });
  }

  // By site, of the stacks that are in the tree.
  sites(state: State): Usage {
    const { profile } = this, rows = this.rows(state), tree = this.tree(state), count = profile.sites.fn.length;
    const usage: Usage = { bytes: newAmounts(count, profile.sampled), blocks: newAmounts(count, profile.sampled) };
    for (let row = 0; row < profile.stackSite.length; row++) {
      if (tree.nodeOfStack[row] === GONE) continue;
      addAmount(usage.bytes, profile.stackSite[row]!, rows.bytes, row);
      addAmount(usage.blocks, profile.stackSite[row]!, rows.blocks, row);
    }
    return usage;
  }
  threads(state: State): Usage {
    return usageByRow(this.profile, this.profile.threads, quantityOf(this.metric(state)), this.window(state));
  }
  sizes(state: State): Usage {
    return usageBySize(this.profile, quantityOf(this.metric(state)), this.window(state));
  }

  // Of the whole process, whatever is folded away.
  total(state: State, metric: Metric): Amount {
    const usage = usageByRow(this.profile, this.profile.threads, quantityOf(metric), this.window(state));
    return sumOf(countsBlocks(metric) ? usage.blocks : usage.bytes);
  }

  // "bytes live at 1.203 s": what a metric means under the window.
  title(state: State, metric: Metric, time: (slices: number) => string): string {
    const window = this.window(state);
    if (isWholeRun(this.profile, window)) return METRIC_TITLES[metric];
    if (metric === "live") return `bytes live at ${time(window.to)}`;
    if (metric === "peak") {
      return window.instant ? `bytes live at ${time(window.to)}` : `bytes live at ${time(peakIn(this.profile, window))}, the highest`;
    }
    return window.instant ? `${METRIC_TITLES[metric]} until then` : `${METRIC_TITLES[metric]} in the window`;
  }
}
