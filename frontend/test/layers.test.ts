/**
 * The rooms of src/ and who may enter which: core ← page ← operations, apps ← the entry points at the top.
 * The core compiles without the DOM: tsconfig.core.json, which `npm run typecheck` reads too.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { circles, importsIn, importsOf } from "./imports.ts";

const SRC = new URL("../src/", import.meta.url);
const imports = importsOf(SRC);
const edges = [...imports].flatMap(([from, targets]) => targets.map((to) => [from, to] as const));

/** core, page, operations, an application (apps/shop), or "" for the entry points. */
function roomOf(name: string): string {
  const [first = "", second = ""] = name.split("/");
  if (first === "apps") return `apps/${second}`;
  return name.includes("/") ? first : "";
}

/** The page's public face; what stands beside it is the page's own. */
const FACE = "page/index.ts";

function isAllowed(from: string, to: string): boolean {
  const [mine, other] = [roomOf(from), roomOf(to)];
  if (mine === other || mine === "") return true;
  if (mine === "core") return false;
  if (other === "core") return true;
  return mine !== "page" && to === FACE;
}

const named = (pairs: (readonly [string, string])[]): string[] => pairs.map(([from, to]) => `${from} → ${to}`);

it("reads every import", () => {
  expect(imports.size).toBeGreaterThan(80);
  const text = 'import { a } from "./a.ts";\nimport type { B } from "../b.ts";\nexport * from "./c.ts";\nimport "./d.css";\nawait import("./e.ts");';
  expect(importsIn("page/x.ts", text).sort()).toEqual(["b.ts", "page/a.ts", "page/c.ts", "page/d.css", "page/e.ts"]);
});

it("finds circles", () => {
  const planted = new Map([["a", ["b"]], ["b", ["c"]], ["c", ["a", "d"]], ["d", []], ["e", ["e"]]]);
  expect(circles(planted)).toEqual([["a", "b", "c"], ["e"]]);
});

it("imports only files that are there", () => {
  expect(named(edges.filter(([, to]) => /\.tsx?$/.test(to) && !imports.has(to)))).toEqual([]);
});

it("has no circle", () => {
  expect(circles(imports)).toEqual([]);
});

it("keeps its layers", () => {
  expect(named(edges.filter(([from, to]) => !isAllowed(from, to)))).toEqual([]);
});

it("compiles its core without the DOM", () => {
  const folder = fileURLToPath(new URL("../", import.meta.url));
  const { config } = ts.readConfigFile(`${folder}tsconfig.core.json`, ts.sys.readFile) as { config: unknown };
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, folder);
  const program = ts.createProgram(fileNames, options);
  const files = program.getSourceFiles().map((file) => file.fileName);
  expect(files.filter((name) => /lib\.dom\.|node_modules\/preact/.test(name))).toEqual([]);
  expect(files.filter((name) => name.includes("/src/core/")).length).toBeGreaterThan(20);
  expect(ts.getPreEmitDiagnostics(program).map((one) => ts.flattenDiagnosticMessageText(one.messageText, "\n"))).toEqual([]);
}, 60_000);

it("meets its applications in one list", () => {
  const entries = edges.filter(([from, to]) => roomOf(from) === "" && to.startsWith("apps/"));
  expect(new Set(entries.map(([from]) => from))).toEqual(new Set(["parts.ts"]));
});

it("gives each class, type and component a name of its own", () => {
  const places = new Map<string, string[]>();
  for (const name of imports.keys()) {
    const text = readFileSync(new URL(name, SRC), "utf8");
    for (const [, declared = ""] of text.matchAll(/^(?:export )?(?:class|interface|type|function) ([A-Z]\w*)/gm))
      places.set(declared, [...(places.get(declared) ?? []), name]);
  }
  expect(places.size).toBeGreaterThan(150);
  expect([...places].filter(([, files]) => files.length > 1)).toEqual([]);
});

describe("the core and the page name no application", () => {
  const names = /shop|\bcart|product|widget|inbox|visitor's chat/i;
  const own = [...imports.keys()].filter((name) => ["core", "page", "operations"].includes(roomOf(name)));

  it.each(own)("%s", (name) => {
    const lines = readFileSync(new URL(name, SRC), "utf8").split("\n");
    expect(lines.filter((line) => names.test(line))).toEqual([]);
  });
});
