// @vitest-environment jsdom
import { h, render } from "preact";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Item, MessageItem } from "../../src/core/index.ts";

const message = (id: string, text: string): MessageItem => ({
  kind: "message",
  id,
  turn_id: "t",
  sender: "agent",
  text,
  at: "",
  is_streaming: false,
  is_placeholder: false,
  index: 0,
});

function Fragile({ item }: { item: Item }) {
  if (item.id === "bad") throw new RangeError("Maximum call stack size exceeded");
  return h("b", {}, "text" in item ? item.text : item.kind);
}

beforeEach(() => {
  vi.stubGlobal("requestAnimationFrame", (call: () => void) => setTimeout(call));
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
});
afterEach(() => vi.restoreAllMocks());

it("shows what cannot be drawn as its plain text, and everything around it", async () => {
  const { Guard } = await import("../../src/page/Guard.tsx");
  const items: Item[] = [
    message("one", "first"),
    message("bad", "*the second*"),
    { kind: "plan", id: "bad", turn_id: "t", entries: [{ content: "a step" }], at: "" },
    message("four", "last"),
  ];
  const root = document.createElement("div");
  render(
    h(
      "div",
      {},
      items.map((item) => h(Guard, { key: `${item.kind} ${item.id}`, item, children: h(Fragile, { item }) })),
    ),
    root,
  );
  await vi.waitFor(() => expect(root.textContent).toContain("last"));
  await vi.waitFor(() => expect(root.querySelectorAll("[data-testid=shown-plain]")).toHaveLength(2));
  expect(root.textContent).toContain("first*the second*");
  expect(root.textContent).toContain('"a step"');
});
