import { beforeAll, expect, it } from "vitest";
import { Api } from "../../src/core/api.ts";
import { ApiError, inTime, wordsOf } from "../../src/core/errors.ts";
import { loadLanguage } from "../../src/core/i18n.ts";
import { FakeServer, json } from "../fakes.ts";

beforeAll(() => loadLanguage("he"));

async function answered(status: number, error: Record<string, unknown>, headers = {}): Promise<ApiError> {
  const server = new FakeServer();
  server.answers["GET /api/sessions"] = () => json({ error, request_id: "r" }, status, headers);
  const api = new Api({ baseUrl: "http://gateway", fetch: server.fetch });
  return api.sessions().then(
    () => expect.fail("was answered"),
    (refusal: ApiError) => refusal,
  );
}

it("says a quota with its figures and when there is more, in both languages", async () => {
  const quota = { code: "quota_exceeded", message: "x", limit: "subject.tokens_per_day", used: 12345.6, allowed: 12000 };
  const error = await answered(429, quota, { "Retry-After": "7300" });
  expect(wordsOf(error, "en")).toBe(
    "Limit reached. You: 12,346 of 12,000 model tokens per day. Try again in 3 hours.",
  );
  expect(wordsOf(error, "he")).toBe(
    "המכסה נוצלה. החשבון שלך: 12,346 מתוך 12,000 אסימוני מודל ביום. אפשר לנסות שוב בעוד 3 שעות.",
  );
});

it("leaves a quota that it does not know to the gateway's words", async () => {
  const quota = { code: "quota_exceeded", message: "So many moons.", limit: "subject.moons", used: 2, allowed: 1 };
  expect(wordsOf(await answered(429, quota), "he")).toBe("So many moons.");
});

it("has words for what happens to people, and else the gateway's", async () => {
  const busy = await answered(429, { code: "rate_limited", message: "x" }, { "Retry-After": "40" });
  expect(wordsOf(busy, "en")).toBe("Too many requests. Try again in 40 seconds.");
  expect(wordsOf(await answered(403, { code: "tenant_disabled", message: "x" }), "he")).toContain("הושבתה");
  expect(wordsOf(await answered(409, { code: "other", message: "Only here." }), "he")).toBe("Only here.");
  expect(wordsOf(new ApiError(0, "unreachable", "x"), "en")).toBe("The gateway cannot be reached.");
});

it.each([
  [200, "in 1 second"],
  [99_000, "in 99 seconds"],
  [120_000, "in 2 minutes"],
  [6_000_000, "in 2 hours"],
])("says %d ms as %s", (milliseconds, words) => {
  expect(inTime(milliseconds, "en")).toBe(words);
});
