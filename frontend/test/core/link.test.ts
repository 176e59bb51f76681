import { beforeEach, expect, it } from "vitest";
import { Api } from "../../src/core/api.ts";
import { Conversation } from "../../src/core/conversation.ts";
import { Link } from "../../src/core/link.ts";
import { memoryStorage } from "../../src/core/storage.ts";
import { FakeClock, FakeServer, json, settled, stateOf } from "../fakes.ts";

const ANN = { author_id: "l-a", name: "Ann", kind: "guest" };
const refused = (code: string, status: number, message = "") => () => json({ error: { code, message } }, status);

let server: FakeServer;
let storage: ReturnType<typeof memoryStorage>;

beforeEach(() => {
  server = new FakeServer();
  storage = memoryStorage();
});

function opened(): { link: Link; conversation: Conversation } {
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  const link = new Link({ api, token: "ags_a.b", storage });
  return { link, conversation: new Conversation({ api, sessionId: "x", link, clock: new FakeClock() }) };
}

it("asks for a name once, and sends it with what is done by the link", async () => {
  server.answers["GET /api/shared/ags_a.b/link"] = () => json({ kind: "drive", expires_at: null, is_owner: false });
  const { link, conversation } = opened();
  await link.load();
  expect([link.needsName, conversation.mayWrite, conversation.mayAnswer]).toEqual([true, false, false]);
  server.answers["GET /api/shared/ags_a.b/link"] = () =>
    json({ kind: "drive", expires_at: null, is_owner: false, you: ANN });
  expect(await link.takeName(" Ann ")).toBe(true);
  expect([link.needsName, conversation.mayWrite, conversation.mayAnswer]).toEqual([false, true, false]);
  server.answers["POST /api/shared/ags_a.b/chat"] = () => json(stateOf({ seq: 2 }));
  await conversation.send("hello");
  const sent = server.requests.at(-1);
  expect([sent?.url.searchParams.get("name"), sent?.url.searchParams.get("guest")?.length]).toEqual(["Ann", 36]);
  expect(opened().link.who).toEqual(link.who);
});

it("keeps no name that is not taken, and asks again for one that somebody else has here", async () => {
  storage.setItem("agw.guest-name", "Ann");
  server.answers["GET /api/shared/ags_a.b/link"] = (request) =>
    request.url.searchParams.get("name") === ""
      ? json({ kind: "approve", expires_at: null, is_owner: false })
      : json({ error: { code: "invalid_field" } }, 422);
  const { link } = opened();
  await link.load();
  expect([link.kind, link.needsName, link.who.name]).toEqual(["approve", true, ""]);
  expect(await link.takeName("Owner")).toBe(false);
  expect([link.error?.status, link.who.name]).toEqual([422, ""]);
});

it("shows who is there, and nothing of it moves the cursor or is kept over a break", async () => {
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  const conversation = new Conversation({ api, sessionId: "x", clock: new FakeClock() });
  conversation.start();
  await settled();
  const present = { people: [{ person_id: "owner", name: "", kind: "owner", link: "" }], count: 2 };
  await server.wire.write(`event: present\ndata: ${JSON.stringify({ seq: 7, type: "present", present })}\n\n`);
  expect([conversation.present, conversation.chat.seq]).toEqual([present, 0]);
  const nobody = { seq: 7, type: "present", present: { people: [], count: 0 } };
  await server.wire.write(`event: present\ndata: ${JSON.stringify(nobody)}\n\n`);
  expect(conversation.present).toBeNull();
});

it("notes that somebody else answered first", async () => {
  server.answers["POST /api/shared/ags_a.b/permission"] = refused("permission_not_pending", 409);
  const { conversation } = opened();
  expect(await conversation.answerPermission("p1", "yes")).toBe(false);
  expect(conversation.answeredBefore.has("p1")).toBe(true);
});
