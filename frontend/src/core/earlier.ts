/**
 * The earlier part of a conversation of which only the last messages came: fetched a page at a time, from the newest.
 *
 * Guarantees: one page at a time, in order, so that there is never a hole; a page that comes after the conversation
 * began anew is dropped; a page that cannot be fetched changes nothing and is asked for again at the next wish.
 */

import { ApiError } from "./errors.ts";
import type { Item } from "./events.ts";
import type { ChatState } from "./reduce.ts";
import type { HistoryPage } from "./wire.ts";

/**
 * Messages of a page: what a reader who scrolls up meets, and what is fetched at once for one who goes far: as many as a
 * slow phone takes in within a tenth of a second.
 */
export const PAGE = 100;
export const PAGE_MOST = 400;

export interface EarlierConfig {
  fetch(before: number, last: number): Promise<HistoryPage>;
  chat(): ChatState;
  changed(): void;
}

export class EarlierMessages {
  isLoading = false;
  /** Why the last page did not come; null once one did. */
  error: ApiError | null = null;
  readonly #config: EarlierConfig;
  #page: Promise<boolean> | null = null;

  constructor(config: EarlierConfig) {
    this.#config = config;
  }

  /** How many messages come before those that are here. */
  get count(): number {
    return this.#config.chat().earlier;
  }

  /** Fetches the next page. False if there is none, or it did not come. */
  more(last: number = PAGE): Promise<boolean> {
    if (this.count === 0) return Promise.resolve(false);
    this.#page ??= this.#fetch(last).finally(() => {
      this.#page = null;
    });
    return this.#page;
  }

  /** Fetches a page as large as they get, for one who looks far back. */
  manyMore(): Promise<boolean> {
    return this.more(PAGE_MOST);
  }

  /** Fetches until the message of this number is here. False if it did not come. */
  async upTo(number: number): Promise<boolean> {
    while (this.count > number) {
      const isHere = await this.more(Math.min(PAGE_MOST, Math.max(PAGE, this.count - number)));
      if (!isHere) return false;
    }
    return true;
  }

  /** Fetches everything. */
  all(): Promise<boolean> {
    return this.upTo(0);
  }

  async #fetch(last: number): Promise<boolean> {
    const { chat, changed, fetch } = this.#config;
    const before = chat();
    const from = before.earlier;
    this.isLoading = true;
    changed();
    try {
      const page = await fetch(from, last);
      // If it began anew meanwhile, the next page is asked for from there.
      if (chat() === before && before.earlier === from) before.prepend(page.items as unknown as Item[], page.earlier);
      this.error = null;
      return true;
    } catch (error) {
      this.error = error instanceof ApiError ? error : new ApiError(0, "failed", String(error));
      return false;
    } finally {
      this.isLoading = false;
      changed();
    }
  }
}
