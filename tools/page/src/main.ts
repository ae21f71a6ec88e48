// Where the page begins. A page that cannot read its own data says so; nothing else can go wrong before it is shown.
import { App } from "./app.js";
import { decode, inflate } from "./decode.js";
import { byId } from "./dom.js";

async function main() {
  const holder = byId("data");
  const profile = decode(await inflate(holder.textContent ?? ""));
  holder.remove();  // megabytes that nobody needs again
  new App(profile);
  document.body.dataset["ready"] = String(Math.round(performance.now()));
}

main().catch((error: unknown) => {
  byId("title").textContent = "This page cannot be shown";
  byId("warnings").hidden = false;
  byId("warnings").textContent = `${String(error)}\nIt needs a browser of 2023 or later (DecompressionStream); the file may also be cut off.`;
});
