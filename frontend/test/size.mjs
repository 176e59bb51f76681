// What a first visit to the chat downloads, compressed as a server would: the page, what it names, and what these
// import, in English and in Hebrew. Everything else is fetched when it is needed.
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";

/** The bound, in kilobytes. */
export const FIRST_VISIT_MOST = 90;

/** And with what draws an answer, which comes along as soon as there is one. */
export const WITH_ANSWER_MOST = 97;

const dist = new URL("../dist/", import.meta.url);

/** Bytes on the wire by file: of all assets, and of those that a first visit fetches in each language. */
export function sizes() {
  const all = readdirSync(new URL("assets/", dist));
  const names = [...new Set(all.map((one) => one.replace(/\.(?:br|gz)$/, "")))];
  const file = (name) => readFileSync(new URL(`assets/${name}`, dist));
  // A large one is kept compressed alone.
  const text = (name) => (all.includes(name) ? file(name) : gunzipSync(file(`${name}.gz`)));
  const packed = Object.fromEntries(names.sort().map((name) => [name, gzipSync(text(name), { level: 9 }).length]));
  const page = readFileSync(new URL("index.html", dist));
  const withImports = (named) => {
    const wanted = new Set(named);
    for (const name of wanted) {
      if (!name.endsWith(".js")) continue;
      for (const [, other] of text(name).toString().matchAll(/(?:from|import)\s*["'`]\.\/([\w.-]+)["'`]/g)) wanted.add(other);
    }
    return wanted;
  };
  const first = withImports([...page.toString().matchAll(/assets\/([\w.-]+)"/g)].map(([, name]) => name));
  const conversation = names.filter((name) => /^Markdown.*\.js$/.test(name));
  const sum = (some) => some.reduce((total, name) => total + packed[name], gzipSync(page, { level: 9 }).length) / 1000;
  const hebrew = names.filter((name) => name.startsWith("hebrew"));
  return {
    packed,
    first,
    english: sum([...first]),
    hebrew: sum([...first, ...hebrew]),
    conversation: sum([...withImports([...first, ...conversation])]),
  };
}

function print() {
  const { packed, first, english, hebrew, conversation } = sizes();
  for (const [name, bytes] of Object.entries(packed))
    process.stdout.write(`${name.padEnd(40)} gz ${kb(bytes / 1000)}${first.has(name) ? "  first visit" : ""}\n`);
  process.stdout.write(`${"first visit, English".padEnd(40)} gz ${kb(english)}\n`);
  process.stdout.write(`${"first visit, Hebrew".padEnd(40)} gz ${kb(hebrew)}\n`);
  process.stdout.write(`${"with an answer to draw, English".padEnd(40)} gz ${kb(conversation)}\n`);
}

function kb(thousands) {
  return `${thousands.toFixed(1)} kB`.padStart(9);
}

if (import.meta.url === `file://${process.argv[1]}`) print();
