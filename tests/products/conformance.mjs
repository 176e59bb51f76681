// The `ws` library against an echo behind the gateway's connection layer; prints one JSON line of what failed.
import { createRequire } from "node:module";

const { WebSocket } = createRequire(new URL("../../frontend/package.json", import.meta.url))("ws");
const url = process.argv[2];
const failures = [];

function open() {
  return new Promise((done, fail) => {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    socket.on("open", () => done(socket));
    socket.on("error", fail);
  });
}

const next = (socket) => new Promise((done) => socket.once("message", (data, isBinary) => done({ data, isBinary })));
const closed = (socket) => new Promise((done) => socket.once("close", (code, reason) => done([code, String(reason)])));

async function check(name, work) {
  const socket = await open();
  try {
    await Promise.race([
      work(socket),
      new Promise((_, fail) => setTimeout(() => fail(new Error("timed out")), 10_000)),
    ]);
  } catch (error) {
    failures.push(`${name}: ${error.message}`);
  }
  socket.terminate();
}

function equal(got, wanted) {
  if (got !== wanted) throw new Error(`${String(got).slice(0, 80)} is not ${String(wanted).slice(0, 80)}`);
}

for (const size of [0, 1, 125, 126, 127, 128, 65535, 65536, 1_000_000]) {
  for (const isBinary of [false, true]) {
    await check(`echo of ${size} ${isBinary ? "bytes" : "characters"}`, async (socket) => {
      const text = "*".repeat(size);
      socket.send(isBinary ? Buffer.from(text) : text);
      const answer = await next(socket);
      equal(answer.isBinary, isBinary);
      equal(String(answer.data), text);
    });
  }
}
await check("fragments with a ping between them", async (socket) => {
  const pong = new Promise((done) => socket.once("pong", done));
  const answer = next(socket);
  socket.send("שלו", { fin: false });
  socket.ping("between");
  socket.send("ם", { fin: true });
  equal(String(await pong), "between");
  equal(String((await answer).data), "שלום");
});
await check("a ping with 125 bytes", async (socket) => {
  const pong = new Promise((done) => socket.once("pong", done));
  socket.ping("x".repeat(125));
  equal((await pong).length, 125);
});
await check("an unsolicited pong is ignored", async (socket) => {
  socket.pong("nobody asked");
  socket.send("still here");
  equal(String((await next(socket)).data), "still here");
});
for (const code of [1000, 1001, 1003, 1008, 1011, 3000, 4999]) {
  await check(`closing with ${code}`, async (socket) => {
    const end = closed(socket);
    socket.close(code, "because");
    const [got] = await end;
    equal(got, code);
  });
}
await check("a thousand messages in order", async (socket) => {
  const got = [];
  const all = new Promise((done) => socket.on("message", (data) => (got.push(Number(data)), got.length === 1000 && done())));
  for (let n = 0; n < 1000; n += 1) socket.send(String(n));
  await all;
  equal(got.every((n, index) => n === index), true);
});
process.stdout.write(`${JSON.stringify(failures)}\n`, () => process.exit(0));
