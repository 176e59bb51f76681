/** A conversation in stretches: what is drawn or left out together. Pure. */

import type { Item } from "../core/index.ts";

/** A stretch has so many things at least, but for the last one, and ends before a person's message if one comes. */
export const LEAST = 8;
export const MOST = 16;

/** Of those that are drawn when a conversation opens, so many are drawn at once: in the frame that first shows it. */
export const AT_ONCE = 1;

/** Pixels of a thing that was never drawn, about: its box, and a line for so many characters. */
const BOX = 44;
const LINE = 24;
const LINE_CHARACTERS = 80;
/** Of a long text so much is looked at. */
const SAMPLE = 4_000;

/** Stretches with the number of the first: a stretch keeps its number when earlier ones are put before it. */
export interface NumberedStretches {
  first: number;
  stretches: readonly (readonly Item[])[];
}

export const NO_STRETCHES: NumberedStretches = { first: 0, stretches: [] };

/** The same as `stretchesOf`; items before the first that was there before are stretches of their own. */
export function numbered(items: readonly Item[], before: NumberedStretches): NumberedStretches {
  const anchor = before.stretches[0]?.[0];
  const place = anchor === undefined ? 0 : items.findIndex((one) => one.id === anchor.id && one.kind === anchor.kind);
  if (place < 0) return { first: before.first, stretches: stretchesOf(items, before.stretches) };
  const earlier = stretchesOf(items.slice(0, place), []);
  const rest = stretchesOf(items.slice(place), before.stretches);
  return { first: before.first - earlier.length, stretches: [...earlier, ...rest] };
}

/**
 * The items in order, cut; a stretch that is as it was before is the same array. What is appended changes nothing of
 * the stretches before it.
 */
export function stretchesOf(items: readonly Item[], before: readonly (readonly Item[])[]): readonly (readonly Item[])[] {
  const made: (readonly Item[])[] = [];
  let start = 0;
  for (let at = 1; at <= items.length; at += 1) {
    if (at < items.length && !isCut(items[at] as Item, at - start)) continue;
    const stretch = items.slice(start, at);
    const known = before[made.length];
    made.push(known && isSame(known, stretch) ? known : stretch);
    start = at;
  }
  return made;
}

function isCut(next: Item, length: number): boolean {
  return length >= MOST || (length >= LEAST && next.kind === "message" && next.sender === "user");
}

function isSame(one: readonly Item[], other: readonly Item[]): boolean {
  return one.length === other.length && one.every((item, place) => item === other[place]);
}

/** Of the things at the end, in which order they are drawn: 0 at once, and then the newest first. */
export function ranksOf(stretches: readonly (readonly Item[])[]): Map<Item, number> {
  const newest = stretches.flat().reverse();
  return new Map(newest.map((item, place) => [item, Math.max(0, place - AT_ONCE + 1)]));
}

/** True if all of its text can be laid out at once. */
export function isBrief(item: Item): boolean {
  return item.kind !== "message" || item.text.length <= SAMPLE;
}

/** How tall a stretch will be, about. */
export function estimated(items: readonly Item[]): number {
  return items.reduce((sum, item) => sum + BOX + LINE * linesOf(item), 0);
}

function linesOf(item: Item): number {
  if (item.kind !== "message") return 0;
  const sample = item.text.slice(0, SAMPLE);
  let lines = 1 + Math.floor(sample.length / LINE_CHARACTERS);
  for (let at = sample.indexOf("\n"); at >= 0; at = sample.indexOf("\n", at + 1)) lines += 1;
  return sample.length < SAMPLE ? lines : Math.round((lines * item.text.length) / SAMPLE);
}
