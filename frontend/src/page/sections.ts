/** A long text in sections: the blocks that are drawn or left out together. Pure. */

import type { Span } from "../core/markdown/index.ts";

/** A section is about so heavy: more than a screen, and drawn in a frame or two. */
export const SECTION_WEIGHT = 12_000;

/** What a block's box counts beside its characters. */
const BOX = 150;

/** A text so short is drawn with the box that it is in: its reader never meets an empty one. */
export const SHORT = 2_000;

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

/** What is appended changes only the last section. */
export function sectionsOf(spans: readonly Span[]): SectionOfText[] {
  const made: SectionOfText[] = [];
  let weight = 0;
  for (const [place, span] of spans.entries()) {
    const last = made.at(-1);
    const own = span.weight + BOX;
    if (last === undefined || weight + own > SECTION_WEIGHT) {
      made.push({ from: place, to: place + 1, start: last?.end ?? 0, end: span.end });
      weight = own;
      continue;
    }
    last.to = place + 1;
    last.end = span.end;
    weight += own;
  }
  return made;
}

/** How tall it will be, about. */
export function heightOf({ start, end }: SectionOfText): number {
  return Math.ceil((end - start) / LINE_CHARACTERS) * LINE;
}
