// Opens a page in headless Chromium without a network and clicks through it; prints what it saw as JSON.
//
//   node drive.mjs MODULES CHROMIUM PAGE JOB [SCREENSHOT-PREFIX]     JOB: "walk", "keys", "folds", "windows", "ready"
//
// Reads only what a person can: texts, titles, the status line, downloads nothing. Must not: reach into the page's code.
import { createRequire } from "node:module";
import path from "node:path";

const [modules, executablePath, file, job, shots] = process.argv.slice(2);
const { chromium } = createRequire(path.join(path.resolve(modules), "x.js"))("playwright-core");
const browser = await chromium.launch({
  executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
context.setDefaultTimeout(120000);
const page = await context.newPage();
const complaints = [], requests = [];
page.on("console", (message) => { if (message.type() === "error" || message.type() === "warning") complaints.push(message.text()); });
page.on("pageerror", (error) => complaints.push(String(error.stack)));
page.on("request", (request) => requests.push(request.url()));
page.on("dialog", (dialog) => { complaints.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });

async function open(fragment = "") {
  await page.goto("about:blank");
  await page.goto(`file://${file}${fragment && `#${fragment}`}`);
  await page.waitForSelector("body[data-ready]");
}
const status = () => page.textContent("#status");
const metrics = () => page.$$eval(".metric", (buttons) => Object.fromEntries(buttons.map((button) => [
  button.id.replace("metric-", ""), { title: button.children[0].textContent, exact: Number(button.children[1].dataset.exact),
                                      range: button.children[2].textContent }])));
const rows = (most = 40) => page.$$eval("#view tbody tr", (all, count) => all.slice(0, count).map((row) =>
  Array.from(row.cells, (cell) => {
    const exact = cell.querySelector("[data-exact]");
    return exact ? Number(exact.dataset.exact) : cell.textContent;
  })), most);
const heads = () => page.$$eval("#view thead th", (cells) => cells.map((cell) => cell.textContent.replace(/ [\u2191\u2193]$/, "")));
const shot = async (name) => { if (shots) await page.screenshot({ path: `${shots}${name}.png` }); };

// Every view under every metric.
async function walk() {
  await open();
  const seen = { title: await page.textContent("#title"), facts: await page.$$eval("#facts li", (items) => items.map((i) => i.textContent)),
                 warnings: await page.textContent("#warnings"), metrics: await metrics(), tables: {}, heads: {}, graphs: {} };
  for (const metric of Object.keys(seen.metrics)) {
    await page.click(`#metric-${metric}`);
    seen.tables[metric] = {};
    for (const view of ["functions", "sites", "threads", "sizes"]) {
      await page.click(`#tab-${view}`);
      seen.tables[metric][view] = await rows();
      seen.heads[view] = await heads();
      if (metric === "allocated") await shot(`-${view}`);
    }
  }
  await page.click("#metric-allocated");
  for (const view of ["icicle", "flame", "inverted", "sandwich"]) {
    await page.click(`#tab-${view}`);
    await page.locator("#view canvas").last().focus();
    const away = view === "flame" ? "ArrowUp" : "ArrowDown";
    await page.keyboard.press("Home");
    const told = [await status()];
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press(away);
      told.push(await status());
    }
    seen.graphs[view] = told;
    await shot(`-${view}`);
  }
  return seen;
}

// What the keyboard alone can do, and that a link restores it.
async function keys() {
  await open();
  const seen = {};
  await page.keyboard.press("g");
  for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowDown");
  seen.attended = await status();
  await page.keyboard.press("Enter");
  seen.crumbs = await page.$$eval("#crumbs li", (items) => items.map((i) => i.textContent));
  seen.address = page.url();
  await page.keyboard.press("Backspace");
  seen.crumbsBack = await page.$$eval("#crumbs li", (items) => items.length);
  await page.keyboard.press("Escape");
  seen.crumbsOut = await page.$$eval("#crumbs li", (items) => items.length);
  await open(seen.address.split("#")[1]);
  seen.crumbsLinked = await page.$$eval("#crumbs li", (items) => items.map((i) => i.textContent));
  await page.keyboard.press("5");
  seen.selected = await page.$eval("[role=tab][aria-selected=true]", (tab) => tab.textContent);
  await page.keyboard.press("1");
  await page.keyboard.press("g");
  for (let i = 0; i < 6; i++) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("m");
  seen.menu = await page.$$eval("#menu li", (items) => items.map((i) => i.textContent));
  await page.keyboard.press("Escape");
  seen.menuClosed = await page.isHidden("#menu");
  await page.keyboard.press("?");
  seen.help = await page.$eval("#keys", (dialog) => dialog.open);
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  await page.keyboard.type("no_such_function_anywhere");
  seen.nothingFound = await page.textContent("#found");
  await page.fill("#search", "(");
  seen.badPattern = [await page.textContent("#found"), await page.getAttribute("#search", "aria-invalid")];
  await page.fill("#search", "^main$");
  seen.mainFound = Number(await page.getAttribute("#found", "data-exact"));
  await page.keyboard.press("Enter");
  seen.match = await status();
  // Everything that can be operated has a name that a screen reader can say.
  seen.unnamed = await page.$$eval("button, input, select, canvas, [role=tab], [role=radio]", (all) => all.filter((one) =>
    !(one.closest("[aria-hidden=true]") || one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || one.textContent.trim() || one.labels?.length))
    .map((one) => one.outerHTML.slice(0, 120)));
  return seen;
}

// Hide, remove, focus, recursion and own code: through the menu, as a person does it.
async function folds() {
  const seen = {};
  const total = async () => (await rows(1000)).length;
  const choose = async (text) => {
    await open();
    await page.keyboard.press("g");
    for (let i = 0; i < 7; i++) await page.keyboard.press("ArrowDown");
    const name = (await status()).split(": bytes")[0];
    await page.keyboard.press("m");
    await page.getByRole("menuitem", { name: text }).click();
    await page.keyboard.press("g");
    await page.keyboard.press("Home");
    const root = await status();
    const chips = await page.$$eval(".chip span", (all) => all.map((one) => one.textContent));
    await page.keyboard.press("5");
    const functions = (await rows(1000)).map((row) => row.find((cell) => typeof cell === "string" && cell !== "" && !/^[<\d]/.test(cell)));
    return { name, root, chips, has: functions.includes(name), functions: await total() };
  };
  seen.hide = await choose("hide its frame");
  seen.remove = await choose("without stacks through it");
  seen.focus = await choose("only stacks through it");
  for (const option of ["mine", "recursion"]) {
    await open(`${option}=1`);
    await page.keyboard.press("g");
    await page.keyboard.press("Home");
    seen[option] = { root: await status() };
    await page.keyboard.press("5");
    seen[option].rows = await rows(1000);
  }
  return seen;
}

// The timeline: a window by the sliders and by a drag, an instant by a click.
async function windows() {
  await open();
  const seen = { whole: await metrics() };
  const slices = Number(await page.getAttribute("#to", "max"));
  const set = async (from, to) => {
    await page.fill("#from", "0");
    await page.fill("#to", String(to));
    await page.fill("#from", String(from));
  };
  // The window that just holds the peak: there is something on both sides of its end.
  let middle = slices;
  for (let low = 1; low < middle;) {
    const to = Math.floor((low + middle) / 2);
    await set(0, to);
    if ((await metrics()).peak.exact === seen.whole.peak.exact) middle = to;
    else low = to + 1;
  }
  await set(0, middle);
  seen.firstHalf = { metrics: await metrics(), text: await page.textContent("#windowText") };
  await set(middle, slices);
  seen.secondHalf = { metrics: await metrics(), text: await page.textContent("#windowText") };
  const plot = page.locator("#plot .u-over"), box = await plot.boundingBox();
  await page.click("#wholeRun");
  await page.mouse.move(box.x + box.width * 0.25, box.y + 30);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.75, box.y + 30, { steps: 4 });
  await page.mouse.up();
  seen.dragged = { metrics: await metrics(), text: await page.textContent("#windowText"), address: page.url() };
  await shot("-window");
  await page.mouse.dblclick(box.x + box.width * 0.5, box.y + 30);
  seen.afterDouble = await page.textContent("#windowText");
  await page.waitForTimeout(700);  // or it is the third click of a row
  await page.mouse.click(box.x + box.width * 0.5, box.y + 30);
  seen.clicked = { metrics: await metrics(), text: await page.textContent("#windowText"), address: page.url() };
  const fragment = seen.clicked.address.split("#")[1];
  await open(fragment);
  seen.restored = { metrics: await metrics(), text: await page.textContent("#windowText") };
  return seen;
}

// How long until somebody can use it, and how long a change takes.
async function ready() {
  const times = [];
  for (let i = 0; i < 3; i++) {
    await open();
    times.push(Number(await page.getAttribute("body", "data-ready")));
  }
  const timed = async (act) => page.evaluate(async (text) => {
    const start = performance.now();
    document.querySelector(text).click();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - start;
  }, act);
  const changes = {};
  for (const target of ["#metric-live", "#metric-allocated", "#tab-inverted", "#tab-functions", "#tab-sandwich", "#tab-icicle", "#recursion"]) {
    changes[target] = Math.round(await timed(target));
  }
  return { times, changes };
}

const jobs = { walk, keys, folds, windows, ready };
let seen = {};
try {
  seen = await jobs[job]();
} finally {
  await browser.close();
}
console.log(JSON.stringify({ ...seen, complaints, requests: requests.filter((url) => !url.startsWith("about:")) }));
