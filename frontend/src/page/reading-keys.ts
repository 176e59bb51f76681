/** Keys and events that concern the conversation as a whole: finding, selecting, printing, going to its beginning. */

import { batch } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Conversation } from "../core/index.ts";
import { copyWhole, drawAll, isWriting } from "./copying.ts";
import { usePage } from "./page.ts";
import { isFinding, isOnPaper, wholeId } from "./reveal.ts";
import { holdTyping } from "./typeahead.ts";

/** So many messages are fetched to be printed; the export has all. */
const PRINTED_MOST = 2_000;

/** By its letter, or by its place on a keyboard with other letters. */
function isKey(event: KeyboardEvent, letter: string): boolean {
  return event.key.toLowerCase() === letter || (!/^[a-z]$/i.test(event.key) && event.code === `Key${letter.toUpperCase()}`);
}

export function useReadingKeys(conversation: Conversation, toBeginning: () => void): void {
  const page = usePage();
  useEffect(() => {
    const { earlier, sessionId } = conversation;
    const drawWhole = (): void => {
      wholeId.value = sessionId;
      void earlier.all();
    };
    const onKey = (event: KeyboardEvent): void => {
      const isCommand = (event.ctrlKey || event.metaKey) && !event.altKey;
      if (isCommand && isKey(event, "f")) {
        // The second time it is the browser's own search that is wanted.
        if (isFinding.value) return drawWhole();
        event.preventDefault();
        isFinding.value = true;
        holdTyping(() => isFinding.peek());
      } else if (isCommand && isKey(event, "p") && !event.shiftKey && earlier.count > 0) {
        event.preventDefault();
        void earlier.upTo(Math.max(0, conversation.chat.nextNumber - PRINTED_MOST)).then(() => window.print());
      } else if (isCommand && isKey(event, "a") && !isWriting()) {
        drawWhole();
      } else if (event.key === "Home" && !event.shiftKey && !isWriting() && !document.querySelector("dialog[open]")) {
        event.preventDefault();
        void earlier.all().then(toBeginning);
      }
    };
    const onCopy = (event: ClipboardEvent): void => copyWhole(event, page, conversation);
    const before = (): void => drawAll(page, sessionId);
    const after = (): void =>
      batch(() => {
        isOnPaper.value = false;
        wholeId.value = null;
      });
    window.addEventListener("keydown", onKey);
    document.addEventListener("copy", onCopy);
    window.addEventListener("beforeprint", before);
    window.addEventListener("afterprint", after);
    return () => {
      window.removeEventListener("keydown", onKey);
      document.removeEventListener("copy", onCopy);
      window.removeEventListener("beforeprint", before);
      window.removeEventListener("afterprint", after);
      if (wholeId.peek() === sessionId) wholeId.value = null;
    };
  }, [conversation]);
}
