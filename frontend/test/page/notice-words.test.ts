/** The gateway's notices in the reader's language. */

import { expect, it } from "vitest";
import { noticeWords } from "../../src/page/notice-words.ts";

it("are said by their code, kind and numbers, in the plural of each language", () => {
  const held = (messages: number, kind = "person") => ({ code: "queue_held", values: { messages, kind } });
  expect(noticeWords(held(1), "en")).toBe("A waiting message is held; send or drop it.");
  expect(noticeWords(held(3, "budget"), "en")).toBe("3 waiting messages are held until the budget allows them.");
  expect(noticeWords(held(2), "he")).toContain("שתי הודעות ממתינות");
  const values = { messages: 2, names: "Ann, Bo" };
  expect(noticeWords({ code: "message_withdrawn", values }, "en")).toBe(
    "2 waiting messages from Ann, Bo were withdrawn: the link was revoked.",
  );
});

it("that are not known, or have no values, keep the gateway's words", () => {
  expect(noticeWords({ code: "of_tomorrow", values: { n: 1 } }, "he")).toBeNull();
  expect(noticeWords({ code: "queue_held" }, "he")).toBeNull();
});
