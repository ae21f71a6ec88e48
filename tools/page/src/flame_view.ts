// One flame graph on a canvas as large as what can be seen of it: a long graph scrolls, it does not grow the canvas.
//
// Upwards (flame) or downwards (icicle). Pointer and keyboard do the same; what has the keyboard's attention is told to
// the status line. Must not: decide what a click means; the page does.
import { Colours } from "./colours.js";
import { element } from "./dom.js";
import { Box, View, layOut, pathTo } from "./layout.js";
import { Source } from "./sources.js";

const ROW = 19, GAP = 1, PAD = 4, FONT = '12px ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace';

export interface FlameEvents {
  label(source: Source, box: Box): string;
  zoom(source: Source, node: number): void;
  point(source: Source, box: Box | null, x: number, y: number): void;
  menu(source: Source, box: Box, x: number, y: number): void;
  attend(source: Source, box: Box): void;
}

export class FlameView {
  readonly box = element("div", { class: "graph" });
  private readonly canvas = element("canvas", { tabindex: "0", role: "application", "aria-roledescription": "flame graph" });
  private readonly sizer = element("div", { class: "sizer" });
  private boxes: Box[] = [];
  private byRow: Box[][] = [];
  private attended: Box | null = null;
  private hovered: Box | null = null;
  private width = 0;
  private height = 0;
  private cell = 7.2;
  private hits: ((fn: number) => boolean) | null = null;
  zoomed = 0;

