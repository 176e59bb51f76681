/** What a tool call brings along, as far as the agent's lists can be read: the log keeps them as they came. Pure. */

import type { AcpToolContent, Item, PermissionItem } from "../core/index.ts";

export function partsOf(content: unknown): AcpToolContent[] {
  if (!Array.isArray(content)) return [];
  return content.filter((part) => typeof part === "object" && part !== null && !Array.isArray(part));
}

/** True if a call shows a difference that nobody has seen: a person who answered has seen it, a rule has not. */
export function isNews(item: Item, answer: PermissionItem | undefined): boolean {
  if (item.kind !== "tool_call" || (answer !== undefined && answer.rule === undefined)) return false;
  return partsOf(item.content).some((part) => part.type === "diff");
}

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export interface Place {
  path: string;
  line?: number;
}

/** The files that a call touches. */
export function placesOf(locations: unknown): Place[] {
  if (!Array.isArray(locations)) return [];
  return locations.flatMap((one: { path?: unknown; line?: unknown } | null) => {
    if (typeof one?.path !== "string") return [];
    return [typeof one.line === "number" ? { path: one.path, line: one.line } : { path: one.path }];
  });
}
