/** A reference to a footnote leads to the note in the same text, not to another address of the page. */

import { isNoteAddress } from "./markdown.ts";
import { NOTE_ADDRESS } from "../core/markdown/index.ts";

export function toNote(event: MouseEvent & { currentTarget: HTMLElement }): void {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  const address = link?.getAttribute("href") ?? "";
  if (!isNoteAddress(address)) return;
  event.preventDefault();
  const label = address.slice(NOTE_ADDRESS.length);
  const notes = [...event.currentTarget.querySelectorAll<HTMLElement>(".note")];
  const note = notes.find((one) => one.firstElementChild?.textContent === label);
  if (!note) return;
  note.tabIndex = -1;
  note.focus({ preventScroll: true });
  note.scrollIntoView({ block: "nearest" });
}
