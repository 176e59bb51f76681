import { expect, it } from "vitest";
import type { Item } from "../../src/core/index.ts";
import { SECTION_WEIGHT, sectionsOf } from "../../src/page/sections.ts";
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

it("numbers stretches so that each keeps its number when earlier ones come before it", () => {
  const said = (id: number): Item => ({ kind: "message", id: String(id), sender: "agent", text: "a" }) as unknown as Item;
  const all = Array.from({ length: 300 }, (_, place) => said(place));
  const before = numbered(all.slice(200), NO_STRETCHES);
  const after = numbered(all, before);
  expect(after.stretches.flat()).toEqual(all);
  for (const [place, stretch] of before.stretches.entries()) expect(after.stretches[place - after.first]).toBe(stretch);
});
