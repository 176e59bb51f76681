/**
 * What is selected is copied as a whole, though only what is near the reader is drawn.
 *
 * Guarantees: what lies between the two ends of the selection is fetched and drawn before it is copied; if the browser
 * allows no copying that late, or something cannot be fetched, that is said and nothing is copied.
 */

import { batch } from "@preact/signals";
import { options } from "preact";
import type { Conversation } from "../core/index.ts";
import { allCame, isComing } from "./lazy.tsx";
import type { Page } from "./page.ts";
import { t } from "./preferences.ts";
import { isOnPaper, wholeId } from "./reveal.ts";

/** Boxes of what is not drawn, and the row that stands for what is not fetched. */
const UNDRAWN = ".scroller [data-drawn=false]";
const UNFETCHED = ".scroller .earlier";

/** True if what is selected is in a field. */
export function isWriting(): boolean {
  return document.activeElement?.matches("input, textarea, [contenteditable]") === true;
}

/** Draws all of a conversation, also what came since the last frame, before it returns: the browser waits for nothing. */
export function drawAll(page: Page, sessionId: string): void {
  const { debounceRendering } = options;
  options.debounceRendering = (draw) => draw();
  batch(() => {
    isOnPaper.value = true;
    wholeId.value = sessionId;
  });
  page.draw();
  if (debounceRendering) options.debounceRendering = debounceRendering;
  else delete options.debounceRendering;
}

/** To be called as something is copied, before the browser does it. */
export function copyWhole(event: ClipboardEvent, page: Page, { earlier, sessionId }: Conversation): void {
  if (isWriting() || getSelection()?.isCollapsed !== false) return;
  const isWhole = wholeId.value === sessionId;
  if (!isWhole && !isInSelection(UNDRAWN) && !isInSelection(UNFETCHED)) return;
  const isHere = earlier.count === 0 || !(isWhole || isInSelection(UNFETCHED));
  if (isHere) {
    drawAll(page, sessionId);
    setTimeout(() => (isOnPaper.value = false));
    if (!isComing()) return;
  }
  event.preventDefault();
  void Promise.all([isHere || earlier.all(), allCame()]).then(([areHere]) => {
    if (page.conversation.value.sessionId !== sessionId) return;
    if (!areHere) page.tellWhy(earlier.error);
    else if (!document.execCommand("copy")) page.tell(t("copyAgain"));
  });
}

function isInSelection(boxes: string): boolean {
  const selection = getSelection();
  return [...document.querySelectorAll(boxes)].some((box) => selection?.containsNode(box, true));
}
