/** Which keys are which shortcut. */

import { beforeAll, expect, it, vi } from "vitest";

let shortcutOf: (event: KeyboardEvent) => string | null;
let singleKeys: { value: boolean };

beforeAll(async () => {
  vi.stubGlobal("window", { matchMedia: () => ({ matches: false }) });
  vi.stubGlobal("Element", class {});
  ({ shortcutOf } = await import("../../src/page/keys.ts"));
  ({ singleKeys } = await import("../../src/page/preferences.ts"));
});

const press = (key: string, more: Partial<KeyboardEvent> = {}): KeyboardEvent =>
  ({ key, code: "", ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, target: null, ...more }) as KeyboardEvent;

it("knows them by letter, by place on a keyboard of other letters, and with Cmd", () => {
  expect(shortcutOf(press("k", { ctrlKey: true }))).toBe("palette");
  expect(shortcutOf(press("K", { ctrlKey: true }))).toBe("palette");
  expect(shortcutOf(press("k", { metaKey: true }))).toBe("palette");
  expect(shortcutOf(press("ל", { ctrlKey: true, code: "KeyK" }))).toBe("palette");
  expect(shortcutOf(press("?", { shiftKey: true }))).toBe("help");
  expect(shortcutOf(press("O", { ctrlKey: true, shiftKey: true }))).toBe("newSession");
  expect(shortcutOf(press("ArrowUp", { altKey: true }))).toBe("older");
});

it("leaves other keys alone", () => {
  for (const event of [press("k"), press("k", { ctrlKey: true, altKey: true }), press("o", { ctrlKey: true }), press("ArrowUp")])
    expect(shortcutOf(event)).toBeNull();
});

it("has no shortcuts of a single key for somebody who switched them off", () => {
  expect(shortcutOf(press("/"))).toBe("compose");
  singleKeys.value = false;
  expect(shortcutOf(press("/"))).toBeNull();
  expect(shortcutOf(press("/", { ctrlKey: true }))).toBe("shortcuts");
  singleKeys.value = true;
});
