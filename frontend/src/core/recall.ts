/** What one has written before, to be written again. Pure. */

import type { Item } from "./events.ts";

/** One's own messages of a conversation, the newest first, each once where it stands several times in a row. */
export function written(items: readonly Item[]): string[] {
  const texts = items.flatMap((item) =>
    item.kind === "message" && item.sender === "user" && !item.author && item.text ? [item.text] : [],
  );
  return texts.filter((text, place) => text !== texts[place + 1]).reverse();
}
