import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { failureLine, failureWords } from "../../src/page/failure-words.ts";

const source = (name: string): string => readFileSync(new URL(`../../../${name}`, import.meta.url), "utf8");

describe("why a turn failed", () => {
  it("is said in the gateway's words in English, and if its code is not known", () => {
    const restarted = { code: "gateway_restarted", message: "The gateway was restarted.", retryable: true };
    expect(failureWords(restarted, "en")).toEqual({ words: restarted.message, also: null });
    const own = { code: "toString", message: "The agent's own words", retryable: false };
    expect(failureWords(own, "he")).toEqual({ words: own.message, also: null });
  });

  it("is said by its code in Hebrew, with the gateway's words if those say more", () => {
    const message = "The gateway was restarted before the answer was complete.";
    const { words, also } = failureWords({ code: "gateway_restarted", message, retryable: true }, "he");
    expect([words, also]).toEqual([failureLine(message, "he"), null]);
    expect(failureLine(message, "en")).toBeNull();
    const failed = failureWords({ code: "start_failed", message: "The program x is not found.", retryable: true }, "he");
    expect(failed.also).toBe("The program x is not found.");
  });

  it("has Hebrew words for every code of the gateway's and of its built-in agent's", () => {
    const ends = source("gateway/events/lifecycle.py").split("class WorkerEnd")[1]?.split("class ")[0]?.split("\n\n\n")[0] ?? "";
    const codes = [...ends.matchAll(/= "(\w+)"/g)].map(([, code]) => code ?? "").filter((code) => code !== "parked");
    const models = [...source("worker/agent/model.py").matchAll(/"(model_\w+)"/g)].map(([, code]) => code ?? "");
    expect(codes.length).toBeGreaterThan(8);
    expect(models.length).toBeGreaterThan(4);
    for (const code of [...codes, ...models, "gateway_restarted", "crash_loop", "budget_reached", "auth_required"])
      expect([code, failureWords({ code, message: "-", retryable: false }, "he").words]).not.toEqual([code, "-"]);
  });
});
