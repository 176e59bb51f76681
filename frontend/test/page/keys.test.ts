/** Which keys are which shortcut. */

import { beforeAll, expect, it, vi } from "vitest";
import { faultOf } from "../../src/page/shortcut-rules.ts";

let shortcutOf: (event: KeyboardEvent) => string | null;
let keys: typeof import("../../src/page/keys.ts");
let singleKeys: { value: boolean };

beforeAll(async () => {
  vi.stubGlobal("window", { matchMedia: () => ({ matches: false }) });
  vi.stubGlobal("Element", class {});
  keys = await import("../../src/page/keys.ts");
  ({ shortcutOf } = keys);
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

it("goes by the keys that somebody chose, and keeps nothing once all are as at first", () => {
  keys.changeShortcuts({ ...keys.SHORTCUTS, palette: "mod+j", newer: "" });
  expect(shortcutOf(press("j", { ctrlKey: true }))).toBe("palette");
  expect(shortcutOf(press("k", { ctrlKey: true }))).toBeNull();
  expect(shortcutOf(press("ArrowDown", { altKey: true }))).toBeNull();
  keys.changeShortcuts({ ...keys.SHORTCUTS });
  expect(shortcutOf(press("k", { ctrlKey: true }))).toBe("palette");
});

it("says which keys a shortcut cannot have", () => {
  const fault = (name: string): unknown => faultOf(keys.SHORTCUTS, "palette", name);
  expect(fault("mod+j")).toBeNull();
  expect(fault("alt+p")).toBeNull();
  expect(fault("mod+k")).toBeNull();
  expect(fault("")).toBeNull();
  expect(fault("mod+,")).toEqual({ usedBy: "settings" });
  for (const taken of ["mod+c", "mod+a", "mod+f", "enter", "escape", "1", "f5", "mod+w"]) expect([taken, fault(taken)]).toEqual([taken, "reserved"]);
  for (const typed of ["shift+a", "mod+alt+e"]) expect([typed, fault(typed)]).toEqual([typed, "plain"]);
});
