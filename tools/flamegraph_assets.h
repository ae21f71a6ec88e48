// Style sheet and script that every flame graph carries. Plain text: no name of the profiled program ever gets in here.
#pragma once

namespace tidemark {

inline constexpr const char* kFlamegraphStyle = R"css(
svg { background: #fbfbfa; font: 12px ui-monospace, "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace; }
.page { fill: #fbfbfa; }
.bar { fill: #fbfbfa; }
.rule { fill: #dcdad5; }
text { fill: #22201d; }
.title { font: 600 17px system-ui, "DejaVu Sans", "Liberation Sans", sans-serif; }
.sub, .button, .matched { font: 12px system-ui, "DejaVu Sans", "Liberation Sans", sans-serif; }
.sub { fill: #6b675f; }
.button { fill: #1f5fa8; cursor: pointer; text-anchor: end; }
.button:hover { text-decoration: underline; }
.matched { text-anchor: end; font-weight: 600; fill: #a3195b; }
.f { cursor: pointer; }
.f text { pointer-events: none; }
.f:hover rect { stroke: #22201d; stroke-width: 1.2; }
.f.up rect { opacity: .45; }
.f.off { display: none; }
.f.hit rect { fill: #e0418c; }
.f.hit text { fill: #ffffff; }
.root { fill: #d9d6cf; }
.gone { fill: #e6e4df; }
.gone + text { fill: #6b675f; font-style: italic; }
#query { width: 100%; box-sizing: border-box; font: 12px system-ui, sans-serif; padding: 2px 6px; color: #22201d;
         background: #ffffff; border: 1px solid #c9c6bf; border-radius: 4px; }
@media (prefers-color-scheme: dark) {
  svg { background: #1b1c1f; }
  .page, .bar { fill: #1b1c1f; }
  .rule { fill: #37393e; }
  text { fill: #eceae6; }
  .sub { fill: #a09d97; }
  .button { fill: #7db4f0; }
  .matched { fill: #ff7ab8; }
  .f:hover rect { stroke: #ffffff; }
  .f.hit rect { fill: #c22a74; }
  .root { fill: #45474d; }
  .gone { fill: #2c2e33; }
  .gone + text { fill: #a09d97; }
  #query { color: #eceae6; background: #26282c; border-color: #4a4d54; }
}
)css";

inline constexpr const char* kFlamegraphScript = R"js(
"use strict";
(function () {
  const svg = document.documentElement, pad = 4;
  const head = document.getElementById("head"), detail = document.getElementById("detail");
  const matched = document.getElementById("matched"), query = document.getElementById("query");
  const reset = document.getElementById("reset"), total = Number(svg.getAttribute("data-total"));
  const unit = svg.getAttribute("data-unit"), idle = detail.textContent;
  const frames = Array.from(document.querySelectorAll(".f")).map((g) => {
    const rect = g.querySelector("rect"), text = g.querySelector("text");
    const lines = g.querySelector("title").textContent.split("\n");
    return { g, rect, text, name: lines[0], lines, x: parseFloat(rect.getAttribute("x")),
             w: parseFloat(rect.getAttribute("width")), row: Number(g.getAttribute("data-row")),
             value: Number(g.getAttribute("data-value")) };
  });
  let view = { x: 0, w: 100 }, zoomed = frames[0];
  svg.setAttribute("width", "100%");

  const probe = frames[0].text, kept = probe.textContent;
  probe.textContent = "0".repeat(64);
  const cell = probe.getComputedTextLength() / 64 || 7.3;
  probe.textContent = kept;

  // Drops what is between brackets, the outermost level only, and keeps the brackets.
  function without(name, open, close) {
    let out = "", depth = 0;
    for (let i = 0; i < name.length; ++i) {
      const c = name[i];
      const op = name.startsWith("operator", i - 8) || name.startsWith("operator", i - 9);
      if (c === open && !op) { if (depth++ === 0) out += open; continue; }
      if (c === close && depth > 0 && name[i - 1] !== "-") { if (--depth === 0) out += close; continue; }
      if (depth === 0) out += c;
    }
    return depth === 0 ? out : name;
  }
  // The most telling label that fits: whole name, then without arguments, then without template arguments.
  function fit(name, px) {
    const room = Math.floor((px - 2 * pad) / cell);
    if (room < 3) return "";
    if (name.length <= room) return name;
    let short = name.startsWith("(") || name.startsWith("[") ? name : without(name, "(", ")");
    if (short.length > room) short = without(short, "<", ">");
    if (short.length <= room) return short;
    return short.slice(0, room - 1) + "\u2026";
  }
  function layout() {
    const px = svg.getBoundingClientRect().width || 1200, scale = 100 / view.w, edge = 1e-7;
    for (const f of frames) {
      const up = f.row < zoomed.row && f.x <= view.x + edge && f.x + f.w >= view.x + view.w - edge;
      const inside = f.row >= zoomed.row && f.x >= view.x - edge && f.x + f.w <= view.x + view.w + edge;
      f.g.classList.toggle("up", up);
      f.g.classList.toggle("off", !up && !inside);
      if (!up && !inside) continue;
      const x = up ? 0 : (f.x - view.x) * scale, w = up ? 100 : f.w * scale;
      f.rect.setAttribute("x", x + "%");
      f.rect.setAttribute("width", w + "%");
      f.text.setAttribute("x", x + "%");
      f.text.textContent = fit(f.name, w / 100 * px);
    }
    reset.style.display = zoomed === frames[0] ? "none" : "";
  }
  function zoom(f) {
    zoomed = f;
    view = { x: f.x, w: f.w };
    layout();
  }
  function human(value) {
    if (unit !== "bytes") return value.toLocaleString("en-US") + " " + unit;
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let at = 0, v = value;
    while (v >= 1023.95 && at + 1 < units.length) { v /= 1024; ++at; }
    return (at === 0 ? v.toFixed(0) : v < 9.995 ? v.toFixed(2) : v.toFixed(1)) + " " + units[at];
  }
  // What matches, counted once: a match below a match adds nothing.
  function search(text) {
    let test = null;
    if (text !== "") {
      try { const re = new RegExp(text, "i"); test = (s) => re.test(s); }
      catch (e) { const low = text.toLowerCase(); test = (s) => s.toLowerCase().includes(low); }
    }
    let sum = 0, frontier = [];
    for (const f of frames) {
      const hit = test !== null && f.row > 0 && test(f.name);
      f.g.classList.toggle("hit", hit);
      if (hit) frontier.push(f);
    }
    frontier.sort((a, b) => a.x - b.x || a.row - b.row);
    let end = -1;
    for (const f of frontier) {
      if (f.x + f.w <= end + 1e-9) continue;
      sum += f.value;
      end = f.x + f.w;
    }
    matched.textContent = test === null ? "" :
        "matched " + (total > 0 ? (100 * sum / total).toFixed(1) : "0.0") + " %  " + human(sum);
  }
  for (const f of frames) {
    f.g.addEventListener("click", () => zoom(f));
    f.g.addEventListener("mouseenter", () => { detail.textContent = f.lines.join("   "); });
    f.g.addEventListener("mouseleave", () => { detail.textContent = idle; });
  }
  reset.addEventListener("click", () => zoom(frames[0]));
  query.addEventListener("input", () => search(query.value));
  window.addEventListener("keydown", (e) => {
    if ((e.ctrlKey || e.metaKey) && e.key === "f" || e.key === "/" && document.activeElement !== query) {
      e.preventDefault();
      query.focus();
      query.select();
    } else if (e.key === "Escape") {
      query.value = "";
      search("");
      query.blur();
      zoom(frames[0]);
    }
  });
  document.getElementById("find").addEventListener("click", () => query.focus());
  window.addEventListener("resize", layout);
  window.addEventListener("scroll", () => head.setAttribute("transform", "translate(0," + window.scrollY + ")"));
  layout();
})();
)js";

}  // namespace tidemark
