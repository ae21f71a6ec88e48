// The top of the page: what was recorded, and how far it can be trusted. Losses, cut stacks and everything else that
// makes numbers smaller than the truth stand here, where nobody can miss them. Must not: know the views.
import { Profile } from "./decode.js";
import { byId, element } from "./dom.js";
import { humanBytes, humanCount, humanDuration } from "./numbers.js";

export const KEYS: [string, string][] = [
  ["1 .. 8", "the views, in the order of the tabs"], ["/", "search; Enter and Shift+Enter go through the matches"],
  ["n  N", "next and previous match"], ["g", "to the graph"], ["arrows", "in the graph: to caller, callee, neighbours"],
  ["Enter", "zoom into the frame"], ["Backspace", "zoom out by one"], ["Escape", "zoom out, close"],
  ["m", "menu of the frame, as the right mouse button"], ["r", "reset everything but the view"], ["?", "this list"],
  ["drag, click", "on the timeline: a window, an instant; double click: the whole run"],
];

export function headerOf(profile: Profile) {
  const { head } = profile, { run } = head;
  document.title = head.title ? `${head.title} - tidemark` : `${head.command} - tidemark`;
  byId("title").textContent = head.title || head.command;
  byId("title").title = head.command;
  const facts = byId("facts");
  const fact = (text: string, kind = "", title = "") => facts.append(element("li", { class: kind || undefined, title: title || undefined }, text));
  if (head.title) fact(head.command);
  if (run.pid) fact(`pid ${run.pid}`);
  fact(`${humanDuration(run.duration_ns)}, ${head.ending}`, run.complete ? "" : "warn");
  if (profile.sampled) {
    fact(`sampled every ${humanBytes(run.sample_bytes)}: estimates, 95 % intervals in parentheses`, "warn",
         "Every number is an estimate. The interval holds the truth in 95 of 100 cases; small numbers are vague.");
  } else {
    fact("complete recording: exact numbers");
  }
  const lost = Object.values(run.events).reduce((all, kind) => all + kind.dropped + kind.skipped, 0);
  fact(head.losses, lost > 0 ? "warn" : "good", "observed = recorded + dropped + skipped; what was lost is in no number of this page");
  if (head.unwinding !== null) {
    const { unwinding } = run;
    const perfect = unwinding !== null && unwinding.truncated + unwinding.frame_pointer_guesses + unwinding.wrong === 0;
    fact(`stacks: ${head.unwinding}`, perfect ? "good" : "warn");
  }
  const unnamed = unnamedShare(profile);
  if (unnamed > 0.001) fact(`${(100 * unnamed).toFixed(1)} % of frames have no symbol`, unnamed > 0.2 ? "warn" : "",
                            "Of the frames of the call tree. Debug packages (-dbgsym) give them names.");
  if (run.bypassed) fact("the program brings its own malloc: nothing was seen", "warn");
  if (head.nodes.joined > 0) {
    fact(`${humanCount(head.nodes.joined)} of ${humanCount(head.nodes.all)} small frames are joined`, "",
         "The smallest frames were joined to \"(N more)\" to keep the page small. All sums are exact; totals of functions that occur in joined frames are not.");
  }
  const warnings = byId("warnings");
  warnings.hidden = head.problems.length === 0;
  warnings.textContent = head.problems.join("\n");
}

function unnamedShare({ tree, functions }: Profile): number {
  let unnamed = 0;
  for (let i = 1; i < tree.fn.length; i++) if (!functions.known[tree.fn[i]!]) unnamed++;
  return tree.fn.length > 1 ? unnamed / (tree.fn.length - 1) : 0;
}
