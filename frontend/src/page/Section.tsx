/**
 * A section of a long text: drawn while it is near what the reader sees, and else an empty box as tall as it was.
 *
 * Guarantees: its blocks are drawn a few between two frames; one in which the reader has selected something stays; if
 * too many elements of the text are on the page, the section is its plain text.
 */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ELEMENTS_MOST, type Span } from "../core/markdown/index.ts";
import { type Block, elementsOf } from "./markdown.ts";
import { canWatch, isInUse, whenNear } from "./nearness.ts";
import { isOnPaper } from "./reveal.ts";
import { Rest } from "./Pieces.tsx";
import { heightOf, type SectionOfText, SHORT } from "./sections.ts";
import { slices } from "./slices.ts";

/** How far out of sight a section is drawn already. */
const NEAR_PX = 1_200;

/** A block weighs its characters and a little for its box. */
const BOX_WEIGHT = 200;

interface SectionProps {
  number: number;
  section: SectionOfText;
  blocks: readonly Block[];
  spans: readonly Span[];
  /** True if the text has no other. */
  isAlone: boolean;
  /** True if it is drawn wherever the reader is. */
  isHeld: boolean;
  /** Of each section that is drawn, how many elements it has. */
  elements: Map<number, number>;
  /** The text, if its last words were on the page before they were read: they stay until the section is whole. */
  endsIn: string | null;
  draw(block: Block, place: number): ComponentChildren;
  /** Its text as it is. */
  plain(): ComponentChildren;
}

export function Section({ number, section, blocks, spans, isAlone, isHeld, elements, endsIn, draw, plain }: SectionProps) {
  const box = useRef<HTMLDivElement>(null);
  const height = useRef<number | null>(null);
  const [isNear, setNear] = useState(isAlone || !canWatch);
  const isDrawn = isAlone || isNear || isHeld;
  const weights = spans.slice(section.from, section.to).map((span) => span.weight + BOX_WEIGHT);
  const isShort = isAlone && section.end <= SHORT;
  const isPlain = isDrawn && isTooMuch(number, elements);
  const make = (place: number): void => void (isPlain || elementsOf(blocks[section.from + place] as Block));
  const count = useAdmitted(isPlain ? weights.slice(0, 1) : weights, isDrawn, isShort, make);
  useEffect(() => {
    const element = box.current;
    const scroller = element?.closest(".scroller");
    if (!element || !scroller || isAlone || !canWatch) return setNear(true);
    return whenNear(element, scroller, NEAR_PX, (isIn, tall) => {
      if (!isIn && isInUse(element)) return;
      if (!isIn) height.current = tall;
      setNear(isIn);
    });
  }, [isAlone]);
  useEffect(() => () => void elements.delete(number), []);

  const shown = blocks.slice(section.from, section.from + count);
  if (isDrawn && !isPlain) elements.set(number, shown.reduce((sum, block) => sum + elementsOf(block), 0));
  else elements.delete(number);
  const isWhole = isDrawn && count === (isPlain ? 1 : weights.length);
  const least = isWhole || isAlone ? undefined : { minBlockSize: `${height.current ?? heightOf(section)}px` };
  return (
    <div class="md-section" ref={box} style={least} data-drawn={isWhole} data-start={section.start} data-end={section.end}>
      {endsIn !== null && isDrawn && !isWhole ? (
        <Rest text={endsIn} from={section.start} to={section.end} />
      ) : isPlain ? (
        count > 0 && plain()
      ) : (
        shown.map((block, place) => draw(block, section.from + place))
      )}
    </div>
  );
}

/** True if there are too many elements in the other sections. */
function isTooMuch(number: number, elements: ReadonlyMap<number, number>): boolean {
  let others = 0;
  for (const [place, count] of elements) if (place !== number) others += count;
  return others > ELEMENTS_MOST;
}

/**
 * How many of these may be drawn by now; the component draws again as more of them may. Each that may is made at once,
 * so that its time counts before the next one is asked about.
 */
function useAdmitted(weights: readonly number[], isOn: boolean, isShort: boolean, make: (place: number) => void): number {
  const count = useRef(0);
  /** True if the next one has waited for its turn. */
  const isPaid = useRef(false);
  const [, setRound] = useState(0);
  if (!isOn) count.current = 0;
  for (; isOn && count.current < weights.length; count.current += 1) {
    if (!isOnPaper.value && !isPaid.current && !slices.admits(weights[count.current] ?? 0) && !isShort) break;
    isPaid.current = false;
    make(count.current);
  }
  count.current = Math.min(count.current, weights.length);
  const isWaiting = isOn && count.current < weights.length;
  useEffect(() => {
    if (!isWaiting) return undefined;
    return slices.later(weights[count.current] ?? 0, () => {
      isPaid.current = true;
      setRound((round) => round + 1);
    });
  }, [isWaiting, count.current]);
  return count.current;
}