  constructor(private source: Source, private colours: Colours, private readonly upwards: boolean, label: string,
              private readonly events: FlameEvents) {
    this.canvas.setAttribute("aria-label", `${label}. Arrow keys move, Enter zooms, Escape zooms out, M opens a menu.`);
    this.box.append(this.sizer, this.canvas);
    this.box.addEventListener("scroll", () => this.draw());
    this.canvas.addEventListener("mousemove", (event) => this.hover(event));
    this.canvas.addEventListener("mouseleave", () => {
      this.hovered = null;
      this.events.point(this.source, null, 0, 0);
      this.draw();
    });
    this.canvas.addEventListener("click", (event) => {
      const found = this.at(event);
      if (found && !found.more) this.events.zoom(this.source, found.node);
    });
    this.canvas.addEventListener("contextmenu", (event) => {
      const found = this.at(event);
      if (!found || found.more) return;
      event.preventDefault();
      this.events.menu(this.source, found, event.clientX, event.clientY);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => this.draw());
    new ResizeObserver(() => this.layOut(this.view)).observe(this.box);
  }

  private view: View = { zoom: 0, pixels: 0, leastFraction: 0 };

  show(source: Source, colours: Colours, zoom: number, leastFraction: number, hits: ((fn: number) => boolean) | null) {
    const path = this.attended && this.source !== source ? null : this.attended;
    this.source = source;
    this.colours = colours;
    this.hits = hits;
    this.zoomed = zoom;
    this.attended = path;
    this.layOut({ zoom, pixels: 0, leastFraction }, true);
  }

  private layOut(view: View, reveal = false) {
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    if (this.width === 0) return;
    this.view = { ...view, pixels: this.width };
    this.boxes = layOut(this.source, this.view);
    this.byRow = [];
    for (const box of this.boxes) (this.byRow[box.row] ??= []).push(box);
    for (const row of this.byRow) row.sort((a, b) => a.x - b.x);
    const full = this.fullHeight();
    this.sizer.style.height = `${full}px`;
    if (reveal) this.reveal(pathTo(this.source, this.zoomed).length - 1);
    else if (this.upwards && this.box.scrollTop === 0) this.box.scrollTop = full;
    if (this.attended) this.attended = this.find(this.attended.node, this.attended.more) ?? null;
    this.draw();
  }

  private fullHeight() { return this.byRow.length * ROW + 2 * PAD; }
  private yOf(row: number) {
    const y = PAD + row * ROW;
    return this.upwards ? Math.max(this.fullHeight(), this.height) - y - ROW : y;
  }
  private find(node: number, more: number) {
    return this.boxes.find((box) => box.node === node && (box.more > 0) === (more > 0));
  }

  // Scrolls until a row can be seen, with room for what is behind it.
  private reveal(row: number) {
    const y = this.yOf(row), top = this.box.scrollTop;
    if (this.upwards) {
      if (y + ROW > top + this.height || y < top + ROW || row < 3) this.box.scrollTop = y + 4 * ROW - this.height;
    } else if (y < top || y + 2 * ROW > top + this.height) {
      this.box.scrollTop = Math.max(0, y - 3 * ROW);
    }
  }

  // The whole of it, for printing; otherwise what can be seen.
  draw(whole = false) {
    const full = Math.min(Math.max(this.fullHeight(), this.height), 8000);
    const scale = whole ? 2 : window.devicePixelRatio || 1, height = whole ? full : this.height;
    const { canvas } = this;
    if (canvas.width !== Math.round(this.width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(this.width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.width = `${this.width}px`;
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d")!;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const ink = colour("--ink"), soft = colour("--soft"), hit = colour("--hit"), root = colour("--root");
    const joined = colour("--joined"), accent = colour("--accent");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.width, height);
    context.font = FONT;
    context.textBaseline = "middle";
    this.cell = context.measureText("0").width;
    const top = whole ? 0 : this.box.scrollTop;
    for (let row = 0; row < this.byRow.length; row++) {
      const y = this.yOf(row) - top;
      if (y > height || y + ROW < 0) continue;
      for (const box of this.byRow[row]!) {
        const x = box.x * this.width, width = Math.max(box.width * this.width - GAP, 0.5);
        const fn = this.source.fn(box.node);
        const isRoot = box.node === this.source.root && fn === 0;
        const isHit = !box.more && !isRoot && this.hits !== null && this.hits(fn);
        context.globalAlpha = box.above ? 0.55 : 1;
        context.fillStyle = isHit ? hit : box.more || (fn === 0 && !isRoot) ? joined : isRoot ? root : this.colours.of(fn);
        context.fillRect(x, y, width, ROW - GAP);
        if (box === this.hovered || box === this.attended && document.activeElement === this.canvas) {
          context.strokeStyle = box === this.attended ? accent : ink;
          context.lineWidth = box === this.attended ? 2 : 1.2;
          context.strokeRect(x + 1, y + 1, Math.max(width - 2, 1), ROW - GAP - 2);
        }
        const room = Math.floor((width - 2 * PAD) / this.cell);
        if (room < 3) continue;
        const text = this.events.label(this.source, box);
        context.fillStyle = isHit ? "#ffffff" : box.more || (fn === 0 && !isRoot) ? soft : ink;
        context.fillText(text.length > room ? `${text.slice(0, room - 1)}\u2026` : text, x + PAD, y + ROW / 2);
      }
    }
    context.globalAlpha = 1;
  }

  private at(event: MouseEvent): Box | null {
    const area = this.canvas.getBoundingClientRect();
    const y = event.clientY - area.top + this.box.scrollTop, x = (event.clientX - area.left) / this.width;
    const down = this.upwards ? Math.max(this.fullHeight(), this.height) - y : y;
    const row = this.byRow[Math.floor((down - PAD) / ROW)];
    return row?.find((box) => x >= box.x && x < box.x + Math.max(box.width, 1 / this.width)) ?? null;
  }

  private hover(event: MouseEvent) {
    const found = this.at(event);
    this.events.point(this.source, found, event.clientX, event.clientY);
    if (found === this.hovered) return;
    this.hovered = found;
    this.draw();
  }

  // Shows and tells a box; used for the keyboard and for search.
  attend(box: Box) {
    this.attended = box;
    this.reveal(box.row);
    this.events.attend(this.source, box);
    this.draw();
  }
  attendNode(node: number) {
    const box = this.find(node, 0);
    if (box) this.attend(box);
    return box !== undefined;
  }

  private key(event: KeyboardEvent) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const current = this.attended ?? this.find(this.zoomed, 0);
    if (!current) return;
    const path = pathTo(this.source, current.node);
    const towardsRoot = this.upwards ? "ArrowDown" : "ArrowUp", away = this.upwards ? "ArrowUp" : "ArrowDown";
    const row = this.byRow[current.row]!, place = row.indexOf(current);
    let next: Box | undefined;
    if (!this.attended && event.key.startsWith("Arrow")) next = current;
    else if (event.key === towardsRoot) {
      next = current.more ? this.find(current.node, 0) : this.find(path[path.length - 2] ?? current.node, 0);
    } else if (event.key === away) {
      const below = (this.byRow[current.row + 1] ?? []).filter(
        (box) => box.x >= current.x - 1e-9 && box.x < current.x + current.width);
      next = current.more ? undefined : below.sort((a, b) => b.value - a.value)[0];
    } else if (event.key === "ArrowLeft") next = row[place - 1];
    else if (event.key === "ArrowRight") next = row[place + 1];
    else if (event.key === "Home") next = this.find(this.source.root, 0);
    else if (event.key === "Enter" || event.key === " ") {
      if (!current.more) this.events.zoom(this.source, current.node);
    } else if (event.key === "Escape") this.events.zoom(this.source, this.source.root);
    else if (event.key === "Backspace") this.events.zoom(this.source, this.source.parent(this.zoomed));
    else if (event.key === "m" || event.key === "ContextMenu" || (event.key === "F10" && event.shiftKey)) {
      if (!current.more) {
        const area = this.canvas.getBoundingClientRect();
        this.events.menu(this.source, current, area.left + (current.x + current.width / 2) * this.width,
                         area.top + this.yOf(current.row) - this.box.scrollTop + ROW);
      }
    } else return;
    event.preventDefault();
    event.stopPropagation();
    if (next) this.attend(next);
  }

  focus() { this.canvas.focus({ preventScroll: true }); }
}
