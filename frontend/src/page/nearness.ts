/** Who is near what the reader sees: one observer for each scroller and distance. */

/** `isSeen`: it is in sight at once, and drawn before the next frame. */
type Call = (isNear: boolean, height: number, isSeen?: boolean) => void;

interface Watch {
  observer: IntersectionObserver;
  calls: Map<Element, Call>;
}

export const canWatch = typeof IntersectionObserver !== "undefined";

/** Of the height of what is seen. */
const LOOKED_AT = [0.01, 0.25, 0.5, 0.75, 0.99];

const watches = new WeakMap<Element, Map<number, Watch>>();

/** Calls when the element comes within so many pixels of what `scroller` shows, or leaves. What is returned ends that. */
export function whenNear(element: Element, scroller: Element, pixels: number, call: Call): () => void {
  const known = watches.get(scroller) ?? new Map<number, Watch>();
  watches.set(scroller, known);
  let watch = known.get(pixels);
  if (watch === undefined) {
    const calls = new Map<Element, Call>();
    const tell = (entries: IntersectionObserverEntry[]): void => {
      for (const entry of entries) calls.get(entry.target)?.(entry.isIntersecting, entry.boundingClientRect.height);
    };
    const observer = new IntersectionObserver(tell, { root: scroller, rootMargin: `${pixels}px 0px` });
    known.set(pixels, (watch = { observer, calls }));
  }
  const { observer, calls } = watch;
  calls.set(element, call);
  observer.observe(element);
  return () => {
    calls.delete(element);
    observer.unobserve(element);
  };
}

/**
 * Calls for what the reader sees now and is not drawn yet, before the next frame: a browser tells of it only behind that.
 * False if there is nothing.
 */
export function seeNow(scroller: Element): boolean {
  const box = scroller.getBoundingClientRect();
  const seen = new Set<Element>();
  for (const part of LOOKED_AT) {
    let at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height * part);
    for (; at !== null && at !== scroller; at = at.parentElement)
      if (at.matches('[data-drawn="false"]')) seen.add(at);
  }
  for (const one of seen)
    for (const { calls } of watches.get(scroller)?.values() ?? []) calls.get(one)?.(true, one.clientHeight, true);
  return seen.size > 0;
}

/** True if the reader writes in it, has selected something of it, or has opened a dialog of it. */
export function isInUse(element: HTMLElement): boolean {
  const selection = document.getSelection();
  const isSelected = selection !== null && !selection.isCollapsed && selection.containsNode(element, true);
  return isSelected || element.contains(document.activeElement) || element.querySelector("dialog[open]") !== null;
}
