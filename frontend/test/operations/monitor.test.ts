import { expect, it } from "vitest";
import { Api } from "../../src/core/api.ts";
import type { Overview } from "../../src/core/events.ts";
import { HISTORY_MOST } from "../../src/operations/history.ts";
import { Monitor, MONITOR_POLL_MS } from "../../src/operations/monitor.ts";
import { FakeClock, FakeServer, json, settled } from "../fakes.ts";

const overview: Overview = {
  version: "1",
  at: "",
  uptime_seconds: 1,
  is_draining: false,
  sessions: 3,
  states: { idle: 3 },
  workers: 2,
  worker_limit: 10,
  worker_memory_bytes: 5_000_000,
  worker_cpu_seconds: 0,
  gateway_memory_bytes: 40_000_000,
  gateway_cpu_seconds: 0,
  turns_running: 1,
  queued: 0,
  streams: 0,
  starts_per_minute: 6,
  turns_per_minute: 7,
  tokens_per_minute: 0,
  start_p50_seconds: 0.01,
  start_p99_seconds: null,
  first_token_p50_seconds: 0.02,
  first_token_p99_seconds: 0.5,
  loop_lag_p99_seconds: null,
  store_waiting: 0,
  tenants: [],
};

function made() {
  const server = new FakeServer();
  const clock = new FakeClock();
  server.answers["GET /api/admin/overview"] = () => json(overview);
  server.answers["GET /api/admin/sessions"] = () => json({ sessions: [], total: 4 });
  server.answers["GET /api/admin/egress"] = () => json({ hosts: [] });
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  return { server, clock, monitor: new Monitor(api, clock) };
}

it("polls by the clock and keeps a column for every line", async () => {
  const { monitor, clock } = made();
  monitor.start();
  await settled();
  await clock.pass(MONITOR_POLL_MS);
  expect(monitor.series.times).toHaveLength(2);
  expect(monitor.total).toBe(4);
  expect(monitor.series.columns.startP50).toEqual([10, 10]);
  expect(monitor.series.columns.startP99).toEqual([null, null]);
  expect(monitor.series.columns.workerMemory.at(-1)).toBe(5);
  monitor.stop();
  await clock.pass(10 * MONITOR_POLL_MS);
  expect(monitor.series.times).toHaveLength(2);
});

it("forgets what is older than its history", async () => {
  const { monitor } = made();
  for (let n = 0; n < HISTORY_MOST + 5; n++) await monitor.refresh();
  expect(monitor.series.times).toHaveLength(HISTORY_MOST);
  expect(new Set(Object.values(monitor.series.columns).map((column) => column.length))).toEqual(new Set([HISTORY_MOST]));
});

it("keeps the last figures when it is refused, says why, and tries again", async () => {
  const { monitor, server, clock } = made();
  monitor.start();
  await settled();
  server.answers["GET /api/admin/overview"] = () => json({ error: { code: "forbidden", message: "no" } }, 403);
  await clock.pass(MONITOR_POLL_MS);
  expect(monitor.error?.status).toBe(403);
  expect(monitor.overview?.sessions).toBe(3);
  server.answers["GET /api/admin/overview"] = () => json(overview);
  await clock.pass(MONITOR_POLL_MS);
  expect(monitor.error).toBeNull();
});

it("shows an operator of one tenant its sessions, and nothing of the whole gateway", async () => {
  const { monitor, server } = made();
  for (const path of ["overview", "health", "history"]) {
    server.answers[`GET /api/admin/${path}`] = () => json({ error: { code: "forbidden", message: "no" } }, 403);
  }
  server.answers["GET /api/auth"] = () => json({ modes: [], sign_in: [], me: { scopes: ["operate"] } });
  await monitor.refresh();
  expect(monitor.error).toBeNull();
  expect(monitor.overview).toBeNull();
  expect(monitor.total).toBe(4);
  expect(monitor.scopes).toEqual(["operate"]);
  expect(monitor.isKnown).toBe(true);
});

it("is full at once with what the gateway has kept", async () => {
  const { monitor, server, clock } = made();
  clock.time = 200_000;
  const kept = { step_seconds: 60, at: [60_000, 120_000], lines: { sessions: [7, 8] } };
  server.answers["GET /api/admin/history"] = () => json(kept);
  await monitor.refresh();
  expect(monitor.series.times).toEqual([60, 120, 200]);
  expect(monitor.series.columns.sessions).toEqual([7, 8, 3]);
});

it("asks for the sessions that were chosen, and shows no answer to an earlier choice", async () => {
  const { monitor, server } = made();
  let late: (answer: Response) => void = () => undefined;
  const first = new Promise<Response>((resolve) => {
    late = resolve;
  });
  server.answers["GET /api/admin/sessions"] = (request) =>
    request.url.searchParams.get("q") === "slow" ? first : json({ sessions: [], total: 1 });
  const slow = monitor.choose({ q: "slow", state: "", agent: "", tenant: "" });
  await monitor.choose({ q: "quick", state: "idle", agent: "", tenant: "" });
  late(json({ sessions: [], total: 99 }));
  await slow;
  expect(monitor.total).toBe(1);
  expect(server.requests.at(-1)?.url.search).toBe("?limit=200&q=quick&state=idle");
});
