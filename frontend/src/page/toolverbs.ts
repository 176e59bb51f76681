/** What kind of thing a tool call does. Pure. */

import type { Key, ToolCallItem } from "../core/index.ts";
import { partsOf, textOf } from "./toolparts.ts";

/** Done, and while it is being done or if it failed. */
export const VERBS = {
  execute: ["callRan", "callRunning"],
  read: ["callRead", "callReading"],
  edit: ["callEdited", "callEditing"],
  create: ["callCreated", "callCreating"],
  delete: ["callDeleted", "callDeleting"],
  search: ["callSearched", "callSearching"],
  fetch: ["callFetched", "callFetching"],
} as const satisfies Record<string, readonly [Key, Key]>;

export type Verb = keyof typeof VERBS;

export function verbOf(item: ToolCallItem): Verb | null {
  const kind = item.tool_kind;
  const diffs = partsOf(item.content).filter((part) => part.type === "diff");
  if ((kind === "edit" || kind === undefined) && diffs.length > 0)
    return diffs.every((part) => part.oldText == null && textOf(part.newText) !== "") ? "create" : "edit";
  return kind !== undefined && kind !== "create" && Object.hasOwn(VERBS, kind) ? (kind as Verb) : null;
}

/** A run of calls by what was done: how often each, the failures apart. */
export function countsOf(items: readonly ToolCallItem[]): { verbs: [Verb | "other", number][]; failed: number } {
  const verbs = new Map<Verb | "other", number>();
  for (const item of items) {
    const found = verbOf(item) ?? "other";
    const verb = found === "create" ? "edit" : found === "delete" ? "other" : found;
    verbs.set(verb, (verbs.get(verb) ?? 0) + 1);
  }
  return { verbs: [...verbs], failed: items.filter((item) => item.status === "failed").length };
}
