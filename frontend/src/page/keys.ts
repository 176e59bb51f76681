/** The keyboard's shortcuts: which keys do what, wherever the page's letters are on the keyboard. */

import { signal } from "@preact/signals";
import { singleKeys, storage } from "./preferences.ts";

/** What shortcuts do; the sheet lists them in this order. `mod` is Ctrl, or Cmd on a Mac. */
export const SHORTCUTS = {
  palette: "mod+k",
  newSession: "mod+shift+o",
  settings: "mod+,",
  shortcuts: "mod+/",
  copyAnswer: "mod+shift+c",
  editLast: "mod+shift+e",
  older: "alt+arrowup",
  newer: "alt+arrowdown",
  compose: "/",
  help: "?",
} as const;

export type Shortcut = keyof typeof SHORTCUTS;
export type ShortcutTable = Record<Shortcut, string>;

const KEPT = "agw.shortcuts";

/** The shortcuts as this person has them: the page's, but for those that were changed; "" has no keys. */
export const shortcuts = signal<ShortcutTable>({ ...SHORTCUTS, ...kept() });

function kept(): Partial<ShortcutTable> {
  try {
    const found = Object.entries(JSON.parse(storage.getItem(KEPT) ?? "{}") as object);
    return Object.fromEntries(found.filter(([name, keys]) => name in SHORTCUTS && typeof keys === "string"));
  } catch {
    return {}; // not written by this page
  }
}

export function changeShortcuts(table: ShortcutTable): void {
  shortcuts.value = table;
  const changed = Object.entries(table).filter(([name, keys]) => keys !== SHORTCUTS[name as Shortcut]);
  if (changed.length === 0) storage.removeItem(KEPT);
  else storage.setItem(KEPT, JSON.stringify(Object.fromEntries(changed)));
}

/** The keys that were pressed as SHORTCUTS writes them. A letter counts by its place if it is not Latin. */
export function pressed(event: KeyboardEvent): string {
  const isLetter = event.code.startsWith("Key") && !/^[a-z]$/i.test(event.key);
  const key = isLetter ? event.code.slice(3).toLowerCase() : event.key.toLowerCase();
  const isSign = key.length === 1 && !/[a-z0-9]/.test(key);
  const held = [
    (event.ctrlKey || event.metaKey) && "mod",
    event.altKey && "alt",
    event.shiftKey && !isSign && "shift",
  ].filter(Boolean);
  return [...held, key].join("+");
}

export function shortcutOf(event: KeyboardEvent): Shortcut | null {
  const keys = pressed(event);
  const found = (Object.entries(shortcuts.peek()) as [Shortcut, string][]).find(([, one]) => one === keys);
  if (found === undefined) return null;
  const isSingle = keys.length === 1;
  return isSingle && (!singleKeys.peek() || isWriting(event.target)) ? null : found[0];
}

function isWriting(target: EventTarget | null): boolean {
  return target instanceof Element && target.matches("input, textarea, select, [contenteditable]");
}
