import { expect, it } from "vitest";
import type { Item } from "../../src/core/events.ts";
import { askedFor, drawn, toldBy } from "../../src/page/order.ts";

const user = (id: string, turn_id: string) => ({ kind: "message", sender: "user", id, turn_id }) as Item;
const agent = (id: string, turn_id: string) => ({ kind: "message", sender: "agent", id, turn_id }) as Item;
const tool = (id: string, turn_id: string) => ({ kind: "tool_call", id, turn_id }) as Item;
const ids = (items: Item[]): string[] => items.map((item) => item.id);

it("draws a question that waited next to its answer", () => {
  const items = [user("u1", "t1"), agent("a1", "t1"), user("u2", "t2"), tool("c1", "t1"), agent("a2", "t2")];
  expect(ids(drawn(items, []))).toEqual(["u1", "a1", "c1", "u2", "a2"]);
});

it("leaves a message that waits to the queue", () => {
  expect(
    ids(drawn([user("u1", "t1"), agent("a1", "t1"), user("u2", "t2")], [{ message_id: "u2", turn_id: "t2", text: "" }])),
  ).toEqual(["u1", "a1"]);
});

it("keeps a message without a turn where it is", () => {
  expect(ids(drawn([user("u1", "t1"), agent("a1", "t1"), user("u2", "t2"), agent("a3", "t3")], []))).toEqual([
    "u1",
    "a1",
    "u2",
    "a3",
  ]);
});

it("finds the call that a permission is asked for, while it is open", () => {
  const ask = (id: string, tool_call_id: string | null, outcome: string | null) =>
    ({ kind: "permission", id, turn_id: "t1", tool_call_id, outcome }) as Item;
  const items = [tool("c1", "t1"), tool("c2", "t1"), ask("p1", "c1", "selected"), ask("p2", "c2", null), ask("p3", null, null)];
  expect([...askedFor(items)]).toEqual([["p2", items[1]]]);
});

it("finds the line that tells of the failure, so that it is said once", () => {
  const line = (id: string, text: string) => ({ kind: "message", sender: "system", id, text, turn_id: null }) as Item;
  const failure = { code: "gateway_restarted", message: "Restarted.", retryable: true };
  const items = [user("u1", "t1"), line("t1.error", "Restarted."), user("u2", "t2"), line("t2.error", "Restarted.")];
  expect(toldBy(items, failure)).toBe(items[3]);
  expect(toldBy(items, { ...failure, message: "Something else." })).toBeUndefined();
  expect(toldBy(items, null)).toBeUndefined();
});
