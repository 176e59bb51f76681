/** What a permission is asked for, read from what the agent says of the call. Pure. */

import type { Item, PermissionItem, PermissionOption, ToolCallItem } from "../core/index.ts";

const COMMANDS = ["command", "cmd"];
const PLACES = ["cwd", "workdir", "directory", "working_directory"];
/** Longer text is not looked into for JSON. */
const INPUT_MOST = 200_000;

/** A call's input as an object; some agents send it as text with JSON inside. */
export function inputOf(raw: unknown): Record<string, unknown> {
  let value = raw;
  if (typeof value === "string" && value.startsWith("{") && value.length <= INPUT_MOST) {
    try {
      value = JSON.parse(value);
    } catch {
      return {};
    }
  }
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

/** The command that would run, as a shell is given it; null if the agent names none. */
export function commandOf(raw: unknown): string | null {
  const input = inputOf(raw);
  for (const name of COMMANDS) {
    const command = input[name];
    if (typeof command === "string" && command !== "") return command;
    if (Array.isArray(command) && command.length > 0) return quoted(command.map(String));
  }
  return null;
}

/** The directory that a command would run in; null if the agent names none: then it is the session's. */
export function placeOf(raw: unknown): string | null {
  const input = inputOf(raw);
  const place = PLACES.map((name) => input[name]).find((one) => typeof one === "string" && one !== "");
  return (place as string | undefined) ?? null;
}

/** True if an input says more than its command and where it runs. */
export function saysMore(raw: unknown): boolean {
  return Object.keys(inputOf(raw)).some((name) => !COMMANDS.includes(name) && !PLACES.includes(name));
}

/** Words as one command line. */
export function quoted(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}

/** Characters that are not seen or turn the direction of what is around them, line ends and tabs left out. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00a0\u00ad\u061c\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]/g;

/** A text with what hides in it made visible: people read it before they allow it. */
export function plainly(text: string): string {
  return text.replace(UNSEEN, (one) => `\\u{${one.charCodeAt(0).toString(16)}}`);
}

/** What "always" comes to: a rule of the session, nothing more than once, or an agent that asks no more. */
export type Always = "rule" | "once" | "agent" | "none";

export function alwaysOf(item: PermissionItem, call: ToolCallItem | undefined): Always {
  const kinds = new Set(item.options.map((option) => option.kind));
  const always = [...kinds].filter((kind) => kind.endsWith("_always"));
  if (always.length === 0 || call?.tool_kind === "switch_mode") return "none";
  if (always.some((kind) => !kinds.has(kind.replace("_always", "_once")))) return "agent";
  return item.always ? "rule" : "once";
}

/** The answers that are told in the line of their tool call: the last one of each call, by the call's id. */
export function answersOf(items: readonly Item[]): Map<string, PermissionItem> {
  const calls = new Set(items.filter((item) => item.kind === "tool_call").map((item) => item.id));
  const answers = new Map<string, PermissionItem>();
  for (const item of items) {
    if (item.kind !== "permission" || item.tool_call_id === null || !item.options) continue;
    if (!calls.has(item.tool_call_id)) continue;
    if (item.outcome === null) answers.delete(item.tool_call_id);
    else answers.set(item.tool_call_id, item);
  }
  return answers;
}

/** The option that was chosen. */
export function chosenOf(item: PermissionItem): PermissionOption | undefined {
  return item.options.find((one) => one.option_id === item.option_id);
}

export function isAllowed(item: PermissionItem): boolean {
  return item.outcome === "selected" && (chosenOf(item)?.kind.startsWith("allow") ?? false);
}
