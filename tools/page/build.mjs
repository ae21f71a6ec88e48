// Makes tools/page/built/page.html of the sources: one file, minified, with the hashes of its script and style in its
// own policy. The result is committed, so that building tidemark needs no npm; ./dev lint checks that it is this one.
//
//   node build.mjs OUT MODULES       MODULES: the node_modules folder with esbuild and uplot
//   node build.mjs --tests OUT MODULES   bundles test/*.test.ts into OUT, a folder
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const tests = process.argv[2] === "--tests";
const [out, modules] = process.argv.slice(tests ? 3 : 2);
if (!out || !modules) {
  console.error("usage: node build.mjs [--tests] OUT MODULES");
  process.exit(2);
}
const { buildSync, transformSync } = createRequire(path.join(path.resolve(modules), "x.js"))("esbuild");
const options = { bundle: true, write: false, absWorkingDir: here, nodePaths: [path.resolve(modules)], logLevel: "error" };

if (tests) {
  const files = readdirSync(path.join(here, "test")).filter((name) => name.endsWith(".test.ts"));
  buildSync({ ...options, write: true, outdir: out, outExtension: { ".js": ".mjs" }, platform: "node", format: "esm",
              entryPoints: files.map((name) => path.join("test", name)) });
} else {
  const script = buildSync({ ...options, entryPoints: ["src/main.ts"], minify: true, format: "iife", target: "es2022",
                             charset: "ascii", legalComments: "none" }).outputFiles[0].text.trim();
  const styles = readFileSync(path.join(modules, "uplot/dist/uPlot.min.css"), "utf8") +
                 readFileSync(path.join(here, "src/page.css"), "utf8");
  const style = transformSync(styles, { loader: "css", minify: true, legalComments: "none" }).code.trim();
  if (/<\/(script|style)|<!--/i.test(script + style)) throw new Error("script or style would end early");
  const hash = (text) => "sha256-" + createHash("sha256").update(text).digest("base64");
  let html = readFileSync(path.join(here, "src/page.html"), "utf8");
  const put = (mark, text) => { html = html.replace(mark, () => text); };
  put("@SCRIPT_HASH@", hash(script));
  put("@STYLE_HASH@", hash(style));
  put("@STYLE@", style);
  put("@SCRIPT@", script);
  writeFileSync(out, html);
}
