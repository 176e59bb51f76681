/**
 * A WebSocket that comes back: after 3 s, 6 s, 12 s … at most 30 s, with jitter, and behind the last `seq` that it
 * brought, so that nothing is lost and nothing comes twice. Closes that are meant (1000, 1001, 1003, 1007, 1008)
 * are final until `wake` is called, when the user does something or looks at the page again.
 */

import { systemClock, type Clock } from "../../../core/clock.ts";

export const FINAL_CODES: readonly number[] = [1000, 1001, 1003, 1007, 1008];
export const FIRST_DELAY = 3_000;
export const LONGEST_DELAY = 30_000;
const JITTER = 1_000;

export interface ProductFrame {
  type: string;
  seq?: number;
  [field: string]: unknown;
}

export type SocketState = "connecting" | "open" | "waiting" | "stopped";

export interface SocketLike {
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  readyState: number;
  send(text: string): void;
  close(code?: number): void;
}

export interface ProductSocketOptions {
  /** The address, made anew for each try: tokens change. */
  url: () => string;
  onFrame: (frame: ProductFrame) => void;
  onState?: (state: SocketState, code?: number) => void;
  open?: (url: string) => SocketLike;
  clock?: Clock;
}

export class ProductSocket {
  state: SocketState = "stopped";
  seq: number | null = null;
  #options: ProductSocketOptions;
  #clock: Clock;
  #socket: SocketLike | null = null;
  #tries = 0;
  #cancel: (() => void) | null = null;

  constructor(options: ProductSocketOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  start(): void {
    if (this.#socket || this.#cancel) return;
    this.#connect();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.close(1000);
    this.#enter("stopped");
  }

  /** Connects at once if there is no connection: the user is active. */
  wake(): void {
    if (this.#socket) return;
    this.#cancel?.();
    this.#cancel = null;
    this.#tries = 0;
    this.#connect();
  }

  /** Sends a frame if the socket is open; true if it was sent. */
  send(frame: ProductFrame): boolean {
    if (this.state !== "open" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #connect(): void {
    this.#enter("connecting");
    const url = new URL(this.#options.url());
    if (this.seq !== null) url.searchParams.set("after", String(this.seq));
    const socket = (this.#options.open ?? ((address) => new WebSocket(address)))(url.href);
    this.#socket = socket;
    socket.onopen = () => {
      if (this.#socket === socket) this.#enter("open");
    };
    socket.onmessage = (event) => {
      if (this.#socket === socket) this.#take(String(event.data));
    };
    socket.onclose = (event) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#closed(event.code);
    };
  }

  #take(text: string): void {
    let frame: ProductFrame;
    try {
      frame = JSON.parse(text) as ProductFrame;
    } catch {
      return;
    }
    this.#tries = 0;
    if (typeof frame.seq === "number") {
      if (this.seq !== null && frame.seq <= this.seq && frame.type !== "resync") return;
      this.seq = frame.seq;
    }
    this.#options.onFrame(frame);
  }

  #closed(code: number): void {
    if (FINAL_CODES.includes(code)) {
      this.#enter("stopped", code);
      return;
    }
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** Math.min(this.#tries, 8) + this.#clock.random() * JITTER);
    this.#tries += 1;
    this.#enter("waiting", code);
    this.#cancel = this.#clock.after(delay, () => {
      this.#cancel = null;
      this.#connect();
    });
  }

  #enter(state: SocketState, code?: number): void {
    this.state = state;
    this.#options.onState?.(state, code);
  }
}
