/** Runs of finished tool calls, which are told in one line. Pure. */

import type { Item, ToolCallItem } from "../core/index.ts";

/** Fewer are shown as they are. */
export const RUN_LEAST = 3;

export type RunPiece = { item: Item } | { run: readonly Item[]; calls: readonly ToolCallItem[] };

/** The items in order, with runs of finished calls together; what an agent thought between two of them is in the run. */
export function runsOf(items: readonly Item[], isApart: (item: Item) => boolean): RunPiece[] {
  const pieces: RunPiece[] = [];
  let at = 0;
  while (at < items.length) {
    const end = endOfRun(items, at, isApart);
    const run = items.slice(at, end);
    const calls = run.filter((item): item is ToolCallItem => item.kind === "tool_call");
    if (calls.length >= RUN_LEAST) pieces.push({ run, calls });
    else for (const item of items.slice(at, Math.max(end, at + 1))) pieces.push({ item });
    at = Math.max(end, at + 1);
  }
  return pieces;
}

/** Behind the last finished call that follows on from here. */
function endOfRun(items: readonly Item[], start: number, isApart: (item: Item) => boolean): number {
  let end = start;
  for (let at = start; at < items.length; at += 1) {
    const item = items[at] as Item;
    if (isFinished(item) && !isApart(item)) end = at + 1;
    else if (at === start || !isBetween(item)) break;
  }
  return end;
}

function isFinished(item: Item): boolean {
  return item.kind === "tool_call" && ["completed", "failed", "cancelled"].includes(item.status ?? "");
}

function isBetween(item: Item): boolean {
  if (item.kind === "thought") return !item.is_streaming;
  return item.kind === "message" && item.sender === "agent" && item.text === "";
}
