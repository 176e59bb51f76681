import { beforeEach, expect, it } from "vitest";
import { Api } from "../../src/core/api.ts";
import { ChatManager, type EventSourceLike } from "../../src/core/chat-manager.ts";
import { type KeyValue, memoryStorage } from "../../src/core/storage.ts";
import { VISITOR_HEADER } from "../../src/core/visitor.ts";
import { FakeClock, FakeServer, json, settled } from "../fakes.ts";

const KEY = "agw.visitor:http://gateway";
const nobody = () => json({ modes: ["anonymous"], sign_in: [], me: null });

let server: FakeServer;
let storage: KeyValue;

beforeEach(() => {
  server = new FakeServer();
  storage = memoryStorage();
});

const made = (origin = "https://shop.example"): Api =>
  new Api({ baseUrl: "http://gateway", fetch: server.fetch, storage, origin });

/** Gives each request without a good token a new visitor's. */
function givesTokens(good = new Set<string>()): void {
  let count = 0;
  server.answers["GET /api/sessions"] = (request) => {
    const token = request.headers.get("Authorization")?.replace("Bearer ", "");
    if (token !== undefined && good.has(token)) return json({ sessions: [] });
    if (token !== undefined) return json({ error: { code: "unauthorized", message: "no" } }, 401);
    count += 1;
    good.add(`agv_${count}`);
    return json({ sessions: [] }, 200, { [VISITOR_HEADER]: `agv_${count}` });
  };
}

it("keeps the token of the first answer and shows it from then on", async () => {
  givesTokens();
  await made().sessions();
  expect(storage.getItem(KEY)).toBe("agv_1");
  await made().sessions();
  const shown = server.requests.map((request) => request.headers.get("Authorization"));
  expect(shown).toEqual([null, "Bearer agv_1"]);
});

it("is one visitor, however many requests begin at once", async () => {
  givesTokens();
  const api = made();
  await Promise.all([api.sessions(), api.sessions(), api.sessions()]);
  const shown = server.requests.map((request) => request.headers.get("Authorization"));
  expect(shown).toEqual([null, "Bearer agv_1", "Bearer agv_1"]);
});

it("lets the next one go ahead where the first came to nothing", async () => {
  const api = made();
  const [first, second] = [api.sessions(), api.sessions()];
  await expect(first).rejects.toThrow("cannot be reached");
  await expect(second).rejects.toThrow("cannot be reached");
  expect(server.requests).toHaveLength(2);
});

it("asks once more without a token that is not valid any more", async () => {
  givesTokens();
  storage.setItem(KEY, "agv_old");
  const api = made();
  await Promise.all([api.sessions(), api.sessions()]);
  expect(storage.getItem(KEY)).toBe("agv_1");
  const fresh = server.requests.filter((request) => !request.headers.has("Authorization"));
  expect(fresh).toHaveLength(1);
});

it("says 401 where a new one is refused as well, and does not go round", async () => {
  server.answers["GET /api/sessions"] = () => json({ error: { code: "unauthorized", message: "no" } }, 401);
  storage.setItem(KEY, "agv_old");
  await expect(made().sessions()).rejects.toThrow("no");
  expect(server.requests).toHaveLength(2);
  expect(storage.getItem(KEY)).toBeNull();
});

it("keeps and shows nothing on the gateway's own origin", async () => {
  givesTokens();
  await made("http://gateway").sessions();
  await made("http://gateway").sessions();
  expect(storage.getItem(KEY)).toBeNull();
  expect(server.requests.every((request) => !request.headers.has("Authorization"))).toBe(true);
});

it("leaves a credential of one's own alone", async () => {
  givesTokens(new Set(["agw_mine"]));
  const headers = () => ({ Authorization: "Bearer agw_mine" });
  storage.setItem(KEY, "agv_1");
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch, storage, origin: "https://x", headers });
  await api.sessions();
  expect(server.requests[0]?.headers.get("Authorization")).toBe("Bearer agw_mine");
});

it("reads streams as the same visitor", async () => {
  storage.setItem(KEY, "agv_1");
  Object.assign(globalThis, { location: new URL("https://shop.example/cart") });
  try {
    const manager = new ChatManager({
      backendUrl: "http://gateway",
      sessionId: "s",
      fetch: server.fetch,
      clock: new FakeClock(),
      storage,
    });
    manager.connect();
    await settled();
    expect(server.calls("/api/chat/stream")[0]?.headers.get("Authorization")).toBe("Bearer agv_1");
    manager.stop();
  } finally {
    Reflect.deleteProperty(globalThis, "location");
  }
});

it("gives an EventSource the token in its address, once there is one", async () => {
  server.answers["GET /api/auth"] = () =>
    new Response(nobody().body, { headers: { [VISITOR_HEADER]: "agv_7", "Content-Type": "application/json" } });
  const opened: string[] = [];
  const source: EventSourceLike = { onopen: null, onmessage: null, onerror: null, close: () => undefined };
  Object.assign(globalThis, { location: new URL("https://shop.example/cart") });
  try {
    const manager = new ChatManager({
      backendUrl: "http://gateway",
      sessionId: "s",
      fetch: server.fetch,
      clock: new FakeClock(),
      storage,
      eventSource: (url) => {
        opened.push(url);
        return source;
      },
    });
    manager.connect();
    await settled();
    expect(opened).toEqual(["http://gateway/api/chat/stream?session_id=s&visitor=agv_7"]);
    manager.disconnect();
    manager.connect();
    manager.disconnect();
    await settled();
    expect(opened).toHaveLength(1);
  } finally {
    Reflect.deleteProperty(globalThis, "location");
  }
});
