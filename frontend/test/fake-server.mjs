// A stand-in for the gateway: serves dist/ under the gateway's headers and plays canned conversations, so that the
// look of the page can be worked on alone. `node test/fake-server.mjs [PORT]`, then /#s=demo, /#s=permission, …

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { demos, sessions } from "./demo.mjs";

const DIST = join(fileURLToPath(new URL(".", import.meta.url)), "..", "dist");
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};
const CSP =
  "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; " +
  "frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const logs = new Map();
const rows = new Map(sessions.map((row) => [row.session_id, row]));

function logOf(id) {
  let log = logs.get(id);
  if (!log) {
    log = { events: [], readers: new Set() };
    logs.set(id, log);
    for (const event of demos[id] ?? []) append(id, event);
  }
  return log;
}

function append(id, event) {
  const log = logOf(id);
  const full = { seq: log.events.length + 1, at: new Date().toISOString(), ...event };
  log.events.push(full);
  for (const response of log.readers) response.write(frame(full));
}

const frame = (event) => `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

async function talk(id, text) {
  const turn = `t${Date.now()}`;
  const base = { turn_id: turn };
  append(id, {
    type: "message",
    message_id: `u${turn}`,
    sender: "user",
    content: text,
    turn_id: turn,
    is_streaming: false,
  });
  append(id, { type: "turn_started", ...base, message_id: `u${turn}`, reply_id: `r${turn}` });
  for (const word of `You said: ${text}`.split(/(?<= )/)) {
    await new Promise((go) => setTimeout(go, 40));
    append(id, { type: "text_delta", ...base, message_id: `a${turn}`, text: word });
  }
  append(id, { type: "turn_ended", ...base, stop_reason: "end_turn", error: null });
}

function stateOf(id) {
  return { session_id: id, seq: logOf(id).events.length, messages: [], missing_api_key: id !== "long" };
}

function stream(request, response, query) {
  const log = logOf(query.get("session_id"));
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  response.write(": hello\n\n");
  for (const event of log.events.slice(Number(query.get("after") ?? 0))) response.write(frame(event));
  log.readers.add(response);
  const beat = setInterval(() => response.write(": beat\n\n"), 10_000);
  request.on("close", () => {
    clearInterval(beat);
    log.readers.delete(response);
  });
}

async function api(request, url, response) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const data = body ? JSON.parse(body) : {};
  const answer = (status, value) => {
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(value));
  };
  const [, id, verb] = /^\/api\/sessions\/([^/]+)\/?(.*)$/.exec(url.pathname) ?? [];
  if (url.pathname === "/api/chat/stream") return stream(request, response, url.searchParams);
  if (url.pathname === "/api/chat") {
    if (data.message === "/fail")
      return answer(429, { error: { code: "queue_full", message: "Five messages wait already." } });
    void talk(data.session_id, data.message);
    return answer(200, stateOf(data.session_id));
  }
  if (url.pathname === "/api/agents") {
    const agents = [
      { name: "builtin", title: "Built-in", is_default: true, missing_api_key: false },
      { name: "opencode", title: "OpenCode", is_default: false, missing_api_key: false },
      { name: "offline", title: "Offline", is_default: false, missing_api_key: true },
    ];
    return answer(200, { agents });
  }
  if (url.pathname === "/api/auth") {
    const me = { tenant: "acme", subject: "dora", kind: "user", scopes: ["chat", "read"], csrf_token: "" };
    return answer(200, { modes: ["keys"], sign_in: ["key"], me });
  }
  if (url.pathname === "/api/sessions/count") return answer(200, { active_sessions: 12, live: 3, parked: 9 });
  if (url.pathname === "/api/sessions") return answer(200, { sessions: [...rows.values()] });
  if (verb === "permission") {
    append(id, {
      type: "permission_answered",
      permission_id: data.permission_id,
      outcome: "selected",
      option_id: data.option_id,
    });
    return answer(200, stateOf(id));
  }
  if (request.method === "DELETE") {
    rows.delete(id);
    return answer(200, {
      session_id: id,
      deleted: true,
      receipt: { processes: 2, survivors: 0, bytes_freed: 4_100_000, milliseconds: 31 },
    });
  }
  return answer(200, stateOf(data.session_id ?? id ?? "demo"));
}

async function file(url, response) {
  const path = normalize(url.pathname === "/" ? "/index.html" : url.pathname);
  try {
    const bytes = await readFile(join(DIST, path));
    response.writeHead(200, {
      "Content-Type": TYPES[extname(path)] ?? "text/plain",
      "Content-Security-Policy": CSP,
    });
    response.end(bytes);
  } catch {
    response.writeHead(404).end("Not found\n");
  }
}

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost");
  void (url.pathname.startsWith("/api/") ? api(request, url, response) : file(url, response));
});
server.listen(Number(process.argv[2] ?? 5180), "127.0.0.1", () => {
  process.stdout.write(`http://127.0.0.1:${server.address().port}\n`);
});
