import { beforeEach, expect, it } from "vitest";
import {
  EventStream,
  HIDDEN_GRACE_MS,
  SILENCE_MS,
  type StreamConfig,
  type StreamFrame,
  type StreamStatus,
} from "../../src/core/stream.ts";
import { FakeClock, FakeServer, FakeVisibility, settled } from "../fakes.ts";

let clock: FakeClock;
let server: FakeServer;
let visibility: FakeVisibility;
let frames: StreamFrame[];
let statuses: StreamStatus[];

beforeEach(() => {
  clock = new FakeClock();
  server = new FakeServer();
  visibility = new FakeVisibility();
  frames = [];
  statuses = [];
});

async function started(config: Partial<StreamConfig> = {}): Promise<EventStream> {
  const stream = new EventStream({
    url: (after) => `/api/chat/stream?after=${after}`,
    onFrame: (frame) => frames.push(frame),
    onStatus: (status) => statuses.push(status),
    fetch: server.fetch,
    clock,
    visibility,
    ...config,
  });
  stream.start();
  await settled();
  return stream;
}

const cursors = (): (string | null)[] => server.requests.map((request) => request.url.searchParams.get("after"));

it("hands on events, however the bytes are cut", async () => {
  await started();
  await server.wire.write("id: 1\neve");
  await server.wire.write('nt: notice\ndata: {"text":"שלום');
  await server.wire.write('"}\n\n');
  expect(frames).toEqual([{ seq: 1, event: "notice", data: '{"text":"שלום"}' }]);
  expect(statuses).toEqual(["connecting", "open"]);
});

it("resumes behind the last event after a break and drops what comes twice", async () => {
  await started();
  await server.wire.event({ seq: 7, type: "notice" });
  await server.wire.end();
  await clock.pass(1000);
  await server.wire.event({ seq: 7, type: "notice" });
  await server.wire.event({ seq: 9, type: "notice" });
  expect(cursors()).toEqual(["0", "7"]);
  expect(frames.map((frame) => frame.seq)).toEqual([7, 9]);
});

it("takes a resync whose position lies behind the cursor", async () => {
  const stream = await started({ after: 100 });
  await server.wire.event({ seq: 40, type: "resync" });
  expect(frames.map((frame) => frame.event)).toEqual(["resync"]);
  expect(stream.cursor).toBe(40);
});

it("backs off while nothing answers and starts over after an event", async () => {
  server.refusals.push(new TypeError("down"), new TypeError("down"), new TypeError("down"));
  await started();
  await clock.pass(499);
  expect(server.requests).toHaveLength(1);
  await clock.pass(1);
  expect(server.requests).toHaveLength(2);
  await clock.pass(1000);
  await clock.pass(2000);
  expect(server.requests).toHaveLength(4);
  await server.wire.event({ seq: 1, type: "notice" });
  await server.wire.end();
  await clock.pass(500);
  expect(server.requests).toHaveLength(5);
});

it("obeys Retry-After", async () => {
  server.refusals.push(new Response("", { status: 503, headers: { "Retry-After": "7" } }));
  await started();
  await clock.pass(6999);
  expect(server.requests).toHaveLength(1);
  await clock.pass(1);
  expect(server.requests).toHaveLength(2);
});

it("makes a silent connection anew, and takes heartbeats for life", async () => {
  await started();
  for (let beat = 0; beat < 5; beat += 1) {
    await clock.pass(SILENCE_MS - 1000);
    await server.wire.write(": beat\n\n");
  }
  expect(server.wires).toHaveLength(1);
  await clock.pass(SILENCE_MS + 1000);
  expect(server.wires).toHaveLength(2);
  expect(server.wires[0]?.isClosed).toBe(true);
});

it("notices silence although the machine's clock was set back an hour, or on a year", async () => {
  await started();
  clock.ahead = -3_600_000;
  await clock.pass(SILENCE_MS + 1000);
  expect(server.wires).toHaveLength(2);
  clock.ahead = 365 * 86_400_000;
  await clock.pass(SILENCE_MS + 1000);
  expect(server.wires).toHaveLength(3);
});

it("ends for good at 204", async () => {
  server.refusals.push(new Response(null, { status: 204 }));
  const stream = await started();
  await clock.pass(60_000);
  expect(stream.status).toBe("ended");
  expect(server.requests).toHaveLength(1);
});

it.each([401, 404, 422])("does not repeat what %i refuses", async (status) => {
  server.refusals.push(new Response("", { status }));
  const stream = await started();
  await clock.pass(60_000);
  expect(stream.status).toBe("refused");
  expect(server.requests).toHaveLength(1);
});

it("gives the connection back while the page is hidden and resumes when it shows", async () => {
  const stream = await started();
  await server.wire.event({ seq: 3, type: "notice" });
  visibility.set(true);
  await clock.pass(HIDDEN_GRACE_MS);
  expect(server.wires[0]?.isClosed).toBe(true);
  expect(stream.status).toBe("paused");
  await clock.pass(600_000);
  expect(server.wires).toHaveLength(1);
  visibility.set(false);
  await settled();
  expect(cursors()).toEqual(["0", "3"]);
  expect(stream.status).toBe("open");
});

it("keeps the connection through a glance at another tab", async () => {
  await started();
  visibility.set(true);
  await clock.pass(HIDDEN_GRACE_MS - 1);
  visibility.set(false);
  await clock.pass(10_000);
  expect(server.wires).toHaveLength(1);
  expect(server.wires[0]?.isClosed).toBe(false);
});

it("does not reconnect while hidden, even if the break came first", async () => {
  await started();
  await server.wire.end();
  visibility.set(true);
  await clock.pass(60_000);
  expect(server.wires).toHaveLength(1);
});

it("is silent after stop", async () => {
  const stream = await started();
  const { wire } = server;
  stream.stop();
  await settled();
  expect(wire.isClosed).toBe(true);
  await clock.pass(120_000);
  expect(server.requests).toHaveLength(1);
  expect(statuses).toEqual(["connecting", "open"]);
});

it("gives up after the attempts it was given", async () => {
  server.refusals.push(new TypeError("down"), new TypeError("down"), new TypeError("down"));
  const stream = await started({ attempts: 2 });
  await clock.pass(60_000);
  expect(stream.status).toBe("refused");
  expect(server.requests).toHaveLength(3);
});
