/**
 * A server-sent event stream that stays: read with fetch, parsed by eventsource-parser, resumed by cursor.
 *
 * Guarantees:
 * - an event whose id is not above the cursor is never handed on twice; after a break reading resumes behind it;
 * - any byte is a sign of life, heartbeat comments included; without one for `SILENCE_MS` the connection is made anew;
 * - reconnecting backs off exponentially with jitter, starts over after the first event, and obeys `Retry-After`;
 * - 204 means that the session has ended for good: status `ended`, no further connection;
 * - while the page is hidden there is no connection; when it shows again reading resumes;
 * - after `stop()` no handler is called.
 */

import { createParser, type EventSourceMessage } from "eventsource-parser";
import { alwaysVisible, type Clock, systemClock, type Visibility } from "./clock.ts";

/** Heartbeats come every 10 s; two may be lost. */
export const SILENCE_MS = 25_000;
/** A glance at another tab is not worth a new connection. */
export const HIDDEN_GRACE_MS = 2_000;
export const BACKOFF_FIRST_MS = 500;
export const BACKOFF_MOST_MS = 15_000;

/**
 * `connecting` the first attempt · `open` · `retrying` after a break · `paused` while the page is hidden ·
 * `ended` by 204 · `refused` by a status that no retry changes · `stopped`.
 */
export type StreamStatus = "connecting" | "open" | "retrying" | "paused" | "ended" | "refused" | "stopped";

export interface StreamDetail {
  /** HTTP status of a refusal. */
  status?: number;
  /** When the next attempt is due, in milliseconds from now. */
  retryInMs?: number;
}

export interface StreamFrame {
  /** The frame's id as a number; 0 if it has none. */
  seq: number;
  event: string;
  data: string;
}

export interface StreamConfig {
  /** The address to read from, given the cursor. */
  url(after: number): string;
  onFrame(frame: StreamFrame): void;
  onStatus?(status: StreamStatus, detail: StreamDetail): void;
  after?: number;
  /** True if ids may repeat, because each frame is a whole state and not an event of a log. */
  repeatsIds?: boolean;
  fetch?: typeof fetch;
  clock?: Clock;
  visibility?: Visibility;
  headers?(): Record<string, string>;
  /** Attempts in a row without an event before the stream gives up (`refused`); endless by default. */
  attempts?: number;
  backoffFirstMs?: number;
}

const LASTING = new Set([400, 401, 403, 404, 405, 410, 415, 422]);

export class EventStream {
  cursor: number;
  status: StreamStatus = "stopped";

  readonly #config: StreamConfig;
  readonly #clock: Clock;
  readonly #fetch: typeof fetch;
  readonly #visibility: Visibility;
  #abort: AbortController | null = null;
  #cancelTimer: (() => void) | null = null;
  #cancelWatchdog: (() => void) | null = null;
  #cancelVisibility: (() => void) | null = null;
  #failures = 0;
  #serverRetryMs: number | null = null;
  #lastByteAt = 0;

  constructor(config: StreamConfig) {
    this.#config = config;
    this.#clock = config.clock ?? systemClock;
    this.#fetch = config.fetch ?? globalThis.fetch.bind(globalThis);
    this.#visibility = config.visibility ?? alwaysVisible;
    this.cursor = config.after ?? 0;
  }

  start(): void {
    if (this.status !== "stopped" && this.status !== "ended" && this.status !== "refused") return;
    this.#cancelVisibility?.();
    this.#cancelVisibility = this.#visibility.onChange(() => this.#visibilityChanged());
    this.#failures = 0;
    this.#connect("connecting");
  }

  stop(): void {
    this.#set("stopped");
    this.#cancelVisibility?.();
    this.#cancelVisibility = null;
    this.#disconnect();
  }

  /** Connects at once, however long the wait was to be. */
  retryNow(): void {
    if (this.status === "open" || this.status === "stopped") return;
    this.#failures = 0;
    this.#connect("retrying");
  }

  // -- one connection -----------------------------------------------------------------------------------------

