// Memory over time, with a brush: a drag selects a window, a click an instant. Windows begin and end where slices do,
// because the trace's sums are kept per slice. Must not: know what a window is used for.
import uPlot from "uplot";
import { Profile } from "./decode.js";
import { humanBytes, humanDuration } from "./numbers.js";
import { Window } from "./selection.js";

const RATE_POINTS = 8;
const BINARY_STEPS = Array.from({ length: 60 }, (_, power) => 2 ** power);

export interface TimelineEvents { select(window: Window | null): void }

function seriesOf(profile: Profile): { data: uPlot.AlignedData; hasRss: boolean } {
  const { points, head } = profile, count = points.live.length;
  const span = Math.max(head.last_ns - head.first_ns, 1), step = span / count;
  const times: number[] = [], highest: (number | null)[] = [], rate: (number | null)[] = [];
  for (let i = 0; i < count; i++) {
    times.push((head.first_ns + step * (i + 0.5)) / 1e9);
    highest.push(points.highest[i]!);
    // A rate over few blocks is noise: averaged over a slice's worth of points.
    const first = i - i % RATE_POINTS;
    let allocated = 0;
    for (let k = first; k < Math.min(first + RATE_POINTS, count); k++) allocated += points.allocated[k]!;
    rate.push(allocated / (RATE_POINTS * step / 1e9));
  }
  // Samples of the resident set have their own times: each goes to the nearest point.
  const rss: (number | null)[] = new Array(count).fill(null);
  for (const [ns, bytes] of head.memory) {
    const at = Math.round((ns - head.first_ns) / step - 0.5);
    if (at >= -count && at < 2 * count) rss[Math.min(Math.max(at, 0), count - 1)] = bytes;
  }
  return { data: [times, highest, rss, rate] as uPlot.AlignedData, hasRss: head.memory.length > 0 };
}

export class Timeline {
  private plot: uPlot | null = null;
  private window: Window | null = null;
  private readonly data: uPlot.AlignedData;
  private readonly hasRss: boolean;

  constructor(private readonly box: HTMLElement, private readonly profile: Profile, private readonly events: TimelineEvents) {
    const { data, hasRss } = seriesOf(profile);
    this.data = data;
    this.hasRss = hasRss;
    new ResizeObserver(() => this.plot?.setSize({ width: box.clientWidth, height: box.clientHeight })).observe(box);
  }

  private secondsAt(slice: number): number { return this.profile.head.slices.bounds_ns[slice]! / 1e9; }

  private sliceAt(seconds: number): number {
    const bounds = this.profile.head.slices.bounds_ns, ns = seconds * 1e9;
    let at = 0;
    while (at + 2 < bounds.length && bounds[at + 1]! <= ns) at++;
    return at;
  }

