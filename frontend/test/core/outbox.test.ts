/** Messages on their way: over a reload, in a storage that is full, for nobody but their author. */

import { expect, it } from "vitest";
import { Api } from "../../src/core/api.ts";
import { Conversation } from "../../src/core/conversation.ts";
import { ApiError } from "../../src/core/errors.ts";
import { type Outbox, storedOutbox } from "../../src/core/outbox.ts";
import { type KeyValue, memoryStorage, spilling } from "../../src/core/storage.ts";
import { SessionStore } from "../../src/core/store.ts";
import { FakeClock, FakeServer, json, settled, stateOf } from "../fakes.ts";

function opened(server: FakeServer, outbox: Outbox): Conversation {
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  return new Conversation({ api, sessionId: "s", clock: new FakeClock(), outbox });
}

it("what did not reach the gateway is sent after a reload, once, under its key", async () => {
  const storage = memoryStorage();
  const away = new FakeServer();
  away.answers["POST /api/chat"] = () => Promise.reject(new TypeError("no network"));
  await opened(away, storedOutbox(storage, "box")).send("hello");
  const [kept] = storedOutbox(storage, "box").load();
  expect(kept?.text).toBe("hello");

  const server = new FakeServer();
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 2 }));
  const again = opened(server, storedOutbox(storage, "box"));
  expect(again.outgoing.map((one) => [one.text, one.error?.code])).toEqual([["hello", "unreachable"]]);
  again.start();
  await settled();
  const sent = server.requests.filter((one) => one.url.pathname === "/api/chat");
  expect(sent.map((one) => one.headers.get("idempotency-key"))).toEqual([kept?.key]);
  await server.wire.event({ seq: 2, type: "turn_started", turn_id: "t", message_id: "m", reply_id: "r" });
  expect(storedOutbox(storage, "box").load()).toEqual([]);
});

it("a refusal comes back with its reason and waits for the person", () => {
  const storage = memoryStorage();
  const error = new ApiError(429, "quota_exceeded", "Too much.");
  storedOutbox(storage, "box").save([{ key: "k", text: "x", attachments: [], error }]);
  const server = new FakeServer();
  const [message] = opened(server, storedOutbox(storage, "box")).outgoing;
  expect([message?.error?.status, message?.error?.code, message?.error?.message]).toEqual([429, "quota_exceeded", "Too much."]);
});

it("what cannot be read is left out", () => {
  const storage = memoryStorage();
  for (const text of ["{", "{}", '[1, null, {"key": "k"}, {"key": 1, "text": "x"}]']) {
    storage.setItem("box", text);
    expect(storedOutbox(storage, "box").load()).toEqual([]);
  }
});

it("nothing on its way is left to the next person", () => {
  const storage = memoryStorage();
  const api = new Api({ baseUrl: "http://gateway", fetch: new FakeServer().fetch });
  const store = new SessionStore({ api, storage, clock: new FakeClock() });
  const outbox = store.outbox("s");
  const message = { key: "k", text: "secret", attachments: [], error: null };
  outbox.save([message]);
  store.forget();
  expect(store.outbox("s").load()).toEqual([]);
  outbox.save([message]); // an answer that came late
  expect(store.outbox("s").load()).toEqual([]);
});

it("a first message goes to the agent that was chosen before the reload", () => {
  const storage = memoryStorage();
  const api = new Api({ baseUrl: "http://gateway", fetch: new FakeServer().fetch });
  const store = new SessionStore({ api, storage, clock: new FakeClock() });
  store.chooseAgent("other");
  const again = new SessionStore({ api, storage, clock: new FakeClock() });
  expect([again.currentId, again.chosenAgent]).toEqual([store.currentId, "other"]);
  again.startNew();
  expect(new SessionStore({ api, storage, clock: new FakeClock() }).chosenAgent).toBeNull();
});

it("a full storage loses nothing until the reload", () => {
  const real = memoryStorage();
  const full: KeyValue = Object.create(real, {
    setItem: { value: (key: string, value: string) => (key === "fits" ? real.setItem(key, value) : fail()) },
  });
  const told: string[] = [];
  const storage = spilling(full, (name, isLasting) => told.push(`${name} ${isLasting}`));
  storage.setItem("fits", "1");
  storage.setItem("draft", "2");
  expect(told).toEqual(["fits true", "draft false"]);
  expect([storage.getItem("fits"), storage.getItem("draft"), storage.length]).toEqual(["1", "2", 2]);
  storage.removeItem("draft");
  expect(storage.getItem("draft")).toBeNull();
});

function fail(): never {
  throw new DOMException("full", "QuotaExceededError");
}
