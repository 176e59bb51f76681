/**
 * Colours for code, made in a thread of their own.
 *
 * Guarantees: the page never waits for a grammar; one piece of code is coloured at a time, in order; what is not ready
 * within its deadline ends with its thread and stays without colours, and the next one gets a new thread.
 */

import { systemClock } from "../core/clock.ts";

/** Code longer than this is shown as it is: putting its colours on the page would hold it up. */
export const LENGTH_MOST = 30_000;
export const SPANS_MOST = 4_000;
const DEADLINE_MS = 1_500;
const WAITING_MOST = 200;

export interface Thread {
  ask(code: string, language: string, answer: (html: string | null) => void): void;
  end(): void;
}

interface Asked {
  code: string;
  language: string;
  answer(html: string | null): void;
}

export class Highlighter {
  readonly #start: () => Thread;
  readonly #after: (milliseconds: number, call: () => void) => () => void;
  readonly #deadline: number;
  #thread: Thread | null = null;
  #queue: Asked[] = [];
  #isBusy = false;

  constructor(start: () => Thread, after: (milliseconds: number, call: () => void) => () => void, deadline = DEADLINE_MS) {
    this.#start = start;
    this.#deadline = deadline;
    this.#after = after;
  }

  /** Escaped HTML with colours, or null. What is returned takes the question back. */
  colour(code: string, language: string, answer: (html: string | null) => void): () => void {
    const asked = { code, language, answer };
    if (code.length > LENGTH_MOST || this.#queue.length >= WAITING_MOST) {
      answer(null);
      return () => undefined;
    }
    this.#queue.push(asked);
    this.#next();
    return () => {
      asked.answer = () => undefined;
      this.#queue = this.#queue.filter((one) => one !== asked);
    };
  }

  #next(): void {
    const asked = this.#isBusy ? undefined : this.#queue.shift();
    if (!asked) return;
    this.#isBusy = true;
    let isOver = false;
    const over = (html: string | null): void => {
      if (isOver) return;
      isOver = true;
      cancel();
      this.#isBusy = false;
      asked.answer(html !== null && isFewSpans(html) ? html : null);
      this.#next();
    };
    const cancel = this.#after(this.#deadline, () => {
      this.#thread?.end();
      this.#thread = null;
      over(null);
    });
    this.#thread ??= this.#start();
    this.#thread.ask(asked.code, asked.language, over);
  }
}

function isFewSpans(html: string): boolean {
  let count = 0;
  for (let at = html.indexOf("<span"); at >= 0; at = html.indexOf("<span", at + 1)) {
    count += 1;
    if (count > SPANS_MOST) return false;
  }
  return true;
}

/** What asks a worker for one thing at a time. */
export function threadOf(start: () => Worker): Thread {
  if (typeof Worker === "undefined") return { ask: (_code, _language, answer) => answer(null), end: () => undefined };
  const worker = start();
  let give: (html: string | null) => void = () => undefined;
  worker.onmessage = (event: MessageEvent<string | null>) => give(event.data);
  worker.onerror = () => give(null);
  return {
    ask: (code, language, answer) => {
      give = answer;
      worker.postMessage({ code, language });
    },
    end: () => worker.terminate(),
  };
}

export const highlighter = new Highlighter(
  () => threadOf(() => new Worker(new URL("./highlight.worker.ts", import.meta.url), { type: "module" })),
  systemClock.after,
);
