import { beforeEach, expect, it, vi } from "vitest";
import {
  ChatManager,
  type ChatManagerConfig,
  type ChatManagerEventHandlers,
  type EventSourceLike,
} from "../../src/core/chat-manager.ts";
import { FakeClock, FakeServer, json, settled, stateOf } from "../fakes.ts";

let clock: FakeClock;
let server: FakeServer;
let handlers: { [Name in keyof ChatManagerEventHandlers]: ReturnType<typeof vi.fn> };

beforeEach(() => {
  clock = new FakeClock();
  server = new FakeServer();
  handlers = {
    onMessage: vi.fn(),
    onConnectionChange: vi.fn(),
    onError: vi.fn(),
    onTypingChange: vi.fn(),
    onProcessingChange: vi.fn(),
    onReadinessChange: vi.fn(),
    onWalletTransactionRequest: vi.fn(),
  };
});

async function connected(config: Partial<ChatManagerConfig> = {}): Promise<ChatManager> {
  const manager = new ChatManager(
    { backendUrl: "http://gateway/", sessionId: "s", fetch: server.fetch, clock, ...config },
    handlers as unknown as ChatManagerEventHandlers,
  );
  manager.connect();
  await settled();
  return manager;
}

const message = (sender: string, content: string, is_streaming = false) => ({
  sender,
  content,
  timestamp: "t",
  is_streaming,
});
const loading = { phase: "loading", detail: null };

it("has an id of its own unless it is given one", () => {
  const one = new ChatManager({ backendUrl: "" });
  const other = new ChatManager({ backendUrl: "" });
  expect(one.getSessionId()).toMatch(/^[0-9a-f-]{36}$/);
  expect(one.getSessionId()).not.toBe(other.getSessionId());
});

it("reports messages, typing, processing and readiness as they change", async () => {
  const manager = await connected();
  await server.wire.state(stateOf({ readiness: loading }));
  await server.wire.state(
    stateOf({ seq: 2, messages: [message("user", "hi"), message("agent", "He", true)], is_processing: true }),
  );
  await server.wire.state(stateOf({ seq: 3, messages: [message("user", "hi"), message("agent", "Hello")] }));
  expect(handlers.onConnectionChange.mock.calls.flat()).toEqual(["connecting", "connected"]);
  expect(handlers.onMessage).toHaveBeenCalledTimes(3);
  expect(handlers.onTypingChange.mock.calls.flat()).toEqual([false, true, false]);
  expect(handlers.onProcessingChange.mock.calls.flat()).toEqual([false, true, false]);
  expect(handlers.onReadinessChange.mock.calls.flat()).toEqual([loading, { phase: "ready", detail: null }]);
  expect(manager.getState().messages.at(-1)?.content).toBe("Hello");
});

it("sends nothing before the session is ready", async () => {
  server.answers["POST /api/chat"] = () => json(stateOf({ seq: 5 }));
  const manager = await connected();
  await server.wire.state(stateOf({ readiness: loading }));
  const sent = manager.sendMessage(" hello ");
  await settled();
  expect(server.calls("/api/chat")).toHaveLength(0);
  await server.wire.state(stateOf({ seq: 2 }));
  await sent;
  const [call] = server.calls("/api/chat");
  expect(call?.body).toEqual({ message: "hello", session_id: "s" });
  expect(call?.headers.get("Content-Type")).toBe("application/json");
  expect(call?.headers.get("Idempotency-Key")).toMatch(/./);
});

it.each([
  ["", "The message is empty."],
  ["x".repeat(11), "The message is longer than 10 characters."],
])("refuses %j by itself", async (text, words) => {
  const manager = await connected({ maxMessageLength: 10 });
  await manager.sendMessage(text);
  expect(handlers.onError).toHaveBeenCalledWith(new Error(words));
  expect(server.calls("/api/chat")).toHaveLength(0);
});

it("reports what the gateway refuses and never rejects", async () => {
  server.answers["POST /api/chat"] = () =>
    json({ error: { code: "queue_full", message: "Five wait already." } }, 429, { "Retry-After": "3" });
  const manager = await connected();
  await server.wire.state(stateOf());
  await manager.sendMessage("one more");
  expect(handlers.onError.mock.calls[0]?.[0]).toMatchObject({
    code: "queue_full",
    message: "Five wait already.",
    retryAfterMs: 3000,
  });
});