  // Made anew for other colours: uPlot keeps those it was made with.
  make() {
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false },
                   font: '11px system-ui, "DejaVu Sans", sans-serif' };
    const { head } = this.profile;
    this.plot = new uPlot({
      width: Math.max(this.box.clientWidth, 100), height: Math.max(this.box.clientHeight, 60),
      padding: [6, 4, 0, 0], legend: { show: false }, cursor: { drag: { x: true, y: false, setScale: false }, y: false },
      scales: { x: { time: false, range: [head.first_ns / 1e9, Math.max(head.last_ns, head.first_ns + 1) / 1e9] },
                y: { range: (_, __, most) => [0, (most || 1) * 1.08] }, rate: { range: (_, __, most) => [0, (most || 1) * 1.15] } },
      axes: [
        { ...axis, size: 22, gap: 3, values: (_, ticks) => ticks.map((t) => (t === 0 ? "0" : humanDuration(t * 1e9))) },
        { ...axis, scale: "y", incrs: BINARY_STEPS, size: 68, gap: 4, space: 26, values: (_, ticks) => ticks.map((t) => humanBytes(t)) },
        { ...axis, scale: "rate", incrs: BINARY_STEPS, side: 1, size: 84, gap: 4, space: 26, grid: { show: false }, stroke: colour("--rate"),
          values: (_, ticks) => ticks.map((t) => `${humanBytes(t)}/s`) },
      ],
      series: [
        {},
        { label: "live", scale: "y", stroke: colour("--live"), width: 1.5, fill: `${colour("--live")}33`, points: { show: false } },
        { label: "resident set", scale: "y", stroke: colour("--rss"), width: 1.2, dash: [5, 3], spanGaps: true, show: this.hasRss,
          points: { show: false } },
        { label: "allocated per second", scale: "rate", stroke: `${colour("--rate")}aa`, width: 1, fill: `${colour("--rate")}22`,
          paths: uPlot.paths.stepped!({ align: 1 }), points: { show: false } },
      ],
      hooks: { setSelect: [(plot) => this.onSelect(plot)], draw: [(plot) => this.onDraw(plot)] },
    }, this.data, this.box);
    const { over } = this.plot;
    let pressedAt = 0;
    over.addEventListener("mousedown", (event) => { pressedAt = event.clientX; });
    // uPlot tells of drags only.
    over.addEventListener("click", (event) => {
      if (Math.abs(event.clientX - pressedAt) > 2 || event.detail > 1) return;
      const seconds = this.plot!.posToVal(event.clientX - over.getBoundingClientRect().left, "x");
      this.events.select({ from: 0, to: this.sliceAt(seconds) + 1, instant: true });
    });
    over.addEventListener("dblclick", () => this.events.select(null));
    this.show(this.window);
  }

  private onSelect(plot: uPlot) {
    const { left, width } = plot.select;
    if (this.showing || width < 3) return;
    const from = this.sliceAt(plot.posToVal(left, "x")), last = this.sliceAt(plot.posToVal(left + width, "x"));
    this.events.select({ from, to: Math.max(last, from) + 1, instant: false });
  }
  private showing = false;  // what is drawn here is no choice of anybody

  show(window: Window | null) {
    this.window = window;
    const { plot } = this;
    if (!plot) return;
    this.showing = true;
    if (!window) plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    else {
      const left = window.instant ? 0 : plot.valToPos(this.secondsAt(window.from), "x");
      const right = plot.valToPos(this.secondsAt(window.to), "x");
      plot.setSelect({ left: window.instant ? Math.max(right - 1, 0) : left, top: 0,
                       width: window.instant ? 2 : Math.max(right - left, 2), height: plot.over.clientHeight }, false);
    }
    this.showing = false;
  }

  // Where the peak is, and the marks that the program made.
  private onDraw(plot: uPlot) {
    const style = getComputedStyle(document.documentElement), { ctx, bbox } = plot, { head } = this.profile;
    const scale = window.devicePixelRatio || 1;
    ctx.save();
    ctx.font = `${11 * scale}px system-ui, "DejaVu Sans", sans-serif`;
    ctx.textBaseline = "top";
    const line = (seconds: number, text: string, colour: string, dash: number[]) => {
      const x = plot.valToPos(seconds, "x", true);
      if (!(x >= bbox.left && x <= bbox.left + bbox.width)) return;
      ctx.strokeStyle = ctx.fillStyle = colour;
      ctx.setLineDash(dash.map((n) => n * scale));
      ctx.lineWidth = 1.2 * scale;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(text).width, right = x + width + 6 * scale > bbox.left + bbox.width;
      ctx.fillText(text, right ? x - width - 4 * scale : x + 4 * scale, bbox.top + 2 * scale);
    };
    for (const [ns, text] of head.marks.slice(0, 60)) line(ns / 1e9, text.slice(0, 24), style.getPropertyValue("--soft").trim(), [2, 3]);
    line(this.secondsAt(head.slices.peak), "peak", style.getPropertyValue("--peak").trim(), [4, 3]);
    ctx.restore();
  }
}
