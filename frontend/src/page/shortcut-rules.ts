/** Which keys a shortcut may have. */

import type { Shortcut, ShortcutTable } from "./keys.ts";

/** What the page, a field or every browser does with keys already. */
const RESERVED = new Set([
  ...["enter", "escape", "tab", " ", "backspace", "delete", "home", "end", "pageup", "pagedown"],
  ...["arrowup", "arrowdown", "arrowleft", "arrowright"],
  ...[..."123456789"],
  ...[..."acvxzyfprtwnlq0123456789"].map((key) => `mod+${key}`),
  ...[..."ntwpr"].map((key) => `mod+shift+${key}`),
  ...["mod+enter", "shift+enter", "alt+arrowleft", "alt+arrowright", "alt+f4"],
]);

export type ShortcutFault = "reserved" | "plain" | { usedBy: Shortcut };

/** Why a shortcut cannot have these keys; null if it can. None at all it may have. */
export function faultOf(table: ShortcutTable, name: Shortcut, keys: string): ShortcutFault | null {
  if (keys === "") return null;
  if (RESERVED.has(keys) || /^(shift\+)?f\d+$/.test(keys)) return "reserved";
  const isHeld = keys.startsWith("mod+") || keys.startsWith("alt+");
  if (!isHeld && keys.length > 1) return "plain"; // Shift alone makes a capital letter
  if (keys.startsWith("mod+alt+") && keys.length === "mod+alt+x".length) return "plain"; // as AltGr types
  const other = (Object.entries(table) as [Shortcut, string][]).find(([one, its]) => one !== name && its === keys);
  return other === undefined ? null : { usedBy: other[0] };
}
