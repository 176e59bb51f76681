/** Who imports whom in a folder of sources: relative imports of every kind, those of types and later ones included. */

import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import ts from "typescript";

/** File → the files that it imports, all as paths below the folder. */
export type Imports = ReadonlyMap<string, readonly string[]>;

export function importsOf(folder: URL): Imports {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => /\.tsx?$/.test(name));
  return new Map(files.map((name) => [name, importsIn(name, readFileSync(new URL(name, folder), "utf8"))]));
}

export function importsIn(name: string, text: string): string[] {
  return ts
    .preProcessFile(text, true, true)
    .importedFiles.map((one) => one.fileName)
    .filter((address) => address.startsWith("."))
    .map((address) => posix.join(posix.dirname(name), address));
}

/** The circles: each set of files that reach one another. */
export function circles(imports: Imports): string[][] {
  const reached = new Map([...imports.keys()].map((name) => [name, reach(name, imports)]));
  const found = new Map<string, string[]>();
  for (const [name, others] of reached) {
    if (!others.has(name)) continue;
    const circle = [...others].filter((other) => reached.get(other)?.has(name)).sort();
    found.set(circle.join(" "), circle);
  }
  return [...found.values()];
}

function reach(from: string, imports: Imports): Set<string> {
  const seen = new Set<string>();
  const due = [...(imports.get(from) ?? [])];
  for (let next = due.pop(); next !== undefined; next = due.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    due.push(...(imports.get(next) ?? []));
  }
  return seen;
}
