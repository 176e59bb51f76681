import { beforeEach, expect, it } from "vitest";
import { Api } from "../../src/core/api.ts";
import { Conversation } from "../../src/core/conversation.ts";
import { Link } from "../../src/core/link.ts";
import { memoryStorage } from "../../src/core/storage.ts";
import { BACKOFF_FIRST_MS, BACKOFF_MOST_MS } from "../../src/core/stream.ts";
import { FakeClock, FakeServer, json, settled, stateOf } from "../fakes.ts";

let server: FakeServer;
let conversation: Conversation;

beforeEach(async () => {
  server = new FakeServer();
  conversation = opened();
  conversation.start();
  await settled();
});

function opened(agent?: string, clock = new FakeClock()): Conversation {
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  return new Conversation({
    api,
    sessionId: "s",
    clock,
    ...(agent && { agent }),
  });
}

const userMessage = (seq: number, content: string) => ({
  seq,
  type: "message",
  message_id: `m${seq}`,
  sender: "user",
  content,
  turn_id: "t",
  is_streaming: false,
});

it("shows a message at once and only once, if the answer comes before the log", async () => {
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 2 }));
  const sent = conversation.send("hello");
  expect(conversation.outgoing.map((one) => one.text)).toEqual(["hello"]);
  await sent;
  expect(conversation.outgoing).toHaveLength(1);
  await server.wire.event(userMessage(2, "hello"));
  expect(conversation.outgoing).toHaveLength(0);
  expect(conversation.chat.messages).toHaveLength(1);
});

it("shows a message only once, if the log comes before the answer", async () => {
  let answer: (response: Response) => void = () => undefined;
  server.answers["POST /api/chat"] = () => new Promise((go) => (answer = go));
  const sent = conversation.send("hello");
  await settled();
  await server.wire.event(userMessage(2, "hello"));
  expect(conversation.outgoing).toHaveLength(0);
  answer(json(stateOf({ seq: 2 })));
  await sent;
  expect(conversation.outgoing).toHaveLength(0);
});

it("keeps a message that could not be sent and sends it again under the same key", async () => {
  await conversation.send("hello");
  expect(conversation.outgoing[0]?.error).toMatchObject({ code: "unreachable" });
  expect(conversation.isProcessing).toBe(false);
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 2 }));
  await conversation.resend(conversation.outgoing[0]?.key ?? "");
  const keys = server.calls("/api/chat").map((call) => call.headers.get("Idempotency-Key"));
  expect(server.calls("/api/chat")[0]?.headers.get("Prefer")).toBe("return=minimal");
  expect(keys).toHaveLength(2);
  expect(new Set(keys).size).toBe(1);
});

/** A conversation whose gateway has just gone. */
async function cutOff(): Promise<{ clock: FakeClock; away: Conversation }> {
  const clock = new FakeClock();
  const away = opened(undefined, clock);
  away.start();
  await settled();
  server.requests.length = 0;
  server.refusals.push(new TypeError("Failed to fetch"));
  await server.wire.end();
  await clock.pass(BACKOFF_FIRST_MS);
  return { clock, away };
}

const sentOf = (): [string, string | null][] =>
  server
    .calls("/api/chat")
    .map((call) => [(call.body as { message: string }).message, call.headers.get("Idempotency-Key")]);

it("sends what was written while the gateway was down, by itself, once, in order, under the same keys", async () => {
  const { clock, away } = await cutOff();
  await away.send("one");
  await away.send("two");
  const keys = away.outgoing.map((one) => one.key);
  expect(away.outgoing.map((one) => away.isSentLater(one))).toEqual([true, true]);
  server.requests.length = 0;
  let seq = 1;
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: (seq += 1) }));
  await clock.pass(BACKOFF_MOST_MS);
  expect(away.status).toBe("open");
  expect(sentOf()).toEqual([
    ["one", keys[0]],
    ["two", keys[1]],
  ]);
  await server.wire.end();
  await clock.pass(BACKOFF_MOST_MS);
  expect(sentOf()).toHaveLength(2);
});

it("sends nothing past a message that does not get through", async () => {
  const { away } = await cutOff();
  await away.send("one");
  server.requests.length = 0;
  await away.send("two");
  expect(sentOf().map(([text]) => text)).toEqual(["one"]);
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 2 }));
  await away.send("three");
  expect(sentOf().map(([text]) => text)).toEqual(["one", "one", "two", "three"]);
});

