import { describe, expect, it } from "vitest";
import { ProductChat, TOKEN_KEY } from "../../../src/apps/product_chat/client/chat.ts";
import { ProductSessions, SafeStorage } from "../../../src/apps/product_chat/client/sessions.ts";
import type { SocketLike } from "../../../src/apps/product_chat/client/socket.ts";
import { FakeClock, settled } from "../../fakes.ts";

interface Asked {
  method: string;
  path: string;
  body: Record<string, unknown> | null;
  headers: Record<string, string>;
  credentials: string | undefined;
}

function setUp(origin = "http://gateway") {
  const clock = new FakeClock();
  clock.random = () => 0.5;
  const asked: Asked[] = [];
  const answers: ((asked: Asked) => [number, unknown, Record<string, string>?] | null)[] = [];
  const sockets: { url: string; socket: SocketLike }[] = [];
  let number = 99; // opening the chat takes one
  const fakeFetch = (url: string | URL | Request, request: RequestInit = {}): Promise<Response> => {
    const one: Asked = {
      method: request.method ?? "GET",
      path: String(url).replace("http://gateway", ""),
      body: request.body ? (JSON.parse(String(request.body)) as Record<string, unknown>) : null,
      headers: request.headers as Record<string, string>,
      credentials: request.credentials,
    };
    asked.push(one);
    for (const answer of answers) {
      const given = answer(one);
      if (given?.[0] === 0) return Promise.reject(new TypeError("network"));
      if (given) return Promise.resolve(new Response(JSON.stringify(given[1]), { status: given[0], headers: given[2] ?? {} }));
    }
    const body = one.method === "GET" ? [] : { message_id: (number += 1), session_id: one.body?.["session_id"] };
    return Promise.resolve(new Response(JSON.stringify(body), { status: 200 }));
  };
  const storage = new SafeStorage(() => undefined);
  const sessions = new ProductSessions({ storage, clock, fingerprint: "f" });
  const chat = new ProductChat({
    gateway: "http://gateway", productId: 1, sessions, clock, origin, fetch: fakeFetch as typeof fetch,
    open: (url) => {
      const socket: SocketLike = { onopen: null, onmessage: null, onclose: null, readyState: 0, send: () => undefined, close: () => undefined };
      sockets.push({ url, socket });
      return socket;
    },
  });
  const hear = (frame: object): void => sockets[sockets.length - 1]?.socket.onmessage?.({ data: JSON.stringify(frame) } as MessageEvent);
  return { asked, answers, chat, clock, hear, sessions, sockets, storage };
}

const from = (id: number, text: string, sender = "assistant", seq = id): object => ({
  type: "chat_message", message_id: id, message: text, sender_type: sender, sender_name: sender, timestamp: "t", seq,
});

