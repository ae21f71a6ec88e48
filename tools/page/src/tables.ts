// The tables: functions, sites, threads, and the histogram of sizes. Rows beyond a screenful are made when asked for.
//
// Must not: compute amounts; the model does.
import { element } from "./dom.js";
import { Amount, interval95, roundedOf, valueOf } from "./estimate.js";
import { humanAmount, humanBytes, humanCount, humanInterval, humanPercent } from "./numbers.js";
import { Usage, amountAt } from "./selection.js";

export interface Row {
  name: string;
  detail: string;        // module, or file and line
  self: { bytes: Amount; blocks: Amount };
  total: { bytes: Amount; blocks: Amount } | null;
  hit: boolean;
  open: (() => void) | null;
}

export interface TableOptions {
  caption: string;
  nameTitle: string;
  detailTitle: string;     // "" when there is none
  selfTitle: string;
  sampled: boolean;
  inBlocks: boolean;       // what share and order are about
  whole: number;
  sort: string;
  bars: boolean;           // a histogram: rows keep their order unless told otherwise
  onSort(sort: string): void;
}

const FIRST_ROWS = 200;
const none: Amount = { seen: 0, unseen: 0, variance: 0, heaviest: 0 };

interface Column { key: string; title: string; number: boolean; cell(row: Row): Node | string; order: ((row: Row) => number | string) | null }

export function rowsOf(usage: Usage, total: Usage | null, describe: (i: number) => Omit<Row, "self" | "total"> | null): Row[] {
  const rows: Row[] = [];
  for (let i = 0; i < usage.bytes.seen.length; i++) {
    if (usage.blocks.seen[i] === 0 && (!total || total.blocks.seen[i] === 0)) continue;
    const described = describe(i);
    if (!described) continue;
    const pick = (of: Usage) => ({ bytes: amountAt(of.bytes, i), blocks: amountAt(of.blocks, i) });
    rows.push({ ...described, self: pick(usage), total: total ? pick(total) : null });
  }
  return rows;
}

function columnsOf(rows: Row[], options: TableOptions): Column[] {
  const { inBlocks, sampled, whole } = options;
  const main = (amounts: { bytes: Amount; blocks: Amount }) => (inBlocks ? amounts.blocks : amounts.bytes);
  const amount = (of: Amount, bytes: boolean) => {
    const exact = bytes ? `${humanCount(roundedOf(of))} bytes` : `${humanCount(roundedOf(of))} blocks`;
    return element("span", { title: exact, "data-exact": String(roundedOf(of)) }, humanAmount(roundedOf(of), bytes));
  };
  const columns: Column[] = [
    { key: "share", title: "share", number: true, order: (row) => valueOf(main(row.self)),
      cell: (row) => humanPercent(valueOf(main(row.self)), whole) },
    { key: "self", title: options.selfTitle, number: true, order: (row) => valueOf(row.self.bytes),
      cell: (row) => amount(row.self.bytes, true) },
  ];
  const range = (key: string, of: (row: Row) => Amount, bytes: boolean): Column =>
    ({ key, title: "95 % interval", number: true, order: null, cell: (row) => humanInterval(interval95(of(row)), bytes) });
  if (sampled) columns.push(range("selfrange", (row) => row.self.bytes, true));
  columns.push({ key: "blocks", title: "blocks", number: true, order: (row) => valueOf(row.self.blocks),
                 cell: (row) => amount(row.self.blocks, false) });
  if (sampled) columns.push(range("blocksrange", (row) => row.self.blocks, false));
  if (rows.some((row) => row.total)) {
    columns.push({ key: "total", title: "total", number: true, order: (row) => valueOf(row.total!.bytes),
                   cell: (row) => amount(row.total!.bytes, true) });
    if (sampled) columns.push(range("totalrange", (row) => row.total!.bytes, true));
    columns.push({ key: "totalblocks", title: "total blocks", number: true, order: (row) => valueOf(row.total!.blocks),
                   cell: (row) => amount(row.total!.blocks, false) });
  }
  columns.push({ key: "mean", title: "mean size", number: true, order: (row) => meanOf(row),
                 cell: (row) => (valueOf(row.self.blocks) > 0 ? humanBytes(meanOf(row)) : "") });
  if (options.bars) {
    const most = Math.max(...rows.map((row) => valueOf(main(row.self))), 0);
    columns.splice(0, 0, {
      key: "bar", title: "", number: false, order: null,
      cell: (row) => {
        const bar = element("div", { class: "shareBar" });
        bar.style.width = most > 0 ? `${100 * valueOf(main(row.self)) / most}%` : "0";
        return bar;
      },
    });
  }
  columns.splice(options.bars ? 0 : columns.length, 0, {
    key: "name", title: options.nameTitle, number: false, order: options.bars ? null : (row) => row.name,
    cell: (row) => (row.open ? element("button", { type: "button", click: row.open }, row.name) : row.name),
  });
  if (options.detailTitle) {
    columns.push({ key: "detail", title: options.detailTitle, number: false, order: (row) => row.detail, cell: (row) => row.detail });
  }
  return columns;
}

