// Colours of frames: hue by module, shade by function, the program itself orange; the same on every run and the same
// as in the SVG (tools/flamegraph_svg.cc). Must not: touch the page.
import { FunctionNames } from "./tree.js";

const MODULE_HUES = 12, SPREAD = 5, SHADES = 3, DEGREES_PER_SPREAD = 6, PROGRAM_HUE = 28;

function hashOf(text: string): number {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  return (hash ^ (hash >>> 15)) >>> 0;
}

export class Colours {
  private readonly cache: (string | undefined)[] = [];
  constructor(private readonly names: FunctionNames, private readonly dark: boolean) {}

  of(fn: number): string {
    let colour = this.cache[fn];
    if (!colour) this.cache[fn] = colour = this.make(fn);
    return colour;
  }

  private make(fn: number): string {
    const { name, module, known, mine } = this.names;
    if (fn === 0 || (!known[fn] && module[fn] === "")) return this.dark ? "#2f3136" : "#e6e4df";
    const hash = hashOf(name[fn]!);
    const base = mine[fn] ? PROGRAM_HUE : (hashOf(module[fn]!) % MODULE_HUES) * 360 / MODULE_HUES;
    const degrees = (base + 360 + (hash % SPREAD) * DEGREES_PER_SPREAD - Math.floor(SPREAD / 2) * DEGREES_PER_SPREAD) % 360;
    const shade = Math.floor(hash / SPREAD) % SHADES;
    const light = degrees > 200 && degrees < 320 ? 78 : 70;
    return this.dark ? `hsl(${degrees},38%,${30 + 4 * shade}%)` : `hsl(${degrees},76%,${light + 4 * shade}%)`;
  }
}
