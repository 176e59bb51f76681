import { describe, expect, it } from "vitest";
import { ProductSocket, type ProductFrame, type SocketLike } from "../../../src/apps/product_chat/client/socket.ts";
import { FakeClock } from "../../fakes.ts";

class FakeSocket implements SocketLike {
  onopen: SocketLike["onopen"] = null;
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  readyState = 0;
  sent: string[] = [];
  readonly url: string;
  constructor(url: string) {
    this.url = url;
  }
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.readyState = 3;
  }
  opens(): void {
    this.onopen?.(new Event("open"));
  }
  says(frame: ProductFrame | string): void {
    const data = typeof frame === "string" ? frame : JSON.stringify(frame);
    this.onmessage?.({ data } as MessageEvent);
  }
  closes(code: number): void {
    this.onclose?.({ code } as CloseEvent);
  }
}

function setUp(random = 0) {
  const clock = new FakeClock();
  clock.random = () => random;
  const sockets: FakeSocket[] = [];
  const frames: ProductFrame[] = [];
  const socket = new ProductSocket({
    url: () => "ws://gateway/ws/chat/customer/1/a?customer_name=D",
    clock,
    onFrame: (frame) => frames.push(frame),
    open: (url) => {
      const made = new FakeSocket(url);
      sockets.push(made);
      return made;
    },
  });
  return { clock, sockets, frames, socket, last: () => sockets[sockets.length - 1] as FakeSocket };
}

describe("coming back", () => {
  it("waits 3 s, doubled each time, at most 30 s", async () => {
    const { clock, sockets, socket, last } = setUp();
    socket.start();
    const waits: number[] = [];
    for (let tries = 0; tries < 6; tries += 1) {
      const before = clock.time;
      const count = sockets.length;
      last().closes(1006);
      while (sockets.length === count) await clock.pass(100);
      waits.push(clock.time - before);
    }
    expect(waits).toEqual([3000, 6000, 12000, 24000, 30000, 30000]);
  });

  it("jitters, and begins small again after a frame", async () => {
    const { clock, sockets, socket, last } = setUp(0.5);
    socket.start();
    last().closes(1006);
    await clock.pass(3400);
    expect(sockets.length).toBe(1);
    await clock.pass(100);
    expect(sockets.length).toBe(2);
    last().opens();
    last().says({ type: "pong" });
    last().closes(1011);
    await clock.pass(3500);
    expect(sockets.length).toBe(3);
  });

  it.each([1000, 1001, 1003, 1007, 1008])("does not after %i until the user is there again", async (code) => {
    const { clock, sockets, socket, last } = setUp();
    socket.start();
    last().opens();
    last().closes(code);
    await clock.pass(600_000);
    expect([sockets.length, socket.state]).toEqual([1, "stopped"]);
    socket.wake();
    expect(sockets.length).toBe(2);
  });

  it("asks for what came after the last seq, and passes on nothing twice", async () => {
    const { clock, frames, socket, last } = setUp();
    socket.start();
    expect(last().url).not.toContain("after");
    last().opens();
    last().says({ type: "connection_status" });
    last().says({ type: "chat_message", seq: 7 });
    last().closes(1006);
    await clock.pass(3000);
    expect(last().url).toContain("after=7");
    last().says({ type: "chat_message", seq: 7 });
    last().says({ type: "chat_message", seq: 9 });
    last().says("{");
    expect(frames.map((frame) => frame.seq)).toEqual([undefined, 7, 9]);
  });

  it("goes back where the gateway says that a cursor is lost", () => {
    const { frames, socket, last } = setUp();
    socket.start();
    last().says({ type: "chat_message", seq: 70 });
    last().says({ type: "resync", seq: 5 });
    last().says({ type: "chat_message", seq: 6 });
    expect(frames.map((frame) => frame.seq)).toEqual([70, 5, 6]);
  });
});

it("sends only while it stands, and a stopped one says nothing more", () => {
  const { frames, socket, last } = setUp();
  expect(socket.send({ type: "ping" })).toBe(false);
  socket.start();
  expect(socket.send({ type: "ping" })).toBe(false);
  last().opens();
  expect(socket.send({ type: "ping" })).toBe(true);
  expect(last().sent).toEqual(['{"type":"ping"}']);
  socket.stop();
  last().says({ type: "pong" });
  last().closes(1006);
  expect(frames).toEqual([]);
  expect(socket.state).toBe("stopped");
});
