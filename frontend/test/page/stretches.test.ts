import { expect, it } from "vitest";
import type { Item } from "../../src/core/index.ts";
import { AT_ONCE, estimated, LEAST, MOST, ranksOf, stretchesOf } from "../../src/page/stretches.ts";

const said = (place: number, sender: "user" | "agent", text = "a"): Item =>
  ({ kind: "message", id: String(place), sender, text, at: "", is_streaming: false }) as unknown as Item;

const talk = (count: number, every: number): Item[] =>
  Array.from({ length: count }, (_, place) => said(place, place % every === 0 ? "user" : "agent"));

it("keeps the order and loses nothing", () => {
  for (const every of [1, 2, 5, 1_000]) {
    const items = talk(333, every);
    expect(stretchesOf(items, []).flat()).toEqual(items);
  }
});

it("cuts before a person's message, and at a length that a long turn does not pass", () => {
  const stretches = stretchesOf([...talk(200, 5), ...talk(200, 1_000)], []);
  for (const [place, stretch] of stretches.entries()) {
    expect(stretch.length).toBeLessThanOrEqual(MOST);
    if (place === stretches.length - 1) continue;
    expect(stretch.length).toBeGreaterThanOrEqual(LEAST);
    const next = stretches[place + 1]?.[0];
    expect(stretch.length === MOST || (next?.kind === "message" && next.sender === "user")).toBe(true);
  }
});

it("leaves what is before the end as it was", () => {
  const items = talk(100, 4);
  const before = stretchesOf(items, []);
  const after = stretchesOf([...items, said(100, "agent")], before);
  for (const [place, stretch] of before.slice(0, -1).entries()) expect(after[place]).toBe(stretch);
  expect(after.at(-1)).not.toBe(before.at(-1));
});

it("draws the newest at once, and those before them from the end", () => {
  const items = talk(20, 4);
  const ranks = ranksOf(stretchesOf(items, []).slice(-2));
  expect([...items].reverse().map((item) => ranks.get(item)).slice(0, 6)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(AT_ONCE).toBe(1);
});

it("holds a long text for taller than a short one", () => {
  expect(estimated([said(0, "agent", "a\n".repeat(50))])).toBeGreaterThan(estimated([said(0, "agent")]));
});
