// @vitest-environment jsdom
import { h, render } from "preact";
import { expect, it, vi } from "vitest";
import type { ToolCallItem } from "../../src/core/events.ts";
import { Substance } from "../../src/page/ToolCall.tsx";

vi.hoisted(() => vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined })));

const CALL = { kind: "tool_call", id: "c1", turn_id: "t1", at: "" } as ToolCallItem;

function drawnOf(call: Partial<ToolCallItem>): HTMLElement {
  const box = document.createElement("div");
  render(h(Substance, { call: { ...CALL, ...call } as ToolCallItem }), box);
  return box;
}

it("shows the diff, the other files and, folded away, the input of what is asked for", () => {
  const box = drawnOf({
    content: [{ type: "diff", path: "/a.txt", oldText: "old words", newText: "new words" }],
    locations: [{ path: "/a.txt", line: 1 }, { path: "/b.txt", line: 7 }, { path: "/c.txt" }],
    raw_input: { replace_all: true },
  });
  expect(box.querySelector("del")?.textContent).toBe("old words");
  expect(box.querySelector("ins")?.textContent).toBe("new words");
  expect([...box.querySelectorAll("li")].map((one) => one.textContent)).toEqual(["/b.txt:7", "/c.txt"]);
  expect(box.querySelector("[data-testid=permission-input]")?.textContent).toContain("replace_all");
});

it("shows the input in the open where there is nothing else", () => {
  const box = drawnOf({ raw_input: { command: "rm -r x" } });
  expect(box.querySelector("details")).toBeNull();
  expect(box.textContent).toContain("rm -r x");
});

it("takes no room for a call of which nothing is known, and survives odd lists", async () => {
  expect(drawnOf({}).textContent).toBe("");
  expect(drawnOf({ locations: "nowhere", raw_input: {} } as unknown as ToolCallItem).textContent).toBe("");
  expect(drawnOf({ locations: [null, { path: 5 }] } as unknown as ToolCallItem).textContent).toBe("");
  for (const content of ["words", 7, { type: "diff" }, [null, 5, "x"]])
    expect(drawnOf({ content } as unknown as ToolCallItem).textContent).toBe("");
  const odd = drawnOf({ content: [{ type: "diff", path: 1, oldText: {}, newText: "kept" }] } as unknown as ToolCallItem);
  await vi.waitFor(() => expect(odd.querySelector("ins")?.textContent).toBe("kept"));
});
