/** Brings a place of the conversation before its reader: what is there is drawn, and then scrolled to. */

import { patternOf, placesIn } from "../core/index.ts";
import { type Revealed, revealed } from "./reveal.ts";
import { slices } from "./slices.ts";

/** What is around the place is drawn while it is scrolled to, so it is scrolled to again until it stays. */
const FRAMES_MOST = 90;
const FRAMES_STILL = 6;
const STILL_PX = 3;

/** The next frame, or soon if there is none. */
export const frame = (): Promise<void> =>
  new Promise((go) => {
    requestAnimationFrame(() => go());
    setTimeout(go, 100);
  });

/** The element of a thing of the conversation, if it is drawn. */
export function itemOf({ kind, id }: { kind: string; id: string }): HTMLElement | null {
  return document.querySelector<HTMLElement>(`[data-item="${CSS.escape(`${kind} ${id}`)}"]`);
}

/** Shows a place; of `words`, if there are any, the range that was found. Null if it did not come into sight. */
export async function show(place: Revealed, text: string, words: string): Promise<Range | null> {
  slices.hurry(() => {
    revealed.value = place;
    return false;
  });
  let still = 0;
  let found: Range | null = null;
  for (let count = 0; count < FRAMES_MOST && still < FRAMES_STILL; count += 1) {
    await frame();
    if (revealed.peek() !== place) return null;
    const element = elementOf(place);
    const box = element?.closest<HTMLElement>(".scroller");
    if (!element || !box) continue;
    found = words === "" ? null : rangeOf(element, place, text, words);
    const at = (found ?? element).getBoundingClientRect();
    const frameOf = box.getBoundingClientRect();
    const wanted = frameOf.top + Math.min(frameOf.height / 3, Math.max(16, (frameOf.height - at.height) / 2));
    const before = box.scrollTop;
    if (Math.abs(at.top - wanted) > STILL_PX) box.scrollTop += at.top - wanted;
    const isThere = Math.abs(box.scrollTop - before) <= STILL_PX && !element.querySelector(".meanwhile");
    still = isThere ? still + 1 : 0;
  }
  return found;
}

function elementOf(place: Revealed): HTMLElement | null {
  const item = itemOf(place);
  const sections = item?.querySelectorAll<HTMLElement>(".md-section") ?? [];
  for (const section of sections)
    if (Number(section.dataset["start"]) <= place.at && place.at < Number(section.dataset["end"])) return section;
  return sections.length > 0 ? null : item;
}

/** Where the words are drawn: as often as they are in the text before the place, but no further than they are drawn. */
function rangeOf(element: HTMLElement, { at }: Revealed, text: string, words: string): Range | null {
  const pattern = patternOf(words);
  const ranges = pattern === null ? [] : rangesIn(element, pattern);
  if (pattern === null || ranges.length === 0) return null;
  const before = placesIn(text, pattern, Number(element.dataset["start"] ?? 0), at).length;
  return ranges[Math.min(before, ranges.length - 1)] ?? null;
}

/** Where the pattern is in what is drawn. */
export function rangesIn(element: HTMLElement, pattern: RegExp): Range[] {
  const nodes: { node: Text; start: number }[] = [];
  let text = "";
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode as Text;
    if (node.parentElement?.closest("button, .sr-only, [hidden]")) continue;
    nodes.push({ node, start: text.length });
    text += node.data;
  }
  return Array.from(text.matchAll(pattern), (found) => {
    const range = document.createRange();
    const end = found.index + found[0].length;
    for (const { node, start } of nodes) {
      const isIn = (at: number): boolean => start <= at && at <= start + node.length;
      if (isIn(found.index) && found.index < start + node.length) range.setStart(node, found.index - start);
      if (isIn(end) && end > start) range.setEnd(node, end - start);
    }
    return range;
  });
}
