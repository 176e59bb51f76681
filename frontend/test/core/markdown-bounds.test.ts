/** An agent's text is hostile input: reading it is bounded and grows with its length, nothing of it is missing. */

import { expect, it, vi } from "vitest";
import {
  addDefinitions,
  BLOCK_MOST,
  BlockReader,
  BLOCKS_MOST,
  htmlOf,
  type Links,
  MarkdownDocument,
  type TopBlock,
  Work,
} from "../../src/core/markdown/index.ts";
import { jsonText } from "../../src/page/json.ts";
import { firstLines, PIECE_CHARACTERS, PIECE_LINES, piecesOf } from "../../src/core/pieces.ts";
import { diffLines } from "../../src/page/diff.ts";
import { anyText, HOSTILE } from "../hostile.ts";

interface Read {
  blocks: TopBlock[];
  html: string[];
  steps: number;
}

function read(text: string): Read {
  const links: Links = new Map();
  const work = new Work();
  addDefinitions(links, text);
  const reader = new BlockReader(text, 0, work);
  const blocks: TopBlock[] = [];
  for (let block = reader.next(); block; block = reader.next()) blocks.push(block);
  return { blocks, html: blocks.map((block) => htmlOf(block.node, links, work)), steps: work.steps };
}

const N = 10_000;
/** Steps for a character: each container of a line looks at it once, and inline text is looked at a few times. */
const STEPS_A_CHARACTER = 60;

it.each(Object.entries(HOSTILE))("does work in proportion to the length of %s", (_name, text) => {
  const [one, two] = [read(text(2 * N)), read(text(4 * N))];
  expect(two.steps).toBeLessThan(4 * N * STEPS_A_CHARACTER);
  expect(two.steps / one.steps).toBeLessThan(3);
});

it("reads a long one of each in moments on a busy machine", { timeout: 60_000 }, () => {
  for (const [name, text] of Object.entries(HOSTILE)) {
    const before = performance.now();
    read(text(100_000));
    expect(performance.now() - before, name).toBeLessThan(2_000);
  }
});

it.each(Object.entries(HOSTILE))("makes small blocks, none of them deep, of %s", (_name, text) => {
  const { blocks, html } = read(text(4 * N));
  const drawn = blocks.flatMap((block, place) => {
    const made = html[place] ?? "";
    const elements = made.match(/<[a-z]/g)?.length ?? 0;
    return block.node.kind === "code" ? [] : [{ length: block.end - block.start, elements, depth: depthOf(made) }];
  });
  expect(Math.max(0, ...drawn.map((one) => one.length))).toBeLessThan(5 * BLOCK_MOST);
  expect(Math.max(0, ...drawn.map((one) => one.elements))).toBeLessThan(8_000);
  expect(Math.max(0, ...drawn.map((one) => one.depth))).toBeLessThan(60);
});

function depthOf(html: string): number {
  let [depth, most] = [0, 0];
  for (const [, slash, tag = ""] of html.matchAll(/<(\/?)([a-z]\w*)/g)) {
    if (/^(?:br|hr|img)$/.test(tag)) continue;
    depth += slash ? -1 : 1;
    most = Math.max(most, depth);
  }
  if (depth !== 0) throw new Error(`${depth} tags are open at the end of ${html.slice(0, 200)}`);
  return most;
}

/** What no block of a text holds, but for blank lines and definitions; blocks are in order. */
function missing(text: string, blocks: TopBlock[]): string[] {
  const ends = [0, ...blocks.map((block) => block.end)];
  const starts = [...blocks.map((block) => block.start), text.length];
  if (starts.some((start, place) => start < (ends[place] ?? 0))) return ["blocks overlap"];
  const between = starts.map((start, place) => text.slice(ends[place], start));
  return between.filter((part) => part.replace(/^ {0,3}\[.*\]:.*$/gm, "").trim() !== "");
}

it.each(Object.entries(HOSTILE))("leaves nothing out of %s", (_name, text) => {
  const whole = text(N);
  expect(missing(whole, read(whole).blocks)).toEqual([]);
});

const SEEDS = Array.from({ length: 300 }, (_, seed) => seed);

it("makes whole, balanced HTML of any text", () => {
  for (const seed of SEEDS) {
    const text = anyText(seed, 600);
    const { blocks, html } = read(text);
    expect(missing(text, blocks), `seed ${seed}`).toEqual([]);
    for (const one of html) depthOf(one);
  }
});

it("makes the same blocks of a text that comes in parts", () => {
  for (const seed of SEEDS) {
    const text = anyText(seed + 1_000, 400);
    const maker = {
      block: (block: TopBlock, _raw: string, links: Links, work: Work) => htmlOf(block.node, links, work),
      plain: (plain: string) => plain,
    };
    const growing = new MarkdownDocument<string>(maker);
    let step = 1 + (seed % 23);
    for (let length = step; length < text.length; length += step) {
      growing.set(text.slice(0, length), false);
      let admitted = seed % 7;
      growing.advance(() => seed % 2 === 0 || (admitted -= 1) >= 0);
      step = 1 + ((step * 7) % 29);
    }
    growing.set(text, true);
    growing.advance(() => true);
    expect(growing.blocks, `seed ${seed}`).toEqual(read(text).html);
  }
});

it("makes no table of a paragraph's line that would be something else by itself", () => {
  for (const head of ["    a|b", "\ta|b", "2) a|b"]) {
    const text = `words\n${head}\n-|-\nc|d\n`;
    const growing = new MarkdownDocument<string>({ block: (_block, raw) => raw, plain: (raw) => raw });
    for (const length of [text.length - 4, text.length]) {
      growing.set(text.slice(0, length), length === text.length);
      growing.advance(() => true);
    }
    expect(growing.blocks).toEqual([text]);
  }
});

