// Numbers for people, written as the command line writes them (tools/text_table.cc): 1.21 GiB, 12,345, 3.4 %, 1.203 s.
import { Interval } from "./estimate.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function unitOf(bytes: number): number {
  let unit = 0;
  while (bytes >= 1023.95 && unit + 1 < UNITS.length) {
    bytes /= 1024;
    unit++;
  }
  return unit;
}

function inUnit(bytes: number, unit: number): string {
  const value = bytes / 1024 ** unit;
  if (unit === 0) return value.toFixed(0);
  return value < 9.995 ? value.toFixed(2) : value.toFixed(1);
}

export function humanBytes(bytes: number): string {
  const unit = unitOf(Math.abs(bytes));
  return `${inUnit(bytes, unit)} ${UNITS[unit]}`;
}

export function humanCount(count: number): string {
  return Math.round(count).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

export function humanPercent(part: number, whole: number): string {
  if (!(whole > 0)) return "-";
  const percent = 100 * part / whole;
  return percent > 0 && percent < 0.05 ? "<0.1 %" : `${percent.toFixed(1)} %`;
}

export function humanDuration(ns: number): string {
  ns = Math.max(0, ns);
  if (ns < 1e3) return `${ns.toFixed(0)} ns`;
  if (ns < 1e6) return `${Math.floor(ns / 1e3)} us`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(1)} ms`;
  const seconds = Math.floor(ns / 1e9);
  if (seconds < 60) return `${(ns / 1e9).toFixed(3)} s`;
  const two = (n: number) => String(n).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor(seconds / 60) % 60)} min`;
}

// "" when both ends are equal.
export function humanInterval(interval: Interval, bytes: boolean): string {
  if (interval.low === interval.high) return "";
  if (!bytes) return `${humanCount(interval.low)} .. ${humanCount(interval.high)}`;
  const unit = unitOf(interval.high);
  return `${inUnit(interval.low, unit)} .. ${inUnit(interval.high, unit)} ${UNITS[unit]}`;
}

export function humanAmount(value: number, bytes: boolean): string {
  return bytes ? humanBytes(value) : humanCount(value);
}
