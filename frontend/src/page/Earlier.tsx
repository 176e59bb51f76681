/** The messages before those that are here: fetched as the reader comes near, with their place in sight kept. */

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { type ApiError, type Conversation, type EarlierMessages, wordsOf } from "../core/index.ts";
import { language, t } from "./preferences.ts";

/** Fetched when the reader is so near to the first one. */
const NEAR_PX = 2_500;

interface EarlierRowProps {
  earlier: EarlierMessages;
  count: number;
  isLoading: boolean;
  error: ApiError | null;
  scroller: RefObject<HTMLElement>;
}

/** Above the first message that is here; nothing once everything is. */
export function EarlierRow({ earlier, count, isLoading, error, scroller }: EarlierRowProps) {
  const row = useRef<HTMLDivElement>(null);
  const hasFailed = error !== null;
  useEffect(() => {
    if (count === 0 || hasFailed || !row.current || typeof IntersectionObserver === "undefined") return undefined;
    const observer = new IntersectionObserver(
      (entries) => entries.at(-1)?.isIntersecting && void earlier.more(),
      { root: scroller.current, rootMargin: `${NEAR_PX}px 0px` },
    );
    observer.observe(row.current);
    return () => observer.disconnect();
  }, [earlier, count, hasFailed]);
  if (count === 0) return null;
  const words = error ? wordsOf(error, language.value) : t("earlierCount", { n: count });
  return (
    <div class="earlier quiet" ref={row} data-testid="earlier" role={hasFailed ? "alert" : undefined}>
      <span dir="auto">{words}</span>{" "}
      <button type="button" class="link" disabled={isLoading} onClick={() => void earlier.more()}>
        {t(isLoading ? "earlierLoading" : hasFailed ? "retry" : "earlierShow")}
      </button>
    </div>
  );
}

/** Keeps what the reader sees where it is while earlier messages are put before it. To be called while drawing. */
export function useKeptPlace(conversation: Conversation, scroller: RefObject<HTMLElement>): void {
  const known = useRef({ conversation, count: conversation.earlier.count });
  const kept = useRef<{ element: Element; top: number } | null>(null);
  const count = conversation.earlier.count;
  const isPrepended = known.current.conversation === conversation && count < known.current.count;
  if (isPrepended && scroller.current) kept.current = firstInSight(scroller.current);
  known.current = { conversation, count };
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box && kept.current) box.scrollTop += kept.current.element.getBoundingClientRect().top - kept.current.top;
    kept.current = null;
  }, [count]);
}

function firstInSight(box: HTMLElement): { element: Element; top: number } | null {
  const edge = box.getBoundingClientRect().top;
  for (const stretch of box.querySelectorAll(".stretch")) {
    if (stretch.getBoundingClientRect().bottom <= edge) continue;
    const item = [...stretch.querySelectorAll(":scope > .item")].find((one) => one.getBoundingClientRect().bottom > edge);
    const element = item ?? stretch;
    return { element, top: element.getBoundingClientRect().top };
  }
  return null;
}
