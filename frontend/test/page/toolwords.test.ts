import { expect, it } from "vitest";
import type { Item, MessageItem, ThoughtItem, ToolCallItem } from "../../src/core/events.ts";
import { runsOf } from "../../src/page/runs.ts";
import { countsOf } from "../../src/page/toolverbs.ts";
import { changesOf, firstLineOf, wordsOfCall } from "../../src/page/toolwords.ts";

const call = (more: Partial<ToolCallItem>): ToolCallItem =>
  ({ kind: "tool_call", id: "c", turn_id: "t", at: "", status: "completed", title: "its title", ...more }) as ToolCallItem;
const diff = (path: string, oldText: string | null, newText: string) => ({ type: "diff", path, oldText, newText });

it.each<[Partial<ToolCallItem>, string | null, string]>([
  [{ tool_kind: "execute", raw_input: { command: "npm test" } }, "callRan", "npm test"],
  [{ tool_kind: "execute", raw_input: { command: ["bash", "-lc", "ls | wc\necho"] } }, "callRan", "ls | wc …"],
  [{ tool_kind: "execute", raw_input: { command: "npm test" }, status: "failed" }, "callRan", "npm test"],
  [{ tool_kind: "execute", raw_input: { command: "npm test" }, status: "in_progress" }, "callRunning", "npm test"],
  [{ tool_kind: "execute", raw_input: { command: "rm \u202ecod.txt" } }, "callRan", "rm \\u{202e}cod.txt"],
  [{ tool_kind: "read", locations: [{ path: "/work/src/app.py", line: 3 }] }, "callRead", "app.py"],
  [{ tool_kind: "read", raw_input: { file_path: "C:\\x\\a.txt" } }, "callRead", "a.txt"],
  [{ tool_kind: "edit", content: [diff("/a/app.py", "a", "b")] }, "callEdited", "app.py"],
  [{ tool_kind: "edit", content: [diff("/a/app.py", "a", "b")], status: "failed" }, "callEditing", "app.py"],
  [{ content: [diff("/a/new.py", null, "b"), diff("/a/other.py", null, "c")] }, "callCreated", "new.py (+1)"],
  [{ tool_kind: "delete", locations: [{ path: "old/" }] }, "callDeleted", "old"],
  [{ tool_kind: "search", raw_input: { pattern: "TODO" } }, "callSearched", "TODO"],
  [{ tool_kind: "fetch", raw_input: { url: "https://example.org/a" } }, "callFetched", "example.org/a"],
])("tells what was done with what: %j", (item, key, object) => {
  expect(wordsOfCall(call(item))).toMatchObject({ key, object });
});

it.each<Partial<ToolCallItem>>([
  {},
  { tool_kind: "execute" },
  { tool_kind: "search", raw_input: { pattern: 7 } },
  { tool_kind: "think" },
  { tool_kind: "constructor" },
  { tool_kind: "create" },
  { tool_kind: "read", locations: "odd" as never },
])("has the agent's title alone where it does not say: %j", (item) => {
  expect(wordsOfCall(call(item))).toBeNull();
});

it("takes the first line of what a call said, but for what was read or written", () => {
  const said = (text: string) => [{ type: "content", content: { type: "text", text } }];
  expect(firstLineOf(call({ tool_kind: "execute", content: said("```console\n\n 3 passed\nmore") as never }))).toBe("3 passed");
  expect(firstLineOf(call({ tool_kind: "execute", raw_output: { stdout: "ok\n" } }))).toBe("ok");
  expect(firstLineOf(call({ tool_kind: "read", raw_output: "import os" }))).toBe("");
  expect(firstLineOf(call({ tool_kind: "read", raw_output: "no such file", status: "failed" }))).toBe("no such file");
  expect(firstLineOf(call({ tool_kind: "execute", raw_output: "half", status: "in_progress" }))).toBe("");
});

it("counts the lines that an edit changes, unless that takes long", () => {
  expect(changesOf([diff("a", "a\nb\nc\n", "a\nB\nc\nd\n")])).toEqual({ added: 2, removed: 1 });
  expect(changesOf([diff("a", null, "x\ny\n"), diff("b", "z", "")])).toEqual({ added: 2, removed: 1 });
  expect(changesOf([])).toBeNull();
  const lines = (sign: string): string => Array.from({ length: 400 }, (_, n) => `${sign}${n}`).join("\n");
  expect(changesOf([diff("a", lines("a"), lines("b"))])).toBeNull();
});

const named = (id: string, more: Partial<ToolCallItem> = {}): ToolCallItem => call({ id, ...more });
const thought = { kind: "thought", id: "th", text: "hm", is_streaming: false } as ThoughtItem;
const says = { kind: "message", id: "m", sender: "agent", text: "so" } as MessageItem;
const shapeOf = (items: Item[], apart: Item[] = []): string =>
  runsOf(items, (item) => apart.includes(item))
    .map((piece) => ("item" in piece ? piece.item.id : `(${piece.run.map((one) => one.id).join(" ")})`))
    .join(" ");

it("puts three and more finished calls together, with the thoughts between them", () => {
  const [a, b, c, d] = [named("a"), named("b", { status: "failed" }), named("c"), named("d", { status: "in_progress" })] as const;
  expect(shapeOf([a, b])).toBe("a b");
  expect(shapeOf([a, b, c])).toBe("(a b c)");
  expect(shapeOf([says, thought, a, thought, b, c, thought, d])).toBe("m th (a th b c) th d");
  expect(shapeOf([a, says, b, c])).toBe("a m b c");
  expect(shapeOf([a, b, c, d], [b])).toBe("a b c d");
  expect(shapeOf([a, b, c], [a])).toBe("a b c");
});

it("says what a run did, and how often", () => {
  const run = [named("a", { tool_kind: "read" }), named("b", { tool_kind: "read", status: "failed" }), named("c")];
  expect(countsOf(run)).toEqual({ verbs: [["read", 2], ["other", 1]], failed: 1 });
});