it("sends a message again whose first try failed while the stream came back", async () => {
  const { clock, away } = await cutOff();
  let fail: (error: Error) => void = () => undefined;
  server.answers["POST /api/chat"] = () => new Promise((_, no) => (fail = no));
  const sent = away.send("one");
  await clock.pass(BACKOFF_MOST_MS);
  expect(away.status).toBe("open");
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 2 }));
  fail(new TypeError("Failed to fetch"));
  await sent;
  await settled();
  expect(new Set(sentOf().map(([, key]) => key)).size).toBe(1);
  expect(sentOf()).toHaveLength(2);
  expect(away.outgoing[0]?.error).toBeNull();
});

it.each([
  ["a full queue", 429, { error: { code: "queue_full", message: "Full." } }, 1],
  ["no worker to be had", 503, { error: { code: "worker_limit", message: "Full." } }, 1],
  ["a gateway that stops", 503, { error: { code: "draining", message: "Stopping." } }, 2],
  ["a proxy's page", 502, "Bad Gateway", 2],
])("sends again by itself what no gateway took, and leaves the rest to a click: %s", async (_, status, body, times) => {
  const { clock, away } = await cutOff();
  server.answers["POST /api/chat"] = () => json(body, status);
  await away.send("one");
  expect(away.outgoing.map((one) => away.isSentLater(one))).toEqual([times === 2]);
  await clock.pass(BACKOFF_MOST_MS);
  expect(away.status).toBe("open");
  expect(sentOf()).toHaveLength(times);
});

it.each([413, 422, 400])("gives a message back that will never be taken as it is (%i)", async (status) => {
  const back: string[] = [];
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  const refused = new Conversation({ api, sessionId: "s", clock: new FakeClock(), onRefused: (text) => back.push(text) });
  server.answers["POST /api/chat"] = () => json({ error: { code: "message_too_long", message: "Too long." } }, status);
  await refused.send("too long");
  expect(back).toEqual(["too long"]);
  expect(refused.outgoing).toHaveLength(0);
});

it("keeps a message that can be sent again later", async () => {
  const back: string[] = [];
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  const busy = new Conversation({ api, sessionId: "s", clock: new FakeClock(), onRefused: (text) => back.push(text) });
  server.answers["POST /api/chat"] = () => json({ error: { code: "queue_full", message: "Full." } }, 429);
  await busy.send("later");
  expect([back, busy.outgoing.map((one) => one.text)]).toEqual([[], ["later"]]);
});

it("sends a queued message's text to the queue and not twice to the page", async () => {
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 9 }));
  await server.wire.event({ seq: 8, type: "turn_started", turn_id: "t", message_id: "m", reply_id: "r" });
  await conversation.send("next");
  await server.wire.event({ seq: 9, type: "queue", waiting: [{ message_id: "w", text: "next" }], is_held: false });
  expect(conversation.outgoing).toHaveLength(0);
  expect(conversation.chat.waiting).toHaveLength(1);
});

it("replaces everything at a resync", async () => {
  await server.wire.event(userMessage(1, "old"));
  const chat = { ...conversation.chat.snapshot(), seq: 50, title: "After", items: [] };
  await server.wire.event({ seq: 50, type: "resync", state: stateOf({ missing_api_key: true }), chat });
  expect(conversation.chat.title).toBe("After");
  expect(conversation.chat.items).toEqual([]);
  expect(conversation.missingApiKey).toBe(true);
});

it("asks for no State beside the whole fold, and keeps what only a State says", async () => {
  expect(server.calls("/api/chat/stream")[0]?.headers.get("Prefer")).toBe("return=minimal");
  const present = { people: [{ person_id: "p", name: "Ada", kind: "guest", link: "" }], count: 1 };
  await server.wire.write(`event: present\ndata: ${JSON.stringify({ seq: 0, type: "present", present })}\n\n`);
  const chat = { ...conversation.chat.snapshot(), seq: 50, title: "After" };
  const { session_id, is_processing, queued, start_position } = stateOf();
  const state = { session_id, seq: 50, is_processing, queued, start_position, missing_api_key: true };
  await server.wire.event({ seq: 50, type: "resync", state, chat });
  expect([conversation.chat.title, conversation.missingApiKey]).toEqual(["After", true]);
  expect(conversation.present).toEqual(present);
});

