// @vitest-environment jsdom
import { h, render } from "preact";
import { expect, it, vi } from "vitest";
import type { PermissionItem, ToolCallItem } from "../../src/core/events.ts";
import { alwaysOf, answersOf, commandOf } from "../../src/page/asked.ts";
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
  const box = drawnOf({ raw_input: { url: "https://example.org" } });
  expect(box.querySelector("details")).toBeNull();
  expect(box.textContent).toContain("https://example.org");
});

it("shows a command as one, where it would run, and what else is said folded away", () => {
  const box = drawnOf({ raw_input: { command: "rm -r x" } });
  expect(box.querySelector("[data-testid=permission-command] code")?.textContent).toBe("rm -r x");
  expect(box.querySelector("details")).toBeNull();
  const more = drawnOf({ raw_input: { command: ["git", "commit", "-m", "it's"], cwd: "/work", timeout: 5 } });
  expect(more.querySelector("[data-testid=permission-command] code")?.textContent).toBe("git commit -m 'it'\\''s'");
  expect(more.querySelector("[data-testid=permission-command]")?.textContent).toContain("/work");
  expect(more.querySelector("[data-testid=permission-input]")?.textContent).toContain("timeout");
});

it("shows what hides in a command, and the rest of a long one when it is asked for", async () => {
  const box = drawnOf({ raw_input: { command: "ls \u202e\u200b\u001b[2K" } });
  expect(box.querySelector("code")?.textContent).toBe("ls \\u{202e}\\u{200b}\\u{1b}[2K");
  const long = drawnOf({ raw_input: { command: `${"a\n".repeat(1_000)}rm -rf /` } });
  expect(long.textContent).not.toContain("rm -rf /");
  long.querySelector<HTMLElement>("[data-testid=show-all]")?.click();
  await vi.waitFor(() => expect(long.textContent).toContain("rm -rf /"));
});

const option = (kind: string) => ({ option_id: kind, name: kind, kind });
const asks = (kinds: string[], more: Partial<PermissionItem> = {}) =>
  ({ kind: "permission", id: "p1", tool_call_id: "c1", outcome: null, options: kinds.map(option), ...more }) as PermissionItem;

it("says what always comes to", () => {
  const all = ["allow_once", "allow_always", "reject_once"];
  expect(alwaysOf(asks(all, { always: { action: "allow", kind: "edit" } }), CALL)).toBe("rule");
  expect(alwaysOf(asks(all), CALL)).toBe("once");
  expect(alwaysOf(asks(["allow_always", "reject_once"]), CALL)).toBe("agent");
  expect(alwaysOf(asks(["allow_once", "reject_once"]), CALL)).toBe("none");
  expect(alwaysOf(asks(all), { ...CALL, tool_kind: "switch_mode" })).toBe("none");
});

it("tells the last answer in the line of its call, and none while another one waits", () => {
  const first = asks(["allow_once"], { id: "p1", outcome: "selected" });
  const second = asks(["allow_once"], { id: "p2", outcome: "cancelled" });
  const waits = asks(["allow_once"], { id: "p3" });
  expect([...answersOf([CALL, first, second])]).toEqual([["c1", second]]);
  expect(answersOf([CALL, first, waits]).size).toBe(0);
  expect(answersOf([first]).size).toBe(0);
});

it("reads input that is text with JSON inside, and survives any other", () => {
  expect(commandOf('{"command": "ls"}')).toBe("ls");
  for (const odd of [null, 7, "ls", "{", [], { command: 7 }, { command: [] }, { command: "" }]) expect(commandOf(odd)).toBeNull();
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
