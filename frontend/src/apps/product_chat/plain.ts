/** Puts a text of any length into an element, for pages without a framework. */

import { piecesOf } from "../../core/pieces.ts";

/** A long one in parts of the class `piece`, which a style sheet may keep from being laid out while out of sight. */
export function showText(element: HTMLElement, text: string): void {
  const pieces = piecesOf(text);
  if (pieces.length === 1) {
    element.textContent = text;
    return;
  }
  element.replaceChildren(
    ...pieces.map((piece) => {
      const part = document.createElement("span");
      part.className = "piece";
      part.textContent = piece;
      return part;
    }),
  );
}