it("reads only the end of a text that grows", () => {
  const maker = { block: () => 0, plain: () => 0 };
  const growing = new MarkdownDocument<number>(maker);
  let text = "";
  for (let count = 0; count < 500; count += 1) {
    text += `Paragraph ${count} says a few words.\n\n`;
    growing.set(text, false);
    growing.advance(() => true);
  }
  expect(growing.blocks).toHaveLength(500);
  expect(growing.work.steps).toBeLessThan(10 * text.length);
});

it("shows what is behind many blocks as plain text", () => {
  const made: string[] = [];
  const many = new MarkdownDocument<string>({ block: () => "", plain: (text) => text });
  const text = "a\n\n".repeat(BLOCKS_MOST + 500);
  many.set(text, true);
  many.advance(() => true);
  made.push(...many.blocks);
  expect(made.slice(BLOCKS_MOST).join("")).toBe(`\n${"a\n\n".repeat(500)}`);
  expect(Math.max(...made.map((one) => one.length))).toBeLessThanOrEqual(PIECE_CHARACTERS);
});

it("shows what cannot be read as plain pieces that are the text", () => {
  const text = `# one\n\n${"words of a long line ".repeat(3_000)}\n\n${"line\n".repeat(5_000)}`;
  const broken = new MarkdownDocument<string>({ block: () => "", plain: (raw) => raw });
  vi.spyOn(BlockReader.prototype, "next").mockImplementation(() => {
    throw new RangeError("Maximum call stack size exceeded");
  });
  broken.set(text, true);
  broken.advance(() => true);
  vi.restoreAllMocks();
  expect(broken.blocks.join("")).toBe(text);
  expect(broken.blocks.length).toBeGreaterThan(5);
});

it("reads a long block in parts", () => {
  const long = new MarkdownDocument<string>({ block: (block) => block.node.kind, plain: (text) => text });
  long.set(`\`\`\`\n${"let a;\n".repeat(100_000)}\`\`\`\n`, true);
  let turns = 0;
  while (!long.advance(() => false)) {
    turns += 1;
    long.advance(() => turns > 3);
  }
  expect(long.blocks).toEqual(["code"]);
  let asked = 0;
  long.set(`\`\`\`\n${"let b;\n".repeat(100_000)}\`\`\`\n`, true);
  long.advance(() => (asked += 1) > 0);
  expect(asked).toBeGreaterThan(5);
});

it("shows a block that cannot be made as its text, and the others", () => {
  const faulty = new MarkdownDocument<string>({
    block: (_block, raw) => {
      if (raw.includes("bad")) throw new RangeError("Maximum call stack size exceeded");
      return `made: ${raw.trim()}`;
    },
    plain: (text) => `plain: ${text.trim()}`,
  });
  faulty.set("one\n\nbad\n\nthree\n", true);
  faulty.advance(() => true);
  expect(faulty.blocks).toEqual(["made: one", "plain: bad", "made: three"]);
});

it("makes no more than is admitted, and goes on", () => {
  const slow = new MarkdownDocument<string>({
    block: (_block, raw) => raw,
    plain: (text) => text,
  });
  slow.set("a\n\nb\n\nc\n", true);
  let admitted = 0;
  expect(slow.advance(() => (admitted += 1) < 2)).toBe(false);
  expect(slow.blocks).toEqual(["a\n"]);
  expect(slow.advance(() => true)).toBe(true);
  expect(slow.blocks).toHaveLength(3);
});

it.each(Object.entries(HOSTILE))("cuts %s into pieces that are the text", (_name, text) => {
  const whole = text(N);
  const pieces = piecesOf(whole);
  expect(pieces.join("")).toBe(whole);
  expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThanOrEqual(PIECE_CHARACTERS);
  expect(Math.max(...pieces.map((piece) => piece.split("\n").length))).toBeLessThanOrEqual(PIECE_LINES + 1);
});

it("cuts a long text without reading it again for each piece", () => {
  const before = performance.now();
  expect(piecesOf("x".repeat(16_000_000))).toHaveLength(2_000);
  expect(performance.now() - before).toBeLessThan(1_000);
});

it("writes JSON of any depth and length", () => {
  let deep: unknown = 1;
  for (let depth = 0; depth < 20_000; depth += 1) deep = { deep };
  expect(jsonText(deep).length).toBeLessThan(3_000);
  expect(jsonText(Array.from({ length: 1_000_000 }, () => 1)).length).toBeLessThan(300_000);
  const plain = { a: [1, "two", null, true, [], {}], "b\n": { c: -1.5 } };
  expect(jsonText(plain)).toBe(JSON.stringify(plain, null, 2));
});

it("compares texts of long lines once", () => {
  const lines = (end: string): string => Array.from({ length: 600 }, (_, n) => `${"x".repeat(2_000)}${n}${end}`).join("\n");
  const before = performance.now();
  expect(diffLines(lines("a"), lines("b"))).toHaveLength(1_200);
  expect(performance.now() - before).toBeLessThan(2_000);
});

it("takes first lines without reading the rest as lines", () => {
  expect(firstLines("a\nb\nc\nd", 2)).toEqual({ text: "a\nb", more: 2 });
  expect(firstLines("a\nb", 2)).toEqual({ text: "a\nb", more: 0 });
});