it("creates the session with its agent before the first message, once", async () => {
  server.answers["POST /api/sessions"] = () => json({ session_id: "s", agent: "opencode" }, 201);
  server.answers["POST /api/chat"] = () => json(stateOf());
  const chosen = opened("opencode");
  await chosen.send("one");
  await chosen.send("two");
  expect(server.calls("/api/sessions").map((call) => call.body)).toEqual([{ agent: "opencode", session_id: "s" }]);
});

it("asks for the stream again when a message revives an ended session", async () => {
  server.refusals.push(new Response(null, { status: 204 }));
  const ended = opened();
  ended.start();
  await settled();
  expect(ended.status).toBe("ended");
  server.answers["POST /api/chat"] = () => json(stateOf());
  await ended.send("again");
  await settled();
  expect(ended.status).toBe("open");
});

it("says what went wrong with a verb, until the next one", async () => {
  server.answers["POST /api/interrupt"] = () =>
    json({ error: { code: "x", message: "No." }, request_id: "r1" }, 409);
  await conversation.interrupt();
  expect(conversation.error).toMatchObject({ status: 409, message: "No.", requestId: "r1" });
  server.answers["POST /api/interrupt"] = () => json(stateOf());
  await conversation.interrupt();
  expect(conversation.error).toBeNull();
});

it("retries the last message of the user", async () => {
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 9 }));
  await server.wire.event(userMessage(1, "first"));
  await server.wire.event(userMessage(2, "second"));
  await conversation.retry();
  expect(server.calls("/api/chat")[0]?.body).toMatchObject({ message: "second" });
});

it("retries what failed and not what waits behind it", async () => {
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 9 }));
  await server.wire.event(userMessage(1, "first"));
  await server.wire.event(userMessage(2, "second"));
  const waiting = [{ message_id: "m2", text: "second" }];
  await server.wire.event({ seq: 3, type: "queue", waiting, is_held: true });
  await conversation.retry();
  expect(server.calls("/api/chat")[0]?.body).toMatchObject({ message: "first" });
});

it("sends what was refused for want of a credential once somebody signed in again", async () => {
  server.answers["POST /api/chat"] = () => json({ error: { code: "unauthorized", message: "no" } }, 401);
  await conversation.send("hello");
  server.answers["POST /api/chat"] = () => json({ error: { code: "queue_full", message: "full" } }, 429);
  await conversation.send("and more");
  conversation.stop();
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 2 }));
  await conversation.resume();
  const sent = server.calls("/api/chat").map((request) => (request.body as { message: string }).message);
  expect(sent).toEqual(["hello", "and more", "hello"]);
  const keys = server.calls("/api/chat").map((request) => request.headers.get("Idempotency-Key"));
  expect(keys[2]).toBe(keys[0]);
  expect(server.wires).toHaveLength(2);
});

it("reads with a link and says so when it is refused", async () => {
  let isLost = false;
  const api = new Api({
    baseUrl: "http://gateway",
    fetch: server.fetch,
    onUnauthorized: () => {
      isLost = true;
    },
  });
  const link = new Link({ api, token: "ags_a.b", storage: memoryStorage() });
  const shared = new Conversation({ api, sessionId: "x", link, clock: new FakeClock() });
  server.answers["GET /api/shared/ags_a.b/stream"] = () => json({ error: { code: "share_not_found" } }, 404);
  shared.start();
  await settled();
  expect(server.requests.at(-1)?.url.search).toMatch(/^\?view=events&after=0&guest=[\w-]{36}&name=$/);
  expect([shared.isGuest && !shared.mayWrite, shared.status, shared.detail.status]).toEqual([true, "refused", 404]);
  expect(isLost).toBe(false);
});

it("tells when its session has moved, and waits to come back as somebody else", async () => {
  let moves = 0;
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch, onMoved: () => (moves += 1) });
  const guests = new Conversation({ api, sessionId: "x", clock: new FakeClock() });
  guests.start();
  await settled();
  await server.wires.at(-1)?.write('event: moved\ndata: {"seq":7,"type":"moved"}\n\n');
  await server.wires.at(-1)?.end();
  await settled();
  expect([moves, guests.status, guests.chat.seq]).toEqual([1, "retrying", 0]);
});

it("tells when the stream is refused for want of a credential", async () => {
  let isLost = false;
  const api = new Api({
    baseUrl: "http://gateway",
    fetch: server.fetch,
    onUnauthorized: () => {
      isLost = true;
    },
  });
  server.refusals.push(json({}, 401));
  new Conversation({ api, sessionId: "x", clock: new FakeClock() }).start();
  await settled();
  expect(isLost).toBe(true);
});
