// The page itself: what is in the state is shown, what somebody does changes the state. Every view is made by show(),
// so that a link, the back button and a click come the same way. Must not: compute numbers; model.ts does.
import { Colours } from "./colours.js";
import { Profile } from "./decode.js";
import { factsOf, labelOf, nameOf, sentenceOf, stackText, suppressionText, tooltipOf } from "./details.js";
import { byId, copyText, element } from "./dom.js";
import { interval95, roundedOf, valueOf } from "./estimate.js";
import { FlameEvents, FlameView } from "./flame_view.js";
import { headerOf, KEYS } from "./header.js";
import { Box, pathTo } from "./layout.js";
import { Model } from "./model.js";
import { humanAmount, humanBytes, humanCount, humanDuration, humanInterval, humanPercent } from "./numbers.js";
import { Pattern, compile, matches } from "./search.js";
import { Metric, Window, amountAt, countsBlocks, isWholeRun, sumOf } from "./selection.js";
import { Source } from "./sources.js";
import { State, VIEWS, ViewName, freshState, fromFragment, toFragment } from "./state.js";
import { Row, TableOptions, rowsOf, tableOf } from "./tables.js";
import { Timeline } from "./timeline.js";

const VIEW_TITLES: Record<ViewName, string> = {
  icicle: "Icicle", flame: "Flame", inverted: "Inverted", sandwich: "Sandwich", functions: "Functions", sites: "Sites",
  threads: "Threads", sizes: "Sizes",
};

export class App {
  private readonly model: Model;
  private readonly fresh: State;
  private state: State;
  private readonly timeline: Timeline;
  private flames: FlameView[] = [];
  private shownView = "";
  private colours: Colours;
  private pattern: Pattern | null = null;
  private found: number[] = [];
  private foundAt = -1;
  private written: string | null = null;
  private readonly darkQuery = window.matchMedia("(prefers-color-scheme: dark)");

  constructor(private readonly profile: Profile) {
    this.model = new Model(profile);
    this.fresh = freshState(profile.head.metrics.includes(profile.head.metric) ? profile.head.metric : profile.head.metrics[0]!);
    this.state = this.read();
    this.colours = new Colours(this.model.names, this.isDark());
    headerOf(profile);
    this.makeControls();
    this.timeline = new Timeline(byId("plot"), profile, { select: (window) => this.select(window) });
    this.applyTheme();
    this.show();
  }

  private read(): State {
    return fromFragment(location.hash, this.fresh, {
      metrics: this.profile.head.metrics, functions: this.model.names.name.length,
      slices: this.profile.head.slices.bounds_ns.length - 1,
    });
  }
  private isDark() { return this.state.theme === "dark" || (this.state.theme === "auto" && this.darkQuery.matches); }
  private applyTheme(forcedLight = false) {
    const dark = this.isDark() && !forcedLight;
    document.documentElement.classList.toggle("dark", dark);
    this.colours = new Colours(this.model.names, dark);
    this.timeline.make();
  }

  // `quietly`: without an entry in the browser's history.
  private change(change: Partial<State>, quietly = false) {
    const before = this.state;
    this.state = { ...before, ...change };
    // Numbers of places in another tree mean nothing in this one; functions do, and are looked for.
    if (before.theme !== this.state.theme) this.applyTheme();
    this.write(quietly);
    this.show();
  }
  private write(quietly: boolean) {
    const fragment = toFragment(this.state, this.fresh);
    this.written = fragment;
    if (`#${fragment}` === location.hash || (fragment === "" && location.hash === "")) return;
    history[quietly ? "replaceState" : "pushState"](null, "", fragment === "" ? location.pathname + location.search : `#${fragment}`);
  }
  private select(window: Window | null) {
    if (!window || isWholeRun(this.profile, window)) this.change({ from: -1, to: -1, instant: false });
    else {
      const metric = window.instant && !["live", "peak"].includes(this.state.metric) ? "live" : this.state.metric;
      this.change({ ...window, metric });
    }
  }

  private timeText(slices: number): string {
    return humanDuration(this.profile.head.slices.bounds_ns[slices]!);
  }

  // --- Controls ------------------------------------------------------------------------------------------------------

