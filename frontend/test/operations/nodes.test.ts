/** The table of the gateways on one store. */

import { expect, it } from "vitest";
import type { NodeNumbers } from "../../src/core/index.ts";
import { english } from "../../src/operations/english.ts";
import { hebrew } from "../../src/operations/hebrew.ts";
import { nodeWords } from "../../src/operations/Nodes.tsx";

const node = (name: string, state: string): NodeNumbers => ({
  name,
  state,
  version: "1",
  url: "http://10.0.0.5:8081",
  sessions: 3,
  workers: 1,
  worker_limit: 9,
  still_seconds: 0.2,
  is_this: name === "a",
});

it("says how many there are, and how many of them are silent", () => {
  expect(nodeWords([node("a", "up"), node("b", "draining")])).toBe("2");
  expect(nodeWords([node("a", "up"), node("b", "silent"), node("c", "up")])).toBe("3, silent: 1");
});

it("has a word for each state in both languages", () => {
  for (const state of ["nodeUp", "nodeDraining", "nodeSilent"] as const) {
    expect(english[state]).not.toBe("");
    expect(hebrew[state]).not.toBe(english[state]);
  }
});
