/** What the cards share that wait for an answer. */

import { useEffect, useRef } from "preact/hooks";
import { usePage } from "./page.ts";

/** The card's element. When it begins to wait, and may be answered here, its words are said and it gets the keyboard. */
export function useAsking(isOpen: boolean, isAnswerable: boolean, words: string) {
  const page = usePage();
  const box = useRef<HTMLElement>(null);
  useEffect(() => {
    if (!isOpen || !isAnswerable) return;
    page.say(words);
    // Somebody who is writing keeps the keyboard; the announcement tells them.
    const field = document.activeElement;
    const isWriting = field instanceof HTMLTextAreaElement && field.value !== "";
    if (!isWriting) box.current?.focus({ preventScroll: true });
  }, [isOpen]);
  return box;
}

/** Gives the keyboard back to the message that is written. */
export function toComposer(): void {
  document.querySelector<HTMLElement>("[data-testid=composer]")?.focus({ preventScroll: true });
}
