/** What is written: how long it is, what was written before, and words that go by a number. */

import { expect, it } from "vitest";
import type { Item } from "../../src/core/events.ts";
import { filled } from "../../src/core/i18n.ts";
import { excess, shortened } from "../../src/core/length.ts";
import { written } from "../../src/core/recall.ts";

it("counts what is too long in characters, and cuts none in the middle", () => {
  expect(excess("abc", 3)).toBe(0);
  expect(excess("abcd", 3)).toBe(1);
  expect(excess("שלום", 8)).toBe(0);
  expect(excess("שלום", 7)).toBe(1);
  expect(shortened("a🎉b", 4)).toBe("a");
  expect(shortened("a🎉b", 5)).toBe("a🎉");
  const long = "x".repeat(40_000);
  expect(excess(long, 32 * 1024)).toBe(40_000 - 32 * 1024);
});

it("recalls one's own messages, the newest first", () => {
  const said = (sender: string, text: string, more = {}): Item =>
    ({ kind: "message", sender, text, id: text, ...more }) as unknown as Item;
  const author = { author_id: "a", name: "Ann", kind: "guest" };
  const items = [
    said("user", "one"),
    said("agent", "answer"),
    said("user", "two"),
    said("user", "two"),
    said("user", "somebody's", { author }),
    said("user", ""),
  ];
  expect(written(items)).toEqual(["two", "one"]);
});

it("has the words for a number in each language", () => {
  const words = "{n|one:one file|other:# files}";
  expect([1, 2, 1200].map((n) => filled("en", words, { n }))).toEqual(["one file", "2 files", "1,200 files"]);
  const hebrew = "{n|one:קובץ אחד|two:שני קבצים|other:# קבצים}";
  expect([1, 2, 5].map((n) => filled("he", hebrew, { n }))).toEqual(["קובץ אחד", "שני קבצים", "5 קבצים"]);
  expect(filled("en", "{n|one:#|other:#} of {all}", { all: 3 })).toBe("{n|one:#|other:#} of 3");
});
