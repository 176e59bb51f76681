import { expect, it } from "vitest";
import type { Item } from "../../src/core/index.ts";
import { MarkdownDocument } from "../../src/core/markdown/index.ts";
import { SECTION_WEIGHT, sectionsOf, tailOf } from "../../src/page/sections.ts";
import { NO_STRETCHES, numbered } from "../../src/page/stretches.ts";

const spans = (count: number, size: number) =>
  Array.from({ length: count }, (_, place) => ({ start: place * size, end: (place + 1) * size, weight: size }));

it("cuts a long text into sections that are the text", () => {
  const sections = sectionsOf(spans(1_000, 700));
  expect(sections.length).toBeGreaterThan(50);
  expect(sections[0]?.from).toBe(0);
  expect(sections.at(-1)?.to).toBe(1_000);
  for (const [place, one] of sections.entries()) {
    expect(one.end - one.start).toBeLessThanOrEqual(SECTION_WEIGHT);
    if (place > 0) expect([one.from, one.start]).toEqual([sections[place - 1]?.to, sections[place - 1]?.end]);
  }
  expect(sectionsOf(spans(1_001, 700)).slice(0, -1)).toEqual(sections.slice(0, -1));
});

it("keeps the sections of a text that grows, and none of another text", () => {
  const text = (name: string, count: number): string => `${name} ${"words ".repeat(200)}\n\n`.repeat(count);
  const made = new MarkdownDocument<string>({ block: (_, raw) => raw, plain: (raw) => raw });
  const read = (words: string, before: ReturnType<typeof sectionsOf>) => {
    made.set(words, false);
    made.advance(() => true);
    return sectionsOf(made.spans, before, made.unchanged());
  };
  const first = read(text("a", 40), []);
  expect(first.length).toBeGreaterThan(3);
  const grown = read(text("a", 41), first);
  expect(grown.slice(0, first.length - 1).every((one, place) => one === first[place])).toBe(true);
  expect(grown.at(-1)).not.toBe(first.at(-1));
  expect(grown).toEqual(sectionsOf(made.spans));
  const other = read(text("b", 41), grown);
  expect(other.some((one) => grown.includes(one))).toBe(false);
});

it("shows of a text that is not read its last words, from the beginning of a line", () => {
  expect(tailOf("short")).toBe("short");
  const tail = tailOf(`${"a line of it\n".repeat(10_000)}The very last words.`);
  expect(tail.startsWith("a line")).toBe(true);
  expect(tail.endsWith("The very last words.")).toBe(true);
  expect(tail.length).toBeLessThan(4_000);
});

it("numbers stretches so that each keeps its number when earlier ones come before it", () => {
  const said = (id: number): Item => ({ kind: "message", id: String(id), sender: "agent", text: "a" }) as unknown as Item;
  const all = Array.from({ length: 300 }, (_, place) => said(place));
  const before = numbered(all.slice(200), NO_STRETCHES);
  const after = numbered(all, before);
  expect(after.stretches.flat()).toEqual(all);
  for (const [place, stretch] of before.stretches.entries()) expect(after.stretches[place - after.first]).toBe(stretch);
});
