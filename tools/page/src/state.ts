// What somebody is looking at, as the fragment of the page's address: a link restores it. Anything a fragment may hold
// is read; what makes no sense is left out. Must not: know what a trace has.
import { Folding } from "./tree.js";

export const VIEWS = ["icicle", "flame", "inverted", "sandwich", "functions", "sites", "threads", "sizes"] as const;
export type ViewName = (typeof VIEWS)[number];

export interface State {
  view: ViewName;
  metric: string;
  from: number;          // slices; -1: the whole run
  to: number;
  instant: boolean;
  zoom: number[];        // functions from the root
  search: string;
  fn: number;            // of the sandwich; 0: none chosen
  folding: Folding;
  below: number;         // percent
  sort: string;          // column of a table, "-" before it: smallest first; "": as the view likes
  theme: string;
}

export function freshState(metric: string): State {
  return {
    view: "icicle", metric, from: -1, to: -1, instant: false, zoom: [], search: "", fn: 0,
    folding: { hidden: [], removed: [], focused: [], recursion: false, mine: false }, below: 0, sort: "", theme: "auto",
  };
}

export function toFragment(state: State, fresh: State): string {
  const parts: string[] = [];
  const put = (key: string, value: string) => { if (value !== "") parts.push(`${key}=${encodeURIComponent(value)}`); };
  const list = (numbers: number[]) => numbers.join(".");
  if (state.view !== fresh.view) put("view", state.view);
  if (state.metric !== fresh.metric) put("metric", state.metric);
  if (state.from >= 0) put("time", `${state.from}.${state.to}${state.instant ? ".i" : ""}`);
  put("zoom", list(state.zoom));
  put("search", state.search);
  if (state.fn) put("fn", String(state.fn));
  put("hide", list(state.folding.hidden));
  put("remove", list(state.folding.removed));
  put("focus", list(state.folding.focused));
  if (state.folding.recursion) put("recursion", "1");
  if (state.folding.mine) put("mine", "1");
  if (state.below > 0) put("below", String(state.below));
  put("sort", state.sort);
  if (state.theme !== "auto") put("theme", state.theme);
  return parts.join("&");
}

export interface Bounds { metrics: string[]; functions: number; slices: number }

export function fromFragment(fragment: string, fresh: State, bounds: Bounds): State {
  const state: State = { ...fresh, folding: { ...fresh.folding } };
  const functions = (text: string) =>
    text.split(".").map(Number).filter((fn) => Number.isInteger(fn) && fn >= 0 && fn < bounds.functions);
  for (const part of fragment.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at < 0) continue;
    let value: string;
    try {
      value = decodeURIComponent(part.slice(at + 1));
    } catch {
      continue;
    }
    switch (part.slice(0, at)) {
      case "view": if ((VIEWS as readonly string[]).includes(value)) state.view = value as ViewName; break;
      case "metric": if (bounds.metrics.includes(value)) state.metric = value; break;
      case "time": {
        const [from, to, instant] = value.split(".");
        const a = Number(from), b = Number(to);
        if (Number.isInteger(a) && Number.isInteger(b) && a >= 0 && a < b && b <= bounds.slices) {
          state.from = a;
          state.to = b;
          state.instant = instant === "i";
        }
        break;
      }
      case "zoom": state.zoom = functions(value); break;
      case "search": state.search = value; break;
      case "fn": state.fn = functions(value)[0] ?? 0; break;
      case "hide": state.folding.hidden = functions(value); break;
      case "remove": state.folding.removed = functions(value); break;
      case "focus": state.folding.focused = functions(value); break;
      case "recursion": state.folding.recursion = value === "1"; break;
      case "mine": state.folding.mine = value === "1"; break;
      case "below": if (Number(value) > 0 && Number(value) <= 100) state.below = Number(value); break;
      case "sort": if (/^-?[a-z]+$/.test(value)) state.sort = value; break;
      case "theme": if (value === "light" || value === "dark") state.theme = value; break;
    }
  }
  return state;
}
