// What is told of one frame: in the tooltip, on the status line, on the clipboard. Must not: touch the page but for
// making the tooltip's elements.
import { element } from "./dom.js";
import { Amount, interval95, roundedOf, valueOf } from "./estimate.js";
import { Box, pathTo } from "./layout.js";
import { humanBytes, humanCount, humanInterval, humanPercent } from "./numbers.js";
import { NodeAmounts, Source } from "./sources.js";
import { FunctionNames } from "./tree.js";

export function nameOf(names: FunctionNames, source: Source, node: number): string {
  const fn = source.fn(node);
  if (fn !== 0) return names.name[fn]!;
  if (node === source.root) return "all";
  return `(${humanCount(source.joined(node))} more)`;
}

export function labelOf(names: FunctionNames, source: Source, box: Box): string {
  return box.more ? `(${humanCount(box.more)} more)` : nameOf(names, source, box.node);
}

function exact(amount: Amount, bytes: boolean): string {
  const count = roundedOf(amount);
  const text = bytes ? (count < 1024 ? `${humanCount(count)} bytes` : `${humanBytes(valueOf(amount))} (${humanCount(count)} bytes)`)
                     : `${humanCount(count)} ${count === 1 ? "block" : "blocks"}`;
  const interval = humanInterval(interval95(amount), bytes);
  return interval ? `${text}, 95 %: ${interval}` : text;
}

export interface Fact { name: string; text: string }

export function factsOf(names: FunctionNames, source: Source, box: Box, inBlocks: boolean, whole: number): Fact[] {
  if (box.more) {
    return [{ name: "what", text: `${humanCount(box.more)} frames too narrow to draw, called from ${nameOf(names, source, box.node)}` },
            { name: "together", text: inBlocks ? `${humanCount(box.value)} blocks` : `${humanBytes(box.value)} (${humanCount(box.value)} bytes)` },
            { name: "share", text: humanPercent(box.value, whole) }];
  }
  const main = (amounts: NodeAmounts) => (inBlocks ? amounts.blocks : amounts.bytes);
  const total = source.total(box.node), self = source.self(box.node), fn = source.fn(box.node);
  const facts: Fact[] = [{ name: "bytes", text: exact(total.bytes, true) }, { name: "blocks", text: exact(total.blocks, false) }];
  if (valueOf(total.blocks) > 0) facts.push({ name: "mean size", text: humanBytes(valueOf(total.bytes) / valueOf(total.blocks)) });
  facts.push({ name: "share", text: `${humanPercent(valueOf(main(total)), whole)} of all` });
  if (source.towardsCallees && fn !== 0 && self.blocks.seen !== 0) {
    const all = roundedOf(main(self)) === roundedOf(main(total));
    facts.push({ name: "itself", text: all ? "all of it" : exact(main(self), !inBlocks) });
  }
  if (fn === 0 && source.joined(box.node) > 0) {
    facts.push({ name: "what", text: "small frames that were joined when the page was made; the sum is exact" });
  }
  if (names.module[fn]) facts.push({ name: "module", text: names.module[fn]! });
  if (fn !== 0 && !names.known[fn]) facts.push({ name: "note", text: "no symbol is known for this address" });
  return facts;
}

export function tooltipOf(name: string, facts: Fact[]): Node[] {
  const list = element("dl");
  for (const fact of facts) list.append(element("dt", {}, fact.name), element("dd", {}, fact.text));
  return [element("b", {}, name), list];
}

export function sentenceOf(name: string, facts: Fact[]): string {
  return `${name}: ${facts.map((fact) => `${fact.name} ${fact.text}`).join("; ")}`;
}

// As a debugger prints it: innermost frame first.
export function stackText(names: FunctionNames, source: Source, node: number): string {
  const lines = pathTo(source, node).filter((at) => source.fn(at) !== 0).map((at) => {
    const fn = source.fn(at);
    return names.module[fn] ? `${names.name[fn]}  [${names.module[fn]}]` : names.name[fn]!;
  });
  return (source.towardsCallees ? lines.reverse() : lines).join("\n");
}

// For `tidemark leaks --suppressions` and LeakSanitizer, where * is any text and ^ and $ are ends.
export function suppressionText(names: FunctionNames, fn: number): string {
  return `leak:^${names.name[fn]}$`;
}
