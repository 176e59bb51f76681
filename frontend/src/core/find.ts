/**
 * Where words are in a conversation: the newest place first, and the earlier messages as they come.
 *
 * Guarantees: every place is found once, whether its message is here or has to be fetched; the search looks at a bounded
 * number of characters at a time and gives way between; it ends at PLACES_MOST places, when it is stopped, or when
 * earlier messages cannot be fetched.
 */

import type { EarlierMessages } from "./earlier.ts";
import type { Item } from "./events.ts";

export interface Found {
  kind: Item["kind"];
  id: string;
  /** The character of the item's text. */
  at: number;
}

export const PLACES_MOST = 5_000;
/** Characters that are looked at between two turns of something else. */
const AT_ONCE = 200_000;

/** The text of an item that a reader sees. */
export function textOf(item: Item): string {
  switch (item.kind) {
    case "message":
    case "notice":
      return item.text;
    case "tool_call":
    case "permission":
      return item.title ?? "";
    case "question":
      return item.message ?? "";
    case "plan":
      return item.entries.map((entry) => entry.content).join("\n");
    default:
      return "";
  }
}

/** Small and large letters alike; null for nothing. */
export function patternOf(words: string): RegExp | null {
  if (words.trim() === "") return null;
  return new RegExp(words.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&").replace(/\s+/g, "\\s+"), "gi");
}

/** Where the pattern is between two places of a text. */
export function placesIn(text: string, pattern: RegExp, from = 0, to = text.length): number[] {
  const part = from === 0 && to === text.length ? text : text.slice(from, to);
  return Array.from(part.matchAll(pattern), (found) => from + found.index);
}

export interface SearchConfig {
  words: string;
  items(): readonly Item[];
  earlier: EarlierMessages;
  /** Lets something else have its turn. */
  rest(): Promise<void>;
  changed(): void;
}

export class ConversationSearch {
  /** The newest first. */
  readonly found: Found[] = [];
  isDone = false;
  /** True if some of the conversation was not searched: it did not come, or there is too much. */
  isPart = false;
  #isStopped = false;
  readonly #config: SearchConfig;

  constructor(config: SearchConfig) {
    this.#config = config;
  }

  stop(): void {
    this.#isStopped = true;
  }

  async run(): Promise<void> {
    const { words, items, earlier, changed } = this.#config;
    const pattern = patternOf(words);
    const seen = new Set<string>();
    while (pattern !== null) {
      await this.#look(items(), pattern, words.length, seen);
      if (this.#isStopped) return;
      const isFull = this.found.length >= PLACES_MOST;
      if (isFull || earlier.count === 0) {
        this.isPart = isFull;
        break;
      }
      changed();
      if (await earlier.manyMore()) continue;
      this.isPart = true;
      break;
    }
    if (this.#isStopped) return;
    this.isDone = true;
    changed();
  }

  /** Looks at what was not looked at yet, from the end. */
  async #look(items: readonly Item[], pattern: RegExp, length: number, seen: Set<string>): Promise<void> {
    let looked = 0;
    for (let place = items.length - 1; place >= 0; place -= 1) {
      const item = items[place] as Item;
      const key = `${item.kind} ${item.id}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const text = textOf(item);
      for (let end = text.length; end > 0; end -= AT_ONCE) {
        const start = Math.max(0, end - AT_ONCE);
        // What reaches across the cut belongs to the part in which it begins.
        const places = placesIn(text, pattern, start, Math.min(text.length, end + 2 * length)).filter((at) => at < end);
        for (const at of places.reverse()) this.found.push({ kind: item.kind, id: item.id, at });
        looked += end - start;
        if (looked < AT_ONCE) continue;
        looked = 0;
        this.#config.changed();
        await this.#config.rest();
        if (this.#isStopped || this.found.length >= PLACES_MOST) return;
      }
    }
  }
}