function meanOf(row: Row): number {
  const blocks = valueOf(row.self.blocks);
  return blocks > 0 ? valueOf(row.self.bytes) / blocks : 0;
}

export function tableOf(rows: Row[], options: TableOptions): HTMLElement {
  const { inBlocks } = options;
  const columns = columnsOf(rows, options);
  const rising = options.sort.startsWith("-");
  const wanted = columns.find((column) => column.order && column.key === options.sort.replace("-", ""));
  const by = wanted ?? (options.bars ? null : columns.find((column) => column.key === (inBlocks ? "blocks" : "self"))!);
  if (by) {
    rows.sort((a, b) => {
      const x = by.order!(a), y = by.order!(b);
      const order = typeof x === "number" ? (y as number) - x : x < (y as string) ? -1 : x > (y as string) ? 1 : 0;
      // As the command line orders them: by what they asked for themselves, then by all that went through them.
      const behind = (row: Row) => valueOf((inBlocks ? row.total?.blocks : row.total?.bytes) ?? none);
      return (rising ? -order : order) || behind(b) - behind(a) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
    });
  }
  const head = element("tr", {}, ...columns.map((column) => {
    const sorted = by === column && wanted === column;
    const cell = element("th", { scope: "col", class: column.number ? "number" : column.key,
                                 "aria-sort": sorted ? (rising === column.number ? "ascending" : "descending") : undefined });
    cell.append(column.order ? element("button", { type: "button", click: () => options.onSort(sorted && !rising ? `-${column.key}` : column.key) },
                                       column.title + (sorted ? (rising === column.number ? " \u2191" : " \u2193") : "")) : column.title);
    return cell;
  }));
  const body = element("tbody");
  const add = (count: number) => {
    const from = body.childElementCount;
    for (const row of rows.slice(from, from + count)) {
      body.append(element("tr", { class: row.hit ? "hit" : undefined }, ...columns.map((column) =>
        element("td", { class: column.number ? "number" : column.key === "bar" ? "share" : column.key === "detail" ? "soft" : "name" },
                column.cell(row)))));
    }
  };
  add(FIRST_ROWS);
  const box = element("div", { class: "tableBox" }, element("table", {}, element("caption", {}, options.caption), element("thead", {}, head), body));
  if (rows.length > FIRST_ROWS) {
    const text = () => `show more: ${humanCount(body.childElementCount)} of ${humanCount(rows.length)} rows`;
    const button: HTMLButtonElement = element("button", { type: "button", class: "more", click: () => {
      add(1000);
      button.textContent = text();
      button.hidden = body.childElementCount >= rows.length;
    } }, text());
    box.append(button);
  }
  return box;
}