  private makeControls() {
    const slices = this.profile.head.slices.bounds_ns.length - 1;
    for (const metric of this.profile.head.metrics as Metric[]) {
      byId("metrics").append(element("button", {
        type: "button", class: "metric", role: "radio", id: `metric-${metric}`, click: () => this.change({ metric }),
        keydown: ((event: KeyboardEvent) => {
          const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
          if (!step) return;
          const all = this.profile.head.metrics, next = all[(all.indexOf(metric) + step + all.length) % all.length]!;
          this.change({ metric: next });
          byId(`metric-${next}`).focus();
          event.preventDefault();
        }) as EventListener,
      }, element("span", { class: "name" }), element("span", { class: "value" }), element("span", { class: "range" })));
    }
    for (const view of VIEWS) {
      byId("tabs").append(element("button", {
        type: "button", role: "tab", id: `tab-${view}`, "aria-controls": "view", click: () => this.openView(view),
        keydown: ((event: KeyboardEvent) => {
          const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
          if (!step) return;
          const next = VIEWS[(VIEWS.indexOf(view) + step + VIEWS.length) % VIEWS.length]!;
          this.openView(next);
          byId(`tab-${next}`).focus();
          event.preventDefault();
        }) as EventListener,
      }, VIEW_TITLES[view]));
    }
    const from = byId<HTMLInputElement>("from"), to = byId<HTMLInputElement>("to"), instant = byId<HTMLInputElement>("instant");
    from.max = String(slices - 1);
    to.max = String(slices);
    to.min = "1";
    const onRange = (moved: HTMLInputElement) => {
      let a = Number(from.value), b = Number(to.value);
      if (instant.checked) a = 0;
      else if (moved === from) b = Math.max(b, a + 1);
      else a = Math.min(a, b - 1);
      this.select({ from: a, to: b, instant: instant.checked });
    };
    for (const input of [from, to, instant]) input.addEventListener("input", () => onRange(input));
    byId("wholeRun").addEventListener("click", () => this.select(null));
    const search = byId<HTMLInputElement>("search");
    search.addEventListener("input", () => this.change({ search: search.value }, true));
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") this.change({ search: "" });
      event.stopPropagation();
    });
    byId("next").addEventListener("click", () => this.step(1));
    byId("previous").addEventListener("click", () => this.step(-1));
    for (const id of ["mine", "recursion"] as const) {
      byId<HTMLInputElement>(id).addEventListener("change", (event) =>
        this.change({ folding: { ...this.state.folding, [id]: (event.target as HTMLInputElement).checked } }));
    }
    byId("below").addEventListener("change", (event) => this.change({ below: Number((event.target as HTMLSelectElement).value) }));
    byId("theme").addEventListener("change", (event) => this.change({ theme: (event.target as HTMLSelectElement).value }));
    byId("link").addEventListener("click", async () => {
      await copyText(location.href);
      this.say("the address of this view was copied");
    });
    byId("help").addEventListener("click", () => byId<HTMLDialogElement>("keys").showModal());
    const list = element("dl");
    for (const [keys, what] of KEYS) list.append(element("dt", {}, keys), element("dd", {}, what));
    byId("keys").append(element("h2", {}, "Keys"), list,
                        element("form", { method: "dialog" }, element("button", {}, "close")));
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("click", (event) => {
      if (!byId("menu").contains(event.target as Node)) this.closeMenu();
    });
    window.addEventListener("hashchange", () => this.restore());
    window.addEventListener("popstate", () => this.restore());
    this.darkQuery.addEventListener("change", () => { this.applyTheme(); this.show(); });
    window.addEventListener("beforeprint", () => {
      this.applyTheme(true);
      this.show();
      for (const flame of this.flames) flame.draw(true);
    });
    window.addEventListener("afterprint", () => { this.applyTheme(); this.show(); });
  }

  private restore() {
    if (location.hash.replace(/^#/, "") === this.written) return;
    this.written = null;
    const theme = this.state.theme;
    this.state = this.read();
    if (theme !== this.state.theme) this.applyTheme();
    this.show();
  }

  private openView(view: ViewName) {
    // A sandwich needs a filling: what is zoomed into, else the heaviest function.
    const fn = view === "sandwich" && !this.state.fn ? this.state.zoom[this.state.zoom.length - 1] || this.heaviest() : this.state.fn;
    this.change({ view, fn, zoom: view === "icicle" || view === "flame" ? this.treeZoom() : [], sort: "" });
  }
  private treeZoom() { return this.state.view === "icicle" || this.state.view === "flame" ? this.state.zoom : []; }
  private heaviest(): number {
    const { self } = this.model.functions(this.state), amounts = this.model.inBlocks(this.state) ? self.blocks : self.bytes;
    let best = 0;
    for (let fn = 1; fn < amounts.seen.length; fn++) {
      if (best === 0 || valueOf(amountAt(amounts, fn)) > valueOf(amountAt(amounts, best))) best = fn;
    }
    return best;
  }

  private key(event: KeyboardEvent) {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || byId<HTMLDialogElement>("keys").open) return;
    if (target.matches("input[type=search], select")) return;
    const number = Number(event.key);
    if (number >= 1 && number <= VIEWS.length) this.openView(VIEWS[number - 1]!);
    else if (event.key === "/") byId("search").focus();
    else if (event.key === "n") this.step(1);
    else if (event.key === "N") this.step(-1);
    else if (event.key === "?") byId<HTMLDialogElement>("keys").showModal();
    else if (event.key === "r") this.change({ ...this.fresh, theme: this.state.theme, view: this.state.view, fn: this.state.fn });
    else if (event.key === "g") this.flames[0]?.focus();
    else if (event.key === "Escape") {
      if (!byId("menu").hidden) this.closeMenu();
      else if (this.state.zoom.length) this.change({ zoom: [] });
    } else return;
    event.preventDefault();
  }

  say(text: string) { byId("status").textContent = text; }

  // --- Showing -------------------------------------------------------------------------------------------------------

  private show() {
    if (this.state.view === "sandwich" && !this.state.fn) this.state = { ...this.state, fn: this.heaviest() };
    const { state } = this, window = this.model.window(state);
    this.closeMenu();
    for (const metric of this.profile.head.metrics as Metric[]) {
      const button = byId(`metric-${metric}`), total = this.model.total(state, metric), blocks = countsBlocks(metric);
      const chosen = metric === state.metric;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      button.children[0]!.textContent = this.model.title(state, metric, (slices) => this.timeText(slices));
      button.children[1]!.textContent = humanAmount(roundedOf(total), !blocks);
      (button.children[1] as HTMLElement).title = `${humanCount(roundedOf(total))} ${blocks ? "blocks" : "bytes"}`;
      (button.children[1] as HTMLElement).dataset["exact"] = String(roundedOf(total));
      const interval = humanInterval(interval95(total), !blocks);
      button.children[2]!.textContent = interval && `(${interval})`;
    }
    for (const view of VIEWS) {
      const tab = byId(`tab-${view}`), chosen = view === state.view;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    byId("view").setAttribute("aria-labelledby", `tab-${state.view}`);
    const whole = isWholeRun(this.profile, window);
    byId<HTMLInputElement>("from").value = String(window.from);
    byId<HTMLInputElement>("to").value = String(window.to);
    byId<HTMLInputElement>("from").disabled = window.instant;
    byId<HTMLInputElement>("instant").checked = window.instant;
    byId("from").setAttribute("aria-valuetext", this.timeText(window.from));
    byId("to").setAttribute("aria-valuetext", this.timeText(window.to));
    byId("windowText").textContent = whole ? `the whole run, ${humanDuration(this.profile.head.last_ns)}` : window.instant
      ? `live at ${this.timeText(window.to)}` : `${this.timeText(window.from)} to ${this.timeText(window.to)}`;
    byId("wholeRun").hidden = whole;
    this.timeline.show(whole ? null : window);
    const search = byId<HTMLInputElement>("search");
    if (search.value !== state.search) search.value = state.search;
    byId<HTMLInputElement>("mine").checked = state.folding.mine;
    byId<HTMLInputElement>("recursion").checked = state.folding.recursion;
    byId<HTMLSelectElement>("below").value = String(state.below);
    byId<HTMLSelectElement>("theme").value = state.theme;
    this.showChips();
    this.showSearch();
    this.showView();
  }

  private showChips() {
    const { folding } = this.state, chips: Node[] = [];
    const chip = (text: string, list: "hidden" | "removed" | "focused", fn: number) => {
      const name = this.model.names.name[fn] ?? "";
      chips.push(element("span", { class: "chip", title: name }, element("span", {}, `${text} ${name}`), element("button", {
        type: "button", "aria-label": `no longer ${text} ${name}`,
        click: () => this.change({ folding: { ...folding, [list]: folding[list].filter((other) => other !== fn) } }),
      }, "\u00d7")));
    };
    for (const fn of folding.focused) chip("only through", "focused", fn);
    for (const fn of folding.removed) chip("without", "removed", fn);
    for (const fn of folding.hidden) chip("hidden", "hidden", fn);
    byId("chips").replaceChildren(...chips);
  }

  private showSearch() {
    this.pattern = compile(this.state.search, this.model.names);
    const search = byId("search"), found = byId("found");
    search.setAttribute("aria-invalid", String(Boolean(this.pattern?.problem)));
    this.found = [];
    if (!this.pattern) {
      found.textContent = "";
    } else if (this.pattern.problem) {
      found.textContent = "not a regular expression";
      found.title = this.pattern.problem;
    } else {
      const tree = this.model.tree(this.state), { total } = this.model.nodes(this.state);
      const amounts = this.model.inBlocks(this.state) ? total.blocks : total.bytes;
      this.found = matches(tree, this.pattern);
      let sum = 0;
      for (const node of this.found) sum += roundedOf(amountAt(amounts, node));
      found.textContent = `${humanPercent(sum, valueOf(amountAt(amounts, 0)))}, ${humanAmount(sum, !this.model.inBlocks(this.state))}`;
      found.title = `${humanCount(sum)} ${this.model.inBlocks(this.state) ? "blocks" : "bytes"} through what matches; each stack counts once`;
      found.dataset["exact"] = String(sum);
    }
  }

  // The next match of a graph, heaviest first; of a table, the next row.
  private step(by: number) {
    if (!this.pattern || this.pattern.problem) return;
    const { view } = this.state;
    if (view !== "icicle" && view !== "flame") {
      const rows = Array.from(byId("view").querySelectorAll("tr.hit"));
      if (rows.length === 0) return this.say("nothing here matches");
      this.foundAt = (this.foundAt + by + rows.length) % rows.length;
      const row = rows[this.foundAt]!;
      row.scrollIntoView({ block: "center" });
      row.querySelector("button")?.focus();
      return;
    }
    const source = this.model.whole(this.state);
    const list = this.found.filter((node) => source.value(node) > 0).sort((a, b) => source.value(b) - source.value(a));
    if (list.length === 0) return this.say("nothing matches");
    this.foundAt = (this.foundAt + by + list.length) % list.length;
    const node = list[this.foundAt]!;
    if (!this.flames[0]!.attendNode(node)) {
      // Too small to be seen from here.
      this.zoom(source, node);
      this.flames[0]!.attendNode(node);
    }
    this.say(`match ${this.foundAt + 1} of ${list.length}: ${nameOf(this.model.names, source, node)}, ${humanAmount(source.value(node), !this.model.inBlocks(this.state))}`);
  }

  private readonly flameEvents: FlameEvents = {
    label: (source, box) => labelOf(this.model.names, source, box),
    zoom: (source, node) => this.zoom(source, node),
    point: (source, box, x, y) => this.point(source, box, x, y),
    menu: (source, box, x, y) => this.openMenu(source, box, x, y),
    attend: (source, box) => this.say(sentenceOf(labelOf(this.model.names, source, box), this.facts(source, box))),
  };

  private facts(source: Source, box: Box) {
    return factsOf(this.model.names, source, box, this.model.inBlocks(this.state), source.value(source.root));
  }

  private zoom(source: Source, node: number) {
    if (this.state.view === "sandwich") {
      const fn = source.fn(node);
      if (fn !== 0) this.change({ fn });
      return;
    }
    this.change({ zoom: pathTo(source, node).slice(1).map((at) => source.fn(at)) });
  }

  // The node at the end of a path of functions, or as far as the path can be gone.
  private nodeAt(source: Source, path: number[]): number {
    let node = source.root;
    for (const fn of path) {
      const next = source.children(node).find((child) => source.fn(child) === fn);
      if (next === undefined || !(source.value(next) > 0)) break;
      node = next;
    }
    return node;
  }

  private showView() {
    const { state } = this, { view } = state, main = byId("view");
    const isGraph = ["icicle", "flame", "inverted", "sandwich"].includes(view);
    if (!isGraph) {
      this.flames = [];
      main.replaceChildren(this.table(view));
    } else if (this.shownView !== view) {
      const make = (source: Source, upwards: boolean, label: string) =>
        new FlameView(source, this.colours, upwards, label, this.flameEvents);
      if (view === "sandwich") {
        const callers = make(this.model.callers(state), true, "Callers");
        const callees = make(this.model.callees(state), false, "Callees");
        this.flames = [callers, callees];
        main.replaceChildren(element("div", { class: "half", id: "sandwichOf" }), callers.box,
                             element("div", { class: "half" }, "below: what it calls"), callees.box);
      } else {
        this.flames = [make(view === "inverted" ? this.model.inverted(state) : this.model.whole(state), view === "flame",
                            `${VIEW_TITLES[view]} graph`)];
        main.replaceChildren(this.flames[0]!.box);
      }
    }
    this.shownView = view;
    const hits = this.pattern && !this.pattern.problem ? this.pattern.test : null, least = state.below / 100;
    if (view === "sandwich") {
      const text = state.fn ? `${this.model.names.name[state.fn]}: above who calls it` : "choose a function in the table of functions";
      byId("sandwichOf").textContent = text;
      this.flames[0]!.show(this.model.callers(state), this.colours, 0, least, hits);
      this.flames[1]!.show(this.model.callees(state), this.colours, 0, least, hits);
    } else if (isGraph) {
      const source = view === "inverted" ? this.model.inverted(state) : this.model.whole(state);
      const node = this.nodeAt(source, state.zoom);
      this.flames[0]!.show(source, this.colours, node, least, hits);
      this.showCrumbs(source, node);
    }
    if (!isGraph || view === "sandwich") byId("crumbs").replaceChildren();
  }

  private showCrumbs(source: Source, node: number) {
    const path = pathTo(source, node);
    byId("crumbs").replaceChildren(...(path.length < 2 ? [] : path.map((at) => {
      const name = nameOf(this.model.names, source, at);
      return element("li", {}, element("button", { type: "button", title: name, click: () => this.zoom(source, at) }, name));
    })));
  }

  private table(view: ViewName): HTMLElement {
    const { state, model, profile } = this, inBlocks = model.inBlocks(state), { names } = model;
    const total = (amounts: { bytes: any; blocks: any }) => valueOf(sumOf(inBlocks ? amounts.blocks : amounts.bytes));
    const hit = (fn: number) => Boolean(this.pattern && !this.pattern.problem && this.pattern.test(fn));
    const metricTitle = model.title(state, model.metric(state), (slices) => this.timeText(slices));
    const base = { sampled: profile.sampled, inBlocks, sort: state.sort, onSort: (sort: string) => this.change({ sort }), selfTitle: "bytes", bars: false };
    const make = (rows: Row[], options: Omit<TableOptions, keyof typeof base | "caption"> & Partial<TableOptions>, what: string, note = "") =>
      tableOf(rows, { ...base, ...options, caption: `${metricTitle}, by ${what}; ${humanCount(rows.length)} rows${note && `. ${note}`}` });
    if (view === "functions") {
      const { self, total: totals } = model.functions(state);
      const rows = rowsOf(self, totals, (fn) => ({
        name: fn === 0 ? "(joined small frames)" : names.name[fn]!, detail: names.module[fn]!, hit: hit(fn),
        open: fn === 0 ? null : () => this.change({ view: "sandwich", fn, sort: "", zoom: [] }),
      }));
      const joined = profile.head.nodes.joined;
      return make(rows, { nameTitle: "function", detailTitle: "module", selfTitle: "self", whole: total(self) }, "function",
                  joined ? `Totals leave out the way through ${humanCount(joined)} joined small frames; self is exact` : "");
    }
    if (view === "sites") {
      const usage = model.sites(state), { sites } = profile;
      const rows = rowsOf(usage, null, (site) => {
        const fn = sites.fn[site]!, file = sites.file[site]!, line = sites.line[site]!;
        const place = file && `${file.slice(file.lastIndexOf("/") + 1)}${line ? `:${line}` : ""}`;
        return { name: names.name[fn]!, detail: [place, names.module[fn]].filter(Boolean).join("  "), hit: hit(fn),
                 open: () => this.change({ view: "sandwich", fn, sort: "", zoom: [] }) };
      });
      return make(rows, { nameTitle: "site", detailTitle: "place, module", whole: total(usage) }, "site: the innermost function that is not an allocator's");
    }
    const folded = "Counts every stack, whatever is hidden or removed";
    if (view === "threads") {
      const usage = model.threads(state);
      const rows = rowsOf(usage, null, (i) => {
        const [serial, tid, name] = profile.head.threads[i]!;
        return { name: serial === 0 ? "(all further threads)" : name || "(no name)", detail: tid ? String(tid) : "", hit: false, open: null };
      });
      return make(rows, { nameTitle: "thread that allocated", detailTitle: "tid", whole: total(usage) }, "thread", folded);
    }
    const usage = model.sizes(state);
    const rows = rowsOf(usage, null, (i) => {
      const [low, high] = profile.head.sizes[i]!;
      return { name: `${humanBytes(low)} .. ${humanBytes(high)}`, detail: "", hit: false, open: null };
    });
    return make(rows, { nameTitle: "size of block", detailTitle: "", whole: total(usage), bars: true }, "size", folded);
  }

  // --- Tooltip and menu ----------------------------------------------------------------------------------------------

  private point(source: Source, box: Box | null, x: number, y: number) {
    const tip = byId("tip");
    tip.hidden = box === null;
    if (!box) return;
    tip.replaceChildren(...tooltipOf(labelOf(this.model.names, source, box), this.facts(source, box)));
    const { offsetWidth, offsetHeight } = tip;
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - offsetWidth - 8))}px`;
    tip.style.top = `${y + 18 + offsetHeight > innerHeight ? Math.max(4, y - offsetHeight - 12) : y + 18}px`;
  }

  private openMenu(source: Source, box: Box, x: number, y: number) {
    const { names } = this.model, fn = source.fn(box.node), { folding } = this.state, menu = byId("menu");
    const name = nameOf(names, source, box.node), before = document.activeElement as HTMLElement | null;
    const copy = async (text: string, what: string) => {
      await copyText(text);
      this.say(`${what} was copied`);
    };
    const fold = (list: "hidden" | "removed" | "focused") =>
      this.change({ folding: { ...folding, [list]: [...folding[list].filter((other) => other !== fn), fn] }, zoom: [] });
    const real = fn !== 0 && fn < this.profile.functions.name.length;
    const items: [string, () => void][] = [["zoom here", () => this.zoom(source, box.node)]];
    if (fn !== 0) items.push(["callers and callees (sandwich)", () => this.change({ view: "sandwich", fn, zoom: [] })]);
    if (real) {
      items.push(["only stacks through it", () => fold("focused")], ["without stacks through it", () => fold("removed")],
                 ["hide its frame", () => fold("hidden")]);
    }
    items.push(["copy name", () => copy(name, "the name")], ["copy stack", () => copy(stackText(names, source, box.node), "the stack")]);
    if (real) items.push(["copy suppression rule", () => copy(suppressionText(names, fn), "the rule")]);
    menu.replaceChildren(element("li", { class: "title", role: "presentation" }, name), ...items.map(([text, act]) =>
      element("li", { role: "menuitem", tabindex: "-1", click: () => { this.closeMenu(); act(); } }, text)));
    const entries = Array.from(menu.querySelectorAll<HTMLElement>("[role=menuitem]"));
    menu.onkeydown = (event) => {
      const at = entries.indexOf(document.activeElement as HTMLElement);
      if (event.key === "ArrowDown") entries[(at + 1) % entries.length]!.focus();
      else if (event.key === "ArrowUp") entries[(at - 1 + entries.length) % entries.length]!.focus();
      else if (event.key === "Enter" || event.key === " ") entries[at]?.click();
      else if (event.key === "Escape" || event.key === "Tab") {
        this.closeMenu();
        before?.focus({ preventScroll: true });
      } else return;
      event.preventDefault();
      event.stopPropagation();
    };
    byId("tip").hidden = true;
    menu.hidden = false;
    menu.style.left = `${Math.max(4, Math.min(x, innerWidth - menu.offsetWidth - 8))}px`;
    menu.style.top = `${Math.max(4, Math.min(y, innerHeight - menu.offsetHeight - 8))}px`;
    entries[0]!.focus({ preventScroll: true });
  }
  private closeMenu() { byId("menu").hidden = true; }
}