it("asks for the network by command and reports the wallet's word as a system message", async () => {
  server.answers["POST /api/mcp-command"] = () =>
    json({ success: true, message: "ok", data: { network: "sepolia" } });
  server.answers["POST /api/system"] = () => json(stateOf({ seq: 9 }));
  const manager = await connected();
  await manager.sendNetworkSwitchRequest("sepolia");
  await manager.sendTransactionResult(true, "0xabc");
  await manager.sendTransactionResult(false, undefined, "too dear");
  expect(server.calls("/api/mcp-command")[0]?.body).toEqual({
    command: "set_network",
    args: { network: "sepolia" },
    session_id: "s",
  });
  expect(server.calls("/api/system").map((call) => (call.body as { message: string }).message)).toEqual([
    "Transaction sent: 0xabc",
    "Transaction rejected by user: too dear",
  ]);
  expect(handlers.onError).not.toHaveBeenCalled();
});

it("asks for a transaction once", async () => {
  await connected();
  await server.wire.state(stateOf({ pending_wallet_tx: '{"to":"0x1"}' }));
  await server.wire.state(stateOf({ seq: 2, pending_wallet_tx: '{"to":"0x1"}' }));
  expect(handlers.onWalletTransactionRequest.mock.calls).toEqual([['{"to":"0x1"}']]);
});

it("interrupts", async () => {
  server.answers["POST /api/interrupt"] = () => json(stateOf({ seq: 4 }));
  const manager = await connected();
  await server.wire.state(stateOf({ seq: 2, is_processing: true }));
  await manager.interrupt();
  expect(server.calls("/api/interrupt")[0]?.body).toEqual({ session_id: "s" });
  expect(manager.getState().isProcessing).toBe(false);
});

it("does not let a late answer take back what the stream has shown", async () => {
  let answer: (response: Response) => void = () => undefined;
  server.answers["POST /api/interrupt"] = () => new Promise((go) => (answer = go));
  const manager = await connected();
  const interrupted = manager.interrupt();
  await server.wire.state(stateOf({ seq: 8, messages: [message("agent", "newest")] }));
  answer(json(stateOf({ seq: 6 })));
  await interrupted;
  expect(manager.getState().messages).toHaveLength(1);
});

it("reconnects for another session and forgets the old one's messages", async () => {
  const manager = await connected();
  await server.wire.state(stateOf({ messages: [message("user", "secret")] }));
  manager.setSessionId("other");
  await settled();
  expect(server.wires[0]?.isClosed).toBe(true);
  expect(server.requests.at(-1)?.url.searchParams.get("session_id")).toBe("other");
  expect(manager.getState().messages).toEqual([]);
});

it("reconnects after a break and gives up after the attempts it was given", async () => {
  await connected({ reconnectAttempts: 2, reconnectDelay: 100 });
  await server.wire.state(stateOf());
  server.refusals.push(new TypeError("down"), new TypeError("down"));
  await server.wire.end();
  await clock.pass(60_000);
  expect(handlers.onConnectionChange.mock.calls.flat()).toEqual([
    "connecting",
    "connected",
    "reconnecting",
    "error",
  ]);
  expect(handlers.onError).toHaveBeenCalledTimes(1);
});

it("clears the view and not the session", async () => {
  const manager = await connected();
  await server.wire.state(stateOf({ messages: [message("user", "old")] }));
  manager.clearChat();
  expect(manager.getState().messages).toEqual([]);
  await server.wire.state(stateOf({ seq: 2, messages: [message("user", "old"), message("user", "new")] }));
  expect(manager.getState().messages.map((one) => one.content)).toEqual(["new"]);
});

it("shows what comes after an empty answer that was cleared and is gone", async () => {
  const manager = await connected();
  const sent = [message("user", "old"), message("agent", "", true)];
  await server.wire.state(stateOf({ messages: sent, is_processing: true }));
  manager.clearChat();
  await server.wire.state(stateOf({ seq: 2, messages: [message("user", "old"), message("system", "It failed.")] }));
  expect(manager.getState().messages.map((one) => one.content)).toEqual(["It failed."]);
});

it("is silent after stop", async () => {
  const manager = await connected();
  manager.stop();
  const calls = handlers.onConnectionChange.mock.calls.length;
  await clock.pass(60_000);
  expect(handlers.onConnectionChange).toHaveBeenCalledTimes(calls);
  expect(server.wires[0]?.isClosed).toBe(true);
});

it("reads through EventSource where it is given one", async () => {
  const opened: EventSourceLike[] = [];
  const eventSource = (): EventSourceLike => {
    const source: EventSourceLike = { onopen: null, onmessage: null, onerror: null, close: vi.fn() };
    opened.push(source);
    return source;
  };
  const manager = await connected({ eventSource, reconnectDelay: 100 });
  opened[0]?.onmessage?.({ data: JSON.stringify(stateOf({ messages: [message("agent", "hi")] })) });
  expect(manager.getState().messages).toHaveLength(1);
  opened[0]?.onerror?.(undefined as never);
  expect(manager.getState().connectionStatus).toBe("reconnecting");
  await clock.pass(100);
  expect(opened).toHaveLength(2);
  manager.disconnect();
  expect(opened[1]?.close).toHaveBeenCalled();
});
