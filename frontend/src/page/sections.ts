/** A long text in sections: the blocks that are drawn or left out together. Pure. */

import type { Span } from "../core/markdown/index.ts";

/** A section is about so heavy: more than a screen, and drawn in a frame or two. */
export const SECTION_WEIGHT = 12_000;

/** What a block's box counts beside its characters. */
const BOX = 150;

/** A text so short is drawn with the box that it is in: its reader never meets an empty one. */
export const SHORT = 2_000;

/** If so much of a text is not read yet, its last words are shown as they are. */
export const REST_LEAST = 20_000;
const TAIL = 3_000;

/** Pixels of a line that was never drawn, about, and its characters. */
const LINE = 26;
const LINE_CHARACTERS = 75;

export interface SectionOfText {
  /** Its blocks: from this one to before that one. */
  from: number;
  to: number;
  /** Its characters, in the text. */
  start: number;
  end: number;
}

/**
 * The sections of a text. Those of `before`, of which the first `unchanged` spans are as they were, stay the same objects,
 * but for the last one: what is appended costs its own length.
 */
export function sectionsOf(spans: readonly Span[], before: readonly SectionOfText[] = [], unchanged = 0): SectionOfText[] {
  const made = before.slice(0, -1).filter((one) => one.to <= unchanged);
  let last: SectionOfText | null = null;
  let weight = 0;
  for (let place = made.at(-1)?.to ?? 0; place < spans.length; place += 1) {
    const span = spans[place] as Span;
    const own = span.weight + BOX;
    if (last === null || weight + own > SECTION_WEIGHT) {
      last = { from: place, to: place + 1, start: made.at(-1)?.end ?? 0, end: span.end };
      made.push(last);
      weight = own;
      continue;
    }
    last.to = place + 1;
    last.end = span.end;
    weight += own;
  }
  return made;
}

/** The last words of a text, from the beginning of a line if one is near. */
export function tailOf(text: string): string {
  const from = Math.max(0, text.length - TAIL);
  const line = text.indexOf("\n", from) + 1;
  return text.slice(line > 0 && line < from + TAIL / 2 ? line : from);
}

/** How tall it will be, about. */
export function heightOf({ start, end }: Pick<SectionOfText, "start" | "end">): number {
  return Math.ceil((end - start) / LINE_CHARACTERS) * LINE;
}
