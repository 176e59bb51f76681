// What a visitor downloads, compressed as a server would.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const folder = new URL("../dist/assets/", import.meta.url);
let first = 0;
for (const name of readdirSync(folder).filter((one) => !/\.(?:br|gz)$/.test(one)).sort()) {
  const bytes = readFileSync(new URL(name, folder));
  const packed = gzipSync(bytes, { level: 9 }).length;
  const isLazy = /^(highlight|Files|Operations|Shop|uPlot)/.test(name);
  if (!isLazy) first += packed;
  process.stdout.write(
    `${name.padEnd(34)} ${kb(bytes.length)}  gz ${kb(packed)}${isLazy ? "  when it is needed" : ""}\n`,
  );
}
process.stdout.write(`${"first visit".padEnd(34)} ${"".padStart(9)}  gz ${kb(first)}\n`);

function kb(bytes) {
  return `${(bytes / 1000).toFixed(1)} kB`.padStart(9);
}
