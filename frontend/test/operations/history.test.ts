import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import type { Overview, OverviewHistory } from "../../src/core/events.ts";
import { ALARMS } from "../../src/operations/alarms.ts";
import { english } from "../../src/operations/english.ts";
import { hebrew } from "../../src/operations/hebrew.ts";
import { HISTORY_MOST, Series } from "../../src/operations/history.ts";

const overview = { sessions: 3, start_p50_seconds: 0.01, worker_memory_bytes: 5e6 } as unknown as Overview;

function kept(...minutes: number[]): OverviewHistory {
  return {
    step_seconds: 60,
    at: minutes.map((minute) => minute * 60_000),
    lines: { sessions: minutes.map((minute) => minute), start_p50_seconds: minutes.map(() => null) },
  };
}

it("is full at once with what the gateway has kept, and goes on with what is polled", () => {
  const series = new Series();
  series.restore(kept(1, 2, 3));
  series.add(200, overview, 2);
  expect(series.times).toEqual([60, 120, 180, 200]);
  expect(series.columns.sessions).toEqual([1, 2, 3, 3]);
  expect(series.columns.startP50).toEqual([null, null, null, 10]);
  expect(series.columns.errors).toEqual([null, null, null, 2]);
  expect(series.columns.workerMemory.at(-1)).toBe(5);
  expect(series.since(150, 200).times).toEqual([180, 200]);
  expect(series.since(-90_000, 1000)).toMatchObject({ from: 60, to: 1000 });
  expect(series.since(-90_000, 200).from).toBe(-400);
});

it("leaves a hole where the gateway did not run", () => {
  const series = new Series();
  series.restore(kept(1, 2, 30));
  expect(series.times).toEqual([60, 120, 180, 1800]);
  expect(series.columns.sessions).toEqual([1, 2, null, 30]);
});

it("keeps one point a minute of what is older than half an hour, and no hole before it", () => {
  const series = new Series();
  series.restore(kept(1, 2));
  const first = 122;
  for (let n = 0; n < HISTORY_MOST + 300; n++) series.add(first + 2 * n, overview, null);
  const times = series.times;
  expect([...times].sort((one, other) => one - other)).toEqual(times);
  const steps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  expect(Math.max(...steps)).toBeLessThanOrEqual(62);
  expect(times.length).toBeLessThan(HISTORY_MOST + 20);
});

it("forgets the day before yesterday", () => {
  const series = new Series();
  for (let n = 0; n < HISTORY_MOST + 2000; n++) series.add(60 * n, overview, null);
  expect(series.times.length).toBe(HISTORY_MOST + 24 * 60);
});

it("has every text in both languages, with the same places for values", () => {
  const places = (text: string): string[] => [...text.matchAll(/\{\w+\}/g)].map(([place]) => place).sort();
  for (const [word, text] of Object.entries(english)) {
    expect(places(hebrew[word as keyof typeof english]), word).toEqual(places(text));
  }
  expect(Object.keys(ALARMS.he)).toEqual(Object.keys(ALARMS.en));
});

it("says about each alarm what the documents say", () => {
  const text = readFileSync(new URL("../../../docs/alarms.md", import.meta.url), "utf8");
  const told = Object.fromEntries(
    text.split(/^## /m).slice(1).map((section) => {
      const [name = "", ...lines] = section.split("\n");
      return [name, lines.join(" ").replace(/\s+/g, " ").trim()];
    }),
  );
  delete told["Down"];
  expect(Object.fromEntries(Object.entries(ALARMS.en).map(([name, { toDo }]) => [name, toDo]))).toEqual(told);
});
