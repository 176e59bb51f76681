// @vitest-environment jsdom
/** The table of the gateways on one store. */

import { h, render } from "preact";
import { afterEach, expect, it, vi } from "vitest";

vi.hoisted(() => vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined })));

import type { NodeNumbers } from "../../src/core/index.ts";
import { NodeTable, nodeWords } from "../../src/operations/Nodes.tsx";
import { language } from "../../src/page/index.ts";

const node = (name: string, state: string): NodeNumbers => ({
  name,
  state,
  version: "1",
  url: "http://10.0.0.5:8081",
  sessions: 3,
  workers: 1,
  worker_limit: 9,
  still_seconds: state === "silent" ? 4 : 0,
  is_this: name === "a",
});
const ROWS = [node("a", "up"), node("b", "draining"), node("c", "silent")];

afterEach(() => {
  render(null, document.body);
  language.value = "en";
});

function lines(): string[] {
  render(h(NodeTable, { rows: ROWS }), document.body);
  return [...document.querySelectorAll("tbody tr")].map((row) => row.textContent ?? "");
}

it("says of each gateway how it is, and what to do about one that is silent", () => {
  const [up, draining, silent] = lines();
  expect(up).toContain("a this one");
  expect(up).not.toContain("fence");
  expect(draining).toContain("draining");
  expect(silent).toContain("silent");
  expect(silent).toContain("agent-gateway nodes fence c");
  language.value = "he";
  expect(lines()[2]).toContain("שותק");
});

it("counts them, and those that are silent", () => {
  expect(nodeWords(ROWS.slice(0, 2))).toBe("2");
  expect(nodeWords(ROWS)).toBe("3, silent: 1");
});
