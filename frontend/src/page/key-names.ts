/** Keys as people read them on their keyboard. */

import { shortcuts } from "./keys.ts";

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
  const keys = (shortcuts.value as Partial<Record<string, string>>)[name];
  return keys ? keysIn(keys) : null;
}

export function keysIn(keys: string): string {
  const parts = keys.split("+").map((part) => NAMES[part] ?? part.toUpperCase());
  return parts.join(isMac ? "" : "+");
}
