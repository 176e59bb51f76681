/** The order things are drawn in. Pure. */

import type { Failure, Item, ToolCallItem, WaitingMessage } from "../core/index.ts";

const NOTHING: readonly Item[] = [];

/**
 * The log takes a message down when it is sent, while the turn before it still goes on. A reader wants the question
 * next to its answer: a user's message is drawn where its own turn begins, and until then only in the queue.
 */
export function drawn(items: readonly Item[], waiting: readonly WaitingMessage[]): Item[] {
  const starts = new Map<string, Item>();
  for (const item of items) {
    const turn = turnOf(item);
    if (turn !== null && !isUsers(item) && !starts.has(turn)) starts.set(turn, item);
  }
  const questions = new Map<Item, Item[]>();
  const isWaiting = new Set(waiting.map((message) => message.message_id));
  const rest: Item[] = [];
  for (const item of items) {
    if (!isUsers(item)) {
      rest.push(item);
      continue;
    }
    if (isWaiting.has(item.id)) continue;
    const start = starts.get(turnOf(item) ?? "");
    const known = start && questions.get(start);
    if (known) known.push(item);
    else if (start) questions.set(start, [item]);
    else rest.push(item);
  }
  if (questions.size === 0) return rest;
  const ordered: Item[] = [];
  for (const item of rest) ordered.push(...(questions.get(item) ?? NOTHING), item);
  return ordered;
}

/** The tool calls that people are asked about right now, by the id of the permission: they are shown in its card. */
export function askedFor(items: readonly Item[]): Map<string, ToolCallItem> {
  const asked = new Map<string, ToolCallItem>();
  for (const item of items) {
    if (item.kind !== "permission" || item.outcome !== null || item.tool_call_id === null) continue;
    const call = items.find((one): one is ToolCallItem => one.kind === "tool_call" && one.id === item.tool_call_id);
    if (call) asked.set(item.id, call);
  }
  return asked;
}

/** The system message that tells of a turn's failure: the card is drawn in its place. Undefined if there is none. */
export function toldBy(items: readonly Item[], failure: Failure | null): Item | undefined {
  if (failure === null) return undefined;
  const { message } = failure;
  return items
    .filter((item) => item.kind === "message" && item.sender === "system" && item.text === message)
    .at(-1);
}

function isUsers(item: Item): boolean {
  return item.kind === "message" && item.sender === "user";
}

function turnOf(item: Item): string | null {
  return "turn_id" in item ? item.turn_id : null;
}
