/** The keyboard's shortcuts: which keys do what, wherever the page's letters are on the keyboard. */

import { singleKeys } from "./preferences.ts";

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
  const found = (Object.entries(SHORTCUTS) as [Shortcut, string][]).find(([, one]) => one === keys);
  if (found === undefined) return null;
  const isSingle = keys.length === 1;
  return isSingle && (!singleKeys.peek() || isWriting(event.target)) ? null : found[0];
}

function isWriting(target: EventTarget | null): boolean {
  return target instanceof Element && target.matches("input, textarea, select, [contenteditable]");
}

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
/** What people read on their keys. */
const NAMES: Record<string, string> = {
  mod: isMac ? "⌘" : "Ctrl",
  alt: isMac ? "⌥" : "Alt",
  shift: isMac ? "⇧" : "Shift",
  arrowup: "↑",
  arrowdown: "↓",
  enter: "Enter",
};

/** The keys of a shortcut as people read them; null if it has none. */
export function keysShown(name: string): string | null {
  const keys = (SHORTCUTS as Partial<Record<string, string>>)[name];
  return keys === undefined ? null : keysIn(keys);
}

export function keysIn(keys: string): string {
  const parts = keys.split("+").map((part) => NAMES[part] ?? part.toUpperCase());
  return parts.join(isMac ? "" : "+");
}
