import { expect, it } from "vitest";
import type { GatewayEvent, Item } from "../../src/core/events.ts";
import { ChatState } from "../../src/core/reduce.ts";

let seq = 0;
const at = "2026-01-31T09:30:00.000Z";
const event = (fields: Record<string, unknown>): GatewayEvent => ({ seq: ++seq, at, ...fields }) as GatewayEvent;

function folded(...events: Record<string, unknown>[]): ChatState {
  const chat = new ChatState("s");
  for (const fields of events) chat.apply(event(fields));
  return chat;
}

const started = { type: "turn_started", turn_id: "t", message_id: "u", reply_id: "r" };
const delta = (text: string) => ({ type: "text_delta", message_id: "a", turn_id: "t", text });

it("an item that changed is another object, one that did not is the same", () => {
  const chat = folded(
    { type: "message", message_id: "u", sender: "user", content: "hi", turn_id: "t", is_streaming: false },
    started,
    delta("a"),
  );
  const [user, answer] = chat.items;
  chat.apply(event(delta("b")));
  expect(chat.items[0]).toBe(user);
  expect(chat.items[1]).not.toBe(answer);
});

it("an unknown event moves seq and nothing else", () => {
  const chat = folded(started);
  const before = chat.snapshot();
  chat.apply(event({ type: "from_the_future", anything: 1 }));
  expect(chat.snapshot()).toEqual({ ...before, seq: before.seq + 1 });
});

it("the answer keeps its place in State and moves behind the tools in the drawing", () => {
  const chat = folded(
    started,
    { type: "tool_call", tool_call_id: "c", turn_id: "t", title: "ls", kind: "execute" },
    delta("done"),
  );
  expect(chat.items.map((item) => item.kind)).toEqual(["tool_call", "message"]);
  expect(chat.messages).toHaveLength(1);
});

it("absent fields of a tool call are unchanged, lists replace", () => {
  const call = { type: "tool_call", tool_call_id: "c", turn_id: "t" };
  const chat = folded(
    { ...call, title: "Read", kind: "read", status: "pending", locations: [{ path: "/a" }] },
    { ...call, status: "completed", locations: [{ path: "/b" }, { path: "/c" }] },
  );
  expect(chat.items[0]).toMatchObject({
    title: "Read",
    tool_kind: "read",
    status: "completed",
    locations: [{ path: "/b" }, { path: "/c" }],
  });
});

it("three thousand deltas cost no more than a glance", () => {
  const chat = folded(started);
  const before = performance.now();
  for (let n = 0; n < 3000; n += 1) chat.apply(event(delta("word ")));
  expect(performance.now() - before).toBeLessThan(500);
  expect(chat.messages[0]?.content).toHaveLength(15_000);
});

it("a part of a conversation goes on, and earlier items come before it", () => {
  const message = (id: string, index: number) =>
    ({ ...{ kind: "message", id, turn_id: null, sender: "user", text: id, at }, is_streaming: false, is_placeholder: false, index }) as Item;
  const call = (status: string) => ({ kind: "tool_call", id: "c", turn_id: "t", status, at }) as Item;
  const whole = folded(started).snapshot();
  const chat = ChatState.restore({ ...whole, earlier: 3, apart: 1, items: [call("pending"), message("m3", 3)] });
  chat.apply(event({ type: "message", message_id: "m4", sender: "user", content: "new", is_streaming: false }));
  chat.apply(event({ type: "tool_call", tool_call_id: "c", turn_id: "t", status: "completed" }));
  expect(chat.snapshot().earlier).toBe(3);
  chat.prepend([message("m1", 1), call("pending"), message("m2", 2)], 1);
  expect(chat.earlier).toBe(1);
  expect(chat.items.map((item) => item.id)).toEqual(["m1", "c", "m2", "m3", "m4"]);
  expect(chat.items.map((item) => (item.kind === "message" ? item.index : 0))).toEqual([1, 0, 2, 3, 4]);
  expect(chat.items[1]).toMatchObject({ status: "completed" });
  chat.apply(event({ type: "message_withdrawn", message_id: "m2", reason: "link_revoked" }));
  expect(chat.items[2]).toMatchObject({ id: "m2", is_withdrawn: true });
});

it("numbers on after earlier messages when the only one that is here was blank", () => {
  const chat = ChatState.restore({ ...folded().snapshot(), earlier: 3, items: [] });
  chat.apply(event(started));
  chat.apply(event({ type: "turn_interrupted", turn_id: "t", reason: "failed", message: "It failed." }));
  chat.apply(event({ type: "message", message_id: "m3", sender: "user", content: "again", is_streaming: false }));
  expect(chat.items.map((item) => item.kind === "message" && item.index)).toEqual([3]);
});
