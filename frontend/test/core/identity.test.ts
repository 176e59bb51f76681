import { beforeEach, expect, it, vi } from "vitest";
import { Api } from "../../src/core/api.ts";
import type { Me } from "../../src/core/events.ts";
import { Identity, isVisitor, tokenIn } from "../../src/core/identity.ts";
import { FakeClock, FakeServer, json } from "../fakes.ts";

const dora: Me = { tenant: "acme", subject: "dora", kind: "user", scopes: ["chat", "read"], csrf_token: "c1" };
const refused = (code: string) => json({ error: { code, message: code } }, 401);

let server: FakeServer;
let clock: FakeClock;
let identity: Identity;
let api: Api;

beforeEach(() => {
  server = new FakeServer();
  clock = new FakeClock();
  api = new Api({ baseUrl: "http://gateway", fetch: server.fetch, onUnauthorized: () => identity.lost() });
  identity = new Identity({ api, clock });
});

function isSaid(me: Me | null): void {
  server.answers["GET /api/auth"] = () => json({ modes: ["keys"], sign_in: ["key"], me });
}

it("asks until the gateway answers", async () => {
  await identity.start();
  expect(identity.phase).toBe("asking");
  expect(identity.error?.code).toBe("unreachable");
  isSaid(dora);
  await clock.pass(500);
  expect(identity.phase).toBe("inside");
  expect(identity.owner).toBe("acme/dora");
  expect(identity.error).toBeNull();
  await clock.pass(60_000);
  expect(server.calls("/api/auth")).toHaveLength(2);
});

it("waits as long as the gateway says", async () => {
  server.answers["GET /api/auth"] = () =>
    json({ error: { code: "rate_limited", message: "slow" } }, 429, { "Retry-After": "7" });
  await identity.start();
  isSaid(null);
  await clock.pass(6_900);
  expect(identity.phase).toBe("asking");
  await clock.pass(200);
  expect(identity.phase).toBe("outside");
});

it("is outside until a key opens, and stays there with a wrong one", async () => {
  isSaid(null);
  await identity.start();
  expect([identity.phase, identity.ways]).toEqual(["outside", ["key"]]);
  server.answers["POST /api/auth/sign-in"] = () => refused("sign_in_failed");
  await expect(identity.signIn("agw_wrong")).rejects.toMatchObject({ code: "sign_in_failed" });
  expect(identity.phase).toBe("outside");
  server.answers["POST /api/auth/sign-in"] = () => json(dora);
  await identity.signIn("agw_right");
  expect(server.requests.at(-1)?.body).toEqual({ key: "agw_right" });
  expect(identity.phase).toBe("inside");
  expect(JSON.stringify(identity)).not.toContain("agw_right");
});

it("sends the CSRF token with what changes something, and forgets it outside", async () => {
  isSaid(dora);
  await identity.start();
  server.answers["GET /api/sessions"] = () => json({ sessions: [] });
  server.answers["DELETE /api/sessions/s"] = () => json({});
  await api.sessions();
  await api.deleteSession("s");
  const [, read, deleted] = server.requests;
  expect(read?.headers.get("X-CSRF-Token")).toBeNull();
  expect(deleted?.headers.get("X-CSRF-Token")).toBe("c1");
  identity.lost();
  await api.deleteSession("s");
  expect(server.requests.at(-1)?.headers.get("X-CSRF-Token")).toBeNull();
});

it("is out as soon as anything answers 401", async () => {
  isSaid(dora);
  await identity.start();
  server.answers["GET /api/sessions"] = () => refused("unauthorized");
  await expect(api.sessions()).rejects.toThrow();
  expect([identity.phase, identity.me, identity.wasInside]).toEqual(["outside", null, true]);
});

it("lets the provider confirm a sign-in that ended, and asks for one if that does not help", async () => {
  const sent: string[] = [];
  identity = new Identity({ api, clock, confirm: () => sent.push(api.confirmUrl("/x")) });
  const isSaidOf = (me: Me | null, more: object): void => {
    server.answers["GET /api/auth"] = () => json({ modes: ["oidc"], sign_in: ["oidc"], me, ...more });
  };
  isSaidOf(dora, {});
  await identity.start();
  expect(sent).toEqual([]);
  isSaidOf(null, { signs_in_again: true });
  server.answers["GET /api/sessions"] = () => refused("sign_in_stale");
  await expect(api.sessions()).rejects.toThrow();
  await vi.waitFor(() => expect(sent).toEqual([expect.stringMatching(/next=%2Fx&silent=true$/)]));
  isSaidOf(null, {});
  await identity.check();
  expect([sent.length, identity.phase, identity.wasInside]).toEqual([1, "outside", true]);
});

it("is not out because a link to claim is used up", async () => {
  isSaid(dora);
  await identity.start();
  server.answers["POST /api/auth/handover/claim"] = () => refused("sign_in_failed");
  await expect(identity.claim("t")).rejects.toThrow();
  expect(identity.phase).toBe("inside");
});

it("asks again after signing out, for that may make a guest", async () => {
  isSaid(dora);
  await identity.start();
  server.answers["POST /api/auth/sign-out"] = () => new Response(null, { status: 204 });
  isSaid({ ...dora, tenant: "default", subject: "~x", kind: "visitor", csrf_token: "c2" });
  await identity.signOut(true);
  expect(server.calls("/api/auth/sign-out")[0]?.body).toEqual({ everywhere: true });
  expect(identity.owner).toBe("default/~x");
  expect(isVisitor(identity.owner ?? "")).toBe(true);
  expect(isVisitor("acme/dora")).toBe(false);
});

it("keeps a guest's links only if the person says so", async () => {
  server.answers["POST /api/auth/sign-in"] = () => json(dora);
  server.answers["POST /api/auth/handover/claim"] = () => json(dora);
  await identity.signIn("k");
  await identity.signIn("k", true);
  await identity.claim("t", true);
  expect(server.calls("/api/auth/sign-in").map((call) => call.body)).toEqual([
    { key: "k" },
    { key: "k", keep_shares: true },
  ]);
  expect(server.calls("/api/auth/handover/claim")[0]?.body).toEqual({ token: "t", keep_shares: true });
  expect(api.providerUrl("/x", true)).toMatch(/next=%2Fx&keep_shares=true$/);
  expect(api.providerUrl("/x")).toMatch(/next=%2Fx$/);
});

it("knows a token in an address by its name", () => {
  expect(tokenIn("#shared=ags_a.b", "shared")).toBe("ags_a.b");
  expect(tokenIn("#shared=", "shared")).toBeNull();
  expect(tokenIn("#s=x", "handover")).toBeNull();
});

it("sets and removes keys of one's own and is told no more than their state", async () => {
  const key = { name: "a/b", kind: "provider", need: "allowed", state: "not_set", set_at: null, has_fallback: false };
  server.answers["GET /api/me/keys"] = () => json({ keys: [key] });
  server.answers["PUT /api/me/keys/a%2Fb"] = () => json({ ...key, state: "set" });
  server.answers["DELETE /api/me/keys/a%2Fb"] = () => json(key);
  expect(await api.ownKeys()).toEqual([key]);
  expect((await api.setOwnKey("a/b", "sk-1")).state).toBe("set");
  expect(server.requests.at(-1)?.body).toEqual({ key: "sk-1" });
  expect((await api.removeOwnKey("a/b")).state).toBe("not_set");
});
