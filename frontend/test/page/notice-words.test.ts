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

it("say of files that came from another gateway only what is the matter with them", () => {
  const brought = (missing: number, lost: number, kind?: string) => ({
    code: "files_brought",
    values: { files: 7, missing, lost, ...(kind && { kind }) },
  });
  const begins = "This conversation goes on at another gateway, with the files of";
  const ends = " Packages and caches that can be made again were left behind.";
  expect(noticeWords(brought(0, 0), "en")).toBe(`${begins} its last snapshot.${ends}`);
  expect(noticeWords(brought(1, 2, "older"), "en")).toBe(
    `${begins} an earlier turn: those of the last one were not kept. One file was too large to be kept and is not among ` +
      `them. 2 files were damaged where they were kept, and are lost.${ends}`,
  );
  expect(noticeWords(brought(0, 2), "he")).toContain("שני קבצים נפגמו");
  expect(noticeWords(brought(0, 0), "he")).not.toContain("נפגמו");
});

it("that are not known, or have no values, keep the gateway's words", () => {
  expect(noticeWords({ code: "of_tomorrow", values: { n: 1 } }, "he")).toBeNull();
  expect(noticeWords({ code: "queue_held" }, "he")).toBeNull();
});
