import { expect, it } from "vitest";
import { Api } from "../../src/core/api.ts";
import { directionOf, loadLanguage, preferred, translate } from "../../src/core/i18n.ts";
import { newId, SESSION_ID } from "../../src/core/ids.ts";
import { memoryStorage } from "../../src/core/storage.ts";
import { CURRENT_KEY, LIST_POLL_MS, sessionIdIn, SessionStore } from "../../src/core/store.ts";
import { FakeClock, FakeServer, json, settled } from "../fakes.ts";

function made(hash = "", storage = memoryStorage()) {
  const server = new FakeServer();
  const clock = new FakeClock();
  const rows = ["old", "new"].map((id, n) => ({
    session_id: id,
    title: id,
    state: "idle",
    agent: "builtin",
    created_at: "",
    last_active_at: `2026-01-0${n + 1}`,
    messages: 1,
  }));
  server.answers["GET /api/sessions"] = () => json({ sessions: rows });
  server.answers["GET /api/sessions/count"] = () => json({ active_sessions: 2, live: 1, parked: 1 });
  server.answers["GET /api/agents"] = () =>
    json({ agents: [{ name: "builtin", is_default: true, missing_api_key: true }] });
  const store = new SessionStore({
    api: new Api({ baseUrl: "http://gateway", fetch: server.fetch }),
    storage,
    clock,
    hash,
  });
  return { store, server, clock, storage };
}

it("remembers the session across reloads, and the address wins", () => {
  const { store, storage } = made();
  expect(made("", storage).store.currentId).toBe(store.currentId);
  expect(made("#s=other", storage).store.currentId).toBe("other");
  expect(storage.getItem(CURRENT_KEY)).toBe("other");
});

it.each(["#s=../../etc", "#s=", "#", "#s=a%20b", `#s=${"x".repeat(200)}`])("takes no id from %s", (hash) => {
  expect(sessionIdIn(hash)).toBeNull();
});

it("lists the newest first and reads again by the clock", async () => {
  const { store, clock, server } = made();
  store.start();
  await settled();
  expect(store.sessions.map((row) => row.session_id)).toEqual(["new", "old"]);
  expect(store.counts?.active_sessions).toBe(2);
  expect(store.defaultAgent?.missing_api_key).toBe(true);
  await clock.pass(LIST_POLL_MS);
  expect(server.calls("/api/sessions")).toHaveLength(2);
  store.stop();
  await clock.pass(LIST_POLL_MS * 3);
  expect(server.calls("/api/sessions")).toHaveLength(2);
});

it("asks for the agents once, however often the list is read meanwhile", async () => {
  const { store, server } = made();
  void store.refresh();
  await store.refresh();
  await settled();
  expect(store.defaultAgent?.name).toBe("builtin");
  expect(server.calls("/api/agents")).toHaveLength(1);
});

it("shows another session after the one on screen was deleted", async () => {
  const { store, server } = made("#s=new");
  server.answers["DELETE /api/sessions/new"] = () =>
    json({
      session_id: "new",
      deleted: true,
      receipt: { processes: 1, survivors: 0, bytes_freed: 1, milliseconds: 3 },
    });
  await store.refresh();
  store.setDraft("new", "half a thought");
  const { receipt } = await store.remove("new");
  expect(receipt?.survivors).toBe(0);
  expect(store.currentId).toBe("old");
  expect(store.draft("new")).toBe("");
});

it("keeps the list when the gateway is away", async () => {
  const { store, server } = made();
  await store.refresh();
  delete server.answers["GET /api/sessions"];
  await store.refresh();
  expect(store.sessions).toHaveLength(2);
  expect(store.error?.code).toBe("unreachable");
});

it("makes ids that the gateway takes, also without randomUUID", () => {
  const getRandomValues = globalThis.crypto.getRandomValues.bind(globalThis.crypto);
  const ids = [newId(), newId({ getRandomValues })];
  for (const id of ids) expect(id).toMatch(SESSION_ID);
  expect(ids[1]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

it("speaks two languages", async () => {
  expect(translate("en", "active", { n: 3 })).toBe("3 active");
  expect(translate("he", "active", { n: 3 })).toBe("3 active"); // until its words are here
  await loadLanguage("he");
  expect(translate("he", "active", { n: 3 })).toBe("3 פעילות");
  expect(directionOf("he")).toBe("rtl");
  expect(preferred(["fr-FR", "he-IL", "en"])).toBe("he");
  expect(preferred(["fr"])).toBe("en");
});

it("forgets everything of whoever was here before", async () => {
  const { store, storage } = made("#s=new");
  await store.refresh();
  store.setDraft("new", "private");
  store.setDraft("not listed", "private");
  storage.setItem("agw.theme", "dark");
  store.forget();
  expect(store.sessions).toEqual([]);
  expect(store.currentId).not.toBe("new");
  expect([store.draft("new"), store.draft("not listed")]).toEqual(["", ""]);
  expect(storage.getItem("agw.theme")).toBe("dark");
});

it("gives a text back as the draft, before what was written since, across reloads", () => {
  const { store, storage } = made();
  store.takeBack("s", "too long");
  expect(store.draft("s")).toBe("too long");
  store.setDraft("s", "since then");
  store.takeBack("s", "again");
  expect(made("", storage).store.draft("s")).toBe("again\n\nsince then");
  expect(store.returned).toBe(2);
});

it("the uploaded files of a draft are kept, given back with its text, and forgotten with the person", () => {
  const { store, storage } = made();
  const file = { path: "uploads/a.png", name: "a.png", size: 3, media_type: "image/png" };
  store.setDraftFiles("s", [file]);
  store.takeBack("s", "look", [{ ...file, path: "uploads/b.png" }]);
  const again = made("", storage).store;
  expect(again.draftFiles("s").map((one) => one.path)).toEqual(["uploads/b.png", "uploads/a.png"]);
  storage.setItem("agw.files.t", "no JSON");
  storage.setItem("agw.files.u", '[null, {"path": 1}, 5]');
  expect([again.draftFiles("t"), again.draftFiles("u")]).toEqual([[], []]);
  again.forget();
  expect(again.draftFiles("s")).toEqual([]);
});
