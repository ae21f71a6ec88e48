// Which boxes a flame graph shows: only those that somebody can see. Small siblings become one box that says how many
// they are, so that every level adds up. Must not: know pixels' colours or the page.
import { Source } from "./sources.js";

export interface Box {
  node: number;    // the parent, if `more` is not 0
  more: number;    // 0, or how many siblings were too small for a box of their own
  row: number;     // 0 is the root
  x: number;       // fraction of the width
  width: number;
  value: number;
  above: boolean;  // on the way to what is zoomed into
}

export interface View { zoom: number; pixels: number; leastFraction: number }

const LEAST_PIXELS = 0.6;
const MOST_ROWS = 2000;

export function pathTo(source: Source, node: number): number[] {
  const path = [node];
  while (path[path.length - 1] !== source.root) path.push(source.parent(path[path.length - 1]!));
  return path.reverse();
}

export function layOut(source: Source, view: View): Box[] {
  const boxes: Box[] = [];
  const path = pathTo(source, view.zoom);
  for (let row = 0; row + 1 < path.length; row++) {
    boxes.push({ node: path[row]!, more: 0, row, x: 0, width: 1, value: source.value(path[row]!), above: true });
  }
  const whole = source.value(view.zoom);
  if (!(whole > 0)) {
    boxes.push({ node: view.zoom, more: 0, row: path.length - 1, x: 0, width: 1, value: 0, above: false });
    return boxes;
  }
  const least = Math.max(LEAST_PIXELS / view.pixels * whole, view.leastFraction * source.value(source.root));
  const pending: Box[] = [
    { node: view.zoom, more: 0, row: path.length - 1, x: 0, width: 1, value: whole, above: false }];
  while (pending.length > 0) {
    const box = pending.pop()!;
    boxes.push(box);
    if (box.row >= MOST_ROWS) continue;
    let x = box.x, more = 0, moreValue = 0, last = 0;
    for (const child of source.children(box.node)) {
      const value = source.value(child);
      if (!(value > 0)) continue;
      if (value < least) {
        more++;
        moreValue += value;
        last = child;
        continue;
      }
      pending.push({ node: child, more: 0, row: box.row + 1, x, width: value / whole, value, above: false });
      x += value / whole;
    }
    if (more === 0 || moreValue / whole * view.pixels < LEAST_PIXELS) continue;
    // One that is alone needs no other name than its own.
    const single = more === 1 && source.joined(last) === 0;
    boxes.push({ node: single ? last : box.node, more: single ? 0 : more, row: box.row + 1, x,
                 width: moreValue / whole, value: moreValue, above: false });
  }
  return boxes;
}
