/** A clock that moves by hand and a server that answers by hand. */

import type { Clock, Visibility } from "../src/core/clock.ts";

export class FakeClock implements Clock {
  time = 0;
  /** The machine's clock was set: it is so far ahead of the time that passes. */
  ahead = 0;
  #due: { at: number; call: () => void }[] = [];

  now(): number {
    return this.time + this.ahead;
  }

  random(): number {
    return 1;
  }

  after(milliseconds: number, call: () => void): () => void {
    const one = { at: this.time + milliseconds, call };
    this.#due.push(one);
    return () => {
      this.#due = this.#due.filter((other) => other !== one);
    };
  }

  /** Moves the time on and lets everything that is due happen, in order. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.time + milliseconds;
    for (;;) {
      const next = this.#due.filter((one) => one.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#due = this.#due.filter((one) => one !== next);
      this.time = next.at;
      next.call();
      await settled();
    }
    this.time = end;
    await settled();
  }
}

export class FakeVisibility implements Visibility {
  #hidden = false;
  #calls = new Set<() => void>();

  isHidden(): boolean {
    return this.#hidden;
  }

  onChange(call: () => void): () => void {
    this.#calls.add(call);
    return () => this.#calls.delete(call);
  }

  set(hidden: boolean): void {
    this.#hidden = hidden;
    for (const call of this.#calls) call();
  }
}

export interface Request {
  url: URL;
  method: string;
  headers: Headers;
  body: unknown;
}

/** A stream that is written to by hand. */
export class Wire {
  readonly response: Response;
  isClosed = false;
  #controller!: ReadableStreamDefaultController<Uint8Array>;

  constructor(signal: AbortSignal | null | undefined) {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.isClosed = true;
      },
    });
    signal?.addEventListener("abort", () => {
      if (this.isClosed) return;
      this.isClosed = true;
      this.#controller.error(new DOMException("aborted", "AbortError"));
    });
    this.response = new Response(body, { status: 200, headers: { "Content-Type": "text/event-stream" } });
  }

  async write(text: string): Promise<void> {
    this.#controller.enqueue(new TextEncoder().encode(text));
    await settled();
  }

  async event(fields: { seq: number; type: string } & Record<string, unknown>): Promise<void> {
    await this.write(
      `id: ${fields.seq}\nevent: ${fields.type}\ndata: ${JSON.stringify({ at: "2026-01-31T09:30:00.000Z", ...fields })}\n\n`,
    );
  }

  async state(state: unknown): Promise<void> {
    await this.write(`data: ${JSON.stringify(state)}\n\n`);
  }

  async end(): Promise<void> {
    this.isClosed = true;
    this.#controller.close();
    await settled();
  }
}

type Answer = (request: Request) => Response | Promise<Response>;

/** `fetch` whose streams are Wires and whose other answers come from a table of `METHOD /path`. */
export class FakeServer {
  readonly requests: Request[] = [];
  readonly wires: Wire[] = [];
  /** Taken before a stream is opened: a status, or an unreachable network. */
  readonly refusals: (Response | Error)[] = [];
  readonly answers: Record<string, Answer> = {};

  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(String(input), "http://gateway");
    const method = init?.method ?? "GET";
    const body = typeof init?.body === "string" ? JSON.parse(init.body) : undefined;
    const request = { url, method, headers: new Headers(init?.headers), body };
    this.requests.push(request);
    if (url.pathname === "/api/chat/stream") return this.#stream(init?.signal);
    const answer = this.answers[`${method} ${url.pathname}`];
    if (!answer) throw new TypeError("Failed to fetch");
    return answer(request);
  };

  #stream(signal: AbortSignal | null | undefined): Response {
    const refusal = this.refusals.shift();
    if (refusal instanceof Error) throw refusal;
    if (refusal) return refusal;
    const wire = new Wire(signal);
    this.wires.push(wire);
    return wire.response;
  }

  get wire(): Wire {
    const last = this.wires.at(-1);
    if (!last) throw new Error("No stream was opened.");
    return last;
  }

  calls(path: string): Request[] {
    return this.requests.filter((request) => request.url.pathname === path);
  }
}

export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), {
    status,
    headers: { "Content-Type": "application/json", ...headers },
  });
}

/** Lets everything that is ready to go on do so. */
export async function settled(): Promise<void> {
  await new Promise<void>((go) => setImmediate(go));
  await new Promise<void>((go) => setImmediate(go));
}

export function stateOf(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    session_id: "s",
    seq: 1,
    messages: [],
    is_processing: false,
    is_loading: false,
    is_connecting_mcp: false,
    missing_api_key: false,
    readiness: { phase: "ready", detail: null },
    pending_wallet_tx: null,
    pending_permission: null,
    questions: [],
    options: {},
    queued: 0,
    start_position: null,
    ended: null,
    ...fields,
  };
}