describe("a chat", () => {
  it("opens once, and shows a message once whatever way it comes", async () => {
    const { asked, chat, hear } = setUp();
    await Promise.all([chat.open(), chat.open()]);
    expect(asked.filter((one) => one.path.endsWith("/sessions")).length).toBe(1);
    const sending = chat.send("hello");
    hear(from(101, "hello", "customer"));
    await sending;
    hear(from(102, "hi"));
    hear(from(102, "hi", "assistant", 103));
    expect(chat.messages.map((message) => [message.number, message.text, message.state])).toEqual([
      [101, "hello", "sent"], [102, "hi", "sent"],
    ]);
  });

  it("sends again under the same name after a lost answer", async () => {
    const { answers, asked, chat, clock } = setUp();
    await chat.open();
    let losses = 2;
    answers.push((one) => (one.path.endsWith("/messages") && losses-- > 0 ? [0, null] : null));
    const sending = chat.send("hello");
    await settled();
    await clock.pass(10_000);
    await sending;
    const tries = asked.filter((one) => one.method === "POST" && one.path.endsWith("/messages"));
    expect(tries.length).toBe(3);
    expect(new Set(tries.map((one) => one.body?.["client_id"])).size).toBe(1);
    expect(chat.messages[0]?.state).toBe("sent");
  });

  it("says why a message was refused, and sends it when asked again", async () => {
    const { answers, chat } = setUp();
    await chat.open();
    answers.push((one) => (one.path.endsWith("/messages") ? [429, { detail: { error: "x", message: "Too many" } }] : null));
    await chat.send("hello");
    expect(chat.messages[0]).toMatchObject({ state: "failed", error: "Too many" });
    answers.length = 0;
    await chat.retry(chat.messages[0]?.key ?? "");
    expect(chat.messages[0]?.state).toBe("sent");
  });

  it("says at the message why there is no chat", async () => {
    const { answers, chat } = setUp();
    answers.push((asked) => (asked.path.endsWith("/sessions") ? [404, { detail: "Product not found" }] : null));
    await chat.send("hello");
    expect(chat.trouble).toBe("Product not found");
    expect(chat.messages.map((message) => [message.state, message.error])).toEqual([["failed", "Product not found"]]);
  });

  it("takes another id where its own is in use", async () => {
    const { answers, asked, chat, sessions } = setUp();
    const first = sessions.getProductSession(1).sessionId;
    answers.push((one) => (one.body?.["session_id"] === first ? [409, { detail: "in use" }] : null));
    await chat.open();
    expect(chat.sessionId).not.toBe(first);
    expect(asked.length).toBe(2);
  });

  it("in a foreign page carries the visitor's token and no cookie", async () => {
    const { answers, asked, chat, sockets, storage } = setUp("http://shop");
    answers.push(() => [200, { message_id: 1 }, { "X-Visitor-Token": "agv_1" }]);
    await chat.open();
    await chat.send("hello");
    expect(asked.map((one) => one.credentials)).toEqual(["omit", "omit"]);
    expect(asked[1]?.headers["Authorization"]).toBe("Bearer agv_1");
    expect(sockets[0]?.url).toContain("visitor=agv_1");
    expect(storage.getItem(TOKEN_KEY)).toBe("agv_1");
  });

  it("tells who types and who has taken over, and counts what is unread", async () => {
    const { chat, hear } = setUp();
    await chat.open();
    hear({ type: "typing_indicator", is_typing: true, user_name: "Assistant", user_type: "assistant", seq: 1 });
    expect(chat.typing).toBe("Assistant");
    hear(from(5, "hi", "assistant", 2));
    expect([chat.typing, chat.unread]).toEqual([null, 1]);
    hear({ type: "session_status", status: "in_progress", assigned_to: "Ruth", seq: 3 });
    expect([chat.status, chat.person]).toEqual(["in_progress", "Ruth"]);
    await chat.markRead();
    expect(chat.unread).toBe(0);
  });
});

describe("who only looks", () => {
  it("leaves nothing at the gateway, and hears how the shop greets", async () => {
    const { answers, asked, chat, sockets } = setUp();
    answers.push(({ path }) => (path === "/api/products/1/chat" ? [200, { greeting: "Hi" }] : null));
    chat.wake();
    expect(await chat.settings()).toEqual({ greeting: "Hi" });
    await settled();
    expect(asked.map(({ method, path, credentials }) => [method, path, credentials])).toEqual([["GET", "/api/products/1/chat", "omit"]]);
    expect(sockets).toHaveLength(0);
    expect(chat.isBegun).toBe(false);
  });

  it("asks for a person in words, and then for one", async () => {
    const { answers, asked, chat } = setUp();
    answers.push(({ path }) => (path.endsWith("/person") ? [200, { is_open: false, away: "Later" }] : null));
    expect(await chat.wantPerson("A person, please")).toEqual({ is_open: false, away: "Later" });
    expect(asked.map(({ method, path }) => `${method} ${path.replace(/session_[^/]+/, "ID")}`)).toEqual([
      "POST /api/products/1/chat/sessions", "POST /api/products/1/chat/sessions/ID/messages", "POST /api/products/1/chat/sessions/ID/person",
    ]);
    expect(chat.isBegun).toBe(true);
  });
});
