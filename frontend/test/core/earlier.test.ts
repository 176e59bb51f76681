import { expect, it } from "vitest";
import { ApiError } from "../../src/core/errors.ts";
import { EarlierMessages, PAGE_MOST } from "../../src/core/earlier.ts";
import type { Item, Snapshot } from "../../src/core/events.ts";
import { ConversationSearch, patternOf, placesIn } from "../../src/core/find.ts";
import { ChatState } from "../../src/core/reduce.ts";
import type { HistoryPage } from "../../src/core/wire.ts";

const message = (index: number, text = `m${index}`): Item =>
  ({ kind: "message", id: `m${index}`, turn_id: null, sender: "agent", text, at: "", is_streaming: false, is_placeholder: false, index }) as Item;

const messages = (from: number, to: number): Item[] =>
  Array.from({ length: to - from }, (_, place) => message(from + place));

const snapshot = (from: number, to: number, items = messages(from, to)): Snapshot =>
  ({ session_id: "s", seq: to, items, earlier: from }) as unknown as Snapshot;

const ids = (chat: ChatState): string[] => chat.items.map((item) => item.id);

function made(chat: ChatState, fails = 0) {
  const asked: [number, number][] = [];
  const earlier = new EarlierMessages({
    chat: () => chat,
    changed: () => undefined,
    fetch: (before, last) => {
      asked.push([before, last]);
      if (asked.length <= fails) return Promise.reject(new ApiError(0, "unreachable", "x"));
      const start = Math.max(0, before - last);
      return Promise.resolve({ session_id: "s", seq: 1, earlier: start, items: messages(start, before) } as unknown as HistoryPage);
    },
  });
  return { earlier, asked };
}

it("fetches page by page without a hole, once however often it is asked", async () => {
  const chat = ChatState.restore(snapshot(2_500, 2_510));
  const { earlier, asked } = made(chat);
  expect(await Promise.all([earlier.more(), earlier.more()])).toEqual([true, true]);
  expect(asked).toEqual([[2_500, 100]]);
  expect(await earlier.upTo(2_390)).toBe(true);
  expect(asked.at(-1)).toEqual([2_400, 100]);
  expect(await earlier.all()).toBe(true);
  expect(Math.max(...asked.map(([, last]) => last))).toBe(PAGE_MOST);
  expect(ids(chat)).toEqual(messages(0, 2_510).map((item) => item.id));
  expect(await earlier.more()).toBe(false);
});

it("says why a page did not come, and asks again at the next wish", async () => {
  const { earlier } = made(ChatState.restore(snapshot(10, 20)), 1);
  expect(await earlier.all()).toBe(false);
  expect(earlier.error?.code).toBe("unreachable");
  expect(await earlier.all()).toBe(true);
  expect(earlier.error).toBeNull();
});

it("keeps what a reader far above had when the last messages come anew", () => {
  const before = ChatState.restore(snapshot(0, 100));
  const after = ChatState.restore(snapshot(60, 130));
  after.keep(before, 0);
  expect(ids(after)).toEqual(messages(0, 130).map((item) => item.id));
  expect(after.earlier).toBe(0);
  expect(after.nextNumber).toBe(130);
});

it("keeps nothing that leaves a hole, or that was open and may have been answered meanwhile", () => {
  const far = ChatState.restore(snapshot(200, 210));
  far.keep(ChatState.restore(snapshot(0, 100)), 0);
  expect(far.earlier).toBe(200);
  const asked = { kind: "permission", id: "p", outcome: null, turn_id: "t", title: "", at: "" } as unknown as Item;
  const open = ChatState.restore(snapshot(0, 100, [message(0), asked, ...messages(1, 100)]));
  const answered = ChatState.restore(snapshot(50, 110));
  answered.keep(open, 0);
  expect(answered.earlier).toBe(50);
  const still = ChatState.restore(snapshot(50, 110, [asked, ...messages(50, 110)]));
  still.keep(open, 1);
  expect(ids(still).slice(0, 3)).toEqual(["m0", "p", "m1"]);
});

it("finds words from the newest to the oldest, also in messages that are fetched for it", async () => {
  const chat = ChatState.restore(snapshot(1_500, 1_510));
  const { earlier } = made(chat);
  const search = new ConversationSearch({
    words: "M15",
    items: () => chat.items,
    earlier,
    rest: () => Promise.resolve(),
    changed: () => undefined,
  });
  await search.run();
  expect(search.isDone).toBe(true);
  expect(search.found.map((one) => one.id)).toEqual([
    ...messages(1_500, 1_510).map((item) => item.id).reverse(),
    ...messages(150, 160).map((item) => item.id).reverse(),
    "m15",
  ]);
});

it("finds every place of a long text once, across the cuts of the search", async () => {
  const text = `${"x".repeat(199_998)}needle${"y".repeat(250_000)}Needle`;
  const chat = ChatState.restore(snapshot(0, 1, [message(0, text)]));
  const search = new ConversationSearch({
    words: "needle",
    items: () => chat.items,
    earlier: made(chat).earlier,
    rest: () => Promise.resolve(),
    changed: () => undefined,
  });
  await search.run();
  expect(search.found.map((one) => one.at)).toEqual([text.length - 6, 199_998]);
});

it("takes words as they are, and blanks as any blanks", () => {
  expect(patternOf("  ")).toBeNull();
  expect(placesIn("a (b.c) and A (B.C)", patternOf("(b.c)") as RegExp)).toEqual([2, 14]);
  expect(placesIn("one\n two", patternOf("one two") as RegExp)).toEqual([0]);
});