  #connect(status: "connecting" | "retrying"): void {
    this.#disconnect();
    if (this.#visibility.isHidden()) return this.#set("paused");
    this.#set(status);
    const abort = new AbortController();
    this.#abort = abort;
    this.#watch(abort);
    void this.#read(abort).then(
      () => this.#broke(abort),
      () => this.#broke(abort),
    );
  }

  async #read(abort: AbortController): Promise<void> {
    const response = await this.#fetch(this.#config.url(this.cursor), {
      headers: { Accept: "text/event-stream", ...this.#config.headers?.() },
      cache: "no-store",
      signal: abort.signal,
    });
    if (this.#abort !== abort) return;
    if (response.status === 204) return this.#finish("ended", { status: 204 });
    if (!response.ok || !response.body) {
      void response.body?.cancel().catch(() => undefined);
      if (LASTING.has(response.status)) return this.#finish("refused", { status: response.status });
      this.#serverRetryMs = retryAfterMs(response.headers.get("Retry-After"));
      throw new Error(`The stream answered ${response.status}.`);
    }
    this.#set("open");
    await this.#pump(response.body, abort);
  }

  async #pump(body: ReadableStream<Uint8Array>, abort: AbortController): Promise<void> {
    const parser = createParser({ onEvent: (event) => this.#take(event, abort) });
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.#abort !== abort) return;
      this.#lastByteAt = this.#clock.now();
      parser.feed(decoder.decode(value, { stream: true }));
    }
  }

  #take(event: EventSourceMessage, abort: AbortController): void {
    if (this.#abort !== abort) return;
    this.#failures = 0;
    const seq = Number(event.id ?? 0) || 0;
    const isResync = event.event === "resync";
    if (seq > 0 && seq <= this.cursor && !isResync && !this.#config.repeatsIds) return;
    if (seq > 0) this.cursor = seq;
    this.#config.onFrame({ seq, event: event.event ?? "message", data: event.data });
  }

  /** The connection is over without our doing: wait, then resume. */
  #broke(abort: AbortController): void {
    if (this.#abort !== abort || this.status === "stopped" || this.status === "ended" || this.status === "refused")
      return;
    this.#disconnect();
    this.#failures += 1;
    if (this.#failures > (this.#config.attempts ?? Infinity)) return this.#finish("refused", {});
    const wait = this.#serverRetryMs ?? this.#backoff();
    this.#serverRetryMs = null;
    this.#set("retrying", { retryInMs: wait });
    this.#cancelTimer = this.#clock.after(wait, () => this.#connect("retrying"));
  }

  #backoff(): number {
    const first = this.#config.backoffFirstMs ?? BACKOFF_FIRST_MS;
    const most = Math.min(BACKOFF_MOST_MS, first * 2 ** (this.#failures - 1));
    return most / 2 + (most / 2) * this.#clock.random();
  }

  #finish(status: "ended" | "refused", detail: StreamDetail): void {
    this.#disconnect();
    this.#set(status, detail);
  }

  #disconnect(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#cancelWatchdog?.();
    this.#cancelWatchdog = null;
    const abort = this.#abort;
    this.#abort = null;
    abort?.abort();
  }

  #watch(abort: AbortController): void {
    this.#lastByteAt = this.#clock.now();
    const look = (): void => {
      if (this.#abort !== abort) return;
      const silent = this.#clock.now() - this.#lastByteAt;
      const left = silent < 0 ? 0 : SILENCE_MS - silent; // a clock that was set back tells nothing
      if (left > 0) this.#cancelWatchdog = this.#clock.after(left, look);
      else this.#broke(abort);
    };
    this.#cancelWatchdog = this.#clock.after(SILENCE_MS, look);
  }

  #visibilityChanged(): void {
    if (this.status === "ended" || this.status === "refused" || this.status === "stopped") return;
    if (!this.#visibility.isHidden()) {
      if (this.status === "paused") {
        this.#failures = 0;
        this.#connect("connecting");
      }
      return;
    }
    const cancelRetry = this.#cancelTimer;
    cancelRetry?.();
    this.#cancelTimer = this.#clock.after(HIDDEN_GRACE_MS, () => {
      if (!this.#visibility.isHidden()) {
        if (this.#abort === null) this.#connect("retrying");
        return;
      }
      this.#disconnect();
      this.#set("paused");
    });
  }

  #set(status: StreamStatus, detail: StreamDetail = {}): void {
    const isSame = this.status === status && status !== "retrying";
    if (isSame) return;
    this.status = status;
    if (status !== "stopped") this.#config.onStatus?.(status, detail);
  }
}

/** `Retry-After` in seconds → milliseconds, at most so many; a date or nothing is null. */
export function retryAfterMs(header: string | null, most = 60_000): number | null {
  const seconds = header === null ? Number.NaN : Number(header);
  return Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds * 1000, most) : null;
}
