/**
 * A stretch of a long conversation: drawn while it is near what the reader sees, and else an empty box as tall as it was.
 *
 * Guarantees: the newest stretches are always drawn, and one in which somebody is asked, writes or has selected
 * something; everything is drawn once somebody searches the page or selects all of it.
 */

import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Item } from "../core/index.ts";
import { canWatch, isInUse, whenNear } from "./nearness.ts";
import { slices } from "./slices.ts";
import { estimated, isBrief } from "./stretches.ts";

/** How far out of sight a stretch is drawn already. */
const NEAR_PX = 1_500;

interface StretchProps {
  items: readonly Item[];
  scroller: RefObject<HTMLElement>;
  /** True if it is drawn wherever the reader is. */
  isHeld: boolean;
  /** What draws it now. */
  draw: RefObject<(items: readonly Item[]) => ComponentChildren>;
  /** Of those whose things are drawn, the first thing. */
  shown: Set<Item>;
}

export function Stretch({ items, scroller, isHeld, draw, shown }: StretchProps) {
  const box = useRef<HTMLDivElement>(null);
  const height = useRef<number | null>(null);
  const [isNear, setNear] = useState(isHeld || !canWatch);
  const isDrawn = isNear || isHeld;
  const [isSettled, setSettled] = useState(isDrawn);

  useEffect(() => {
    const element = box.current;
    if (!element || !scroller.current || !canWatch) return undefined;
    return whenNear(element, scroller.current, NEAR_PX, (isIn, tall, isSeen) => {
      if (!isIn && isInUse(element)) return;
      if (!isIn) height.current = tall;
      setNear(isIn);
      // All of it is there at once, of what is not admitted the plain text.
      if (isSeen && items.every(isBrief)) setSettled(true);
    });
  }, []);
  // What is in it is drawn slice by slice; until the last of it came, it keeps its height.
  useEffect(() => {
    if (!isDrawn) setSettled(false);
    else if (!isSettled) return slices.later(0, () => setSettled(true));
    return undefined;
  }, [isDrawn]);

  const first = items[0] as Item;
  if (isDrawn) shown.add(first);
  else shown.delete(first);
  useEffect(() => () => void shown.delete(first), [first]);
  const isFree = isDrawn && isSettled;
  const guess = useMemo(() => (isFree ? null : estimated(items)), [items, isFree]);
  const least = guess === null ? undefined : `${height.current ?? guess}px`;
  return (
    <div class="stretch" ref={box} data-drawn={isDrawn} style={least === undefined ? undefined : { minBlockSize: least }}>
      {isDrawn && draw.current?.(items)}
    </div>
  );
}
