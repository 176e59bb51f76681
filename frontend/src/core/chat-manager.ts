/**
 * ChatManager: one chat over the six verbs, for pages that bring their own look.
 *
 * It reads the unnamed stream of whole States (GET /api/chat/stream) and reports what changed to the handlers.
 * Guarantees: nothing is sent before `readiness.phase` is "ready"; after `stop()` no handler is called; methods that
 * ask the gateway never reject, they report to `onError`.
 */

import { Api } from "./api.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { Readiness, State, StateMessage } from "./events.ts";
import { newId } from "./ids.ts";
import { type KeyValue, lastingStorage } from "./storage.ts";
import { EventStream, type StreamStatus } from "./stream.ts";

export type ConnectionStatus = "connecting" | "connected" | "reconnecting" | "disconnected" | "error";

export interface ChatManagerConfig {
  backendUrl: string;
  sessionId?: string;
  maxMessageLength?: number;
  /** Attempts in a row without an answer before the manager gives up with an error. */
  reconnectAttempts?: number;
  /** Milliseconds before the first new attempt; doubled each time, with jitter. */
  reconnectDelay?: number;
  fetch?: typeof fetch;
  clock?: Clock;
  /** Keeps a visitor's token if the gateway is on another origin; by default localStorage, if the browser allows it. */
  storage?: KeyValue;
  /** Reads the stream with EventSource instead of fetch. */
  eventSource?: (url: string) => EventSourceLike;
}

export interface EventSourceLike {
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: { data: string }) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  close(): void;
}

export interface ChatManagerEventHandlers {
  onMessage(messages: StateMessage[]): void;
  onConnectionChange(status: ConnectionStatus): void;
  onError(error: Error): void;
  onTypingChange(isTyping: boolean): void;
  onProcessingChange(isProcessing: boolean): void;
  onReadinessChange(readiness: Readiness): void;
  onWalletTransactionRequest(transaction: string): void;
}

export interface ChatManagerState {
  sessionId: string;
  messages: StateMessage[];
  connectionStatus: ConnectionStatus;
  isTyping: boolean;
  isProcessing: boolean;
  readiness: Readiness;
  pendingWalletTx: string | null;
}

export const MAX_MESSAGE_LENGTH = 100_000;
const RECONNECT_ATTEMPTS = 10;
const RECONNECT_DELAY_MS = 500;
const NOT_READY: Readiness = { phase: "loading", detail: null };

interface Reader {
  start(): void;
  stop(): void;
}

export class ChatManager {
  readonly #config: ChatManagerConfig;
  readonly #api: Api;
  #handlers: Partial<ChatManagerEventHandlers>;
  #sessionId: string;
  #reader: Reader | null = null;
  #status: ConnectionStatus = "disconnected";
  #state: State | null = null;
  /** Messages before this one were cleared from view by `clearChat`. */
  #firstShown = 0;
  #waiting: (() => void)[] = [];

  constructor(config: ChatManagerConfig, eventHandlers: Partial<ChatManagerEventHandlers> = {}) {
    this.#config = config;
    this.#handlers = { ...eventHandlers };
    this.#sessionId = config.sessionId ?? newId();
    this.#api = new Api({
      baseUrl: config.backendUrl,
      storage: config.storage ?? lastingStorage(),
      ...(config.fetch && { fetch: config.fetch }),
    });
  }

  // -- connection ---------------------------------------------------------------------------------------------

  connect(): void {
    if (this.#reader) return;
    this.#setStatus("connecting");
    this.#reader = this.#config.eventSource ? this.#eventSource(this.#config.eventSource) : this.#stream();
    this.#reader.start();
  }

  disconnect(): void {
    this.#reader?.stop();
    this.#reader = null;
    this.#setStatus("disconnected");
  }

  stop(): void {
    this.#handlers = {};
    this.disconnect();
    this.#waiting = [];
  }

  // -- verbs --------------------------------------------------------------------------------------------------

  async sendMessage(text: string): Promise<void> {
    const message = text.trim();
    const most = this.#config.maxMessageLength ?? MAX_MESSAGE_LENGTH;
    if (!message) return this.#fail(new Error("The message is empty."));
    if (message.length > most) return this.#fail(new Error(`The message is longer than ${most} characters.`));
    if (!this.#reader) return this.#fail(new Error("Not connected: call connect() first."));
    const sessionId = this.#sessionId;
    await this.#ready();
    await this.#ask(() => this.#api.chat(sessionId, message));
  }

  interrupt(): Promise<void> {
    return this.#ask(() => this.#api.interrupt(this.#sessionId));
  }

  async sendNetworkSwitchRequest(networkName: string): Promise<void> {
    try {
      const args = { network: networkName };
      const answer = await this.#api.command(this.#sessionId, "set_network", args);
      if (!answer.success) this.#fail(new Error(answer.message));
    } catch (error) {
      this.#fail(error);
    }
  }

  sendTransactionResult(success: boolean, transactionHash?: string, error?: string): Promise<void> {
    const message = success
      ? `Transaction sent: ${transactionHash ?? ""}`.trim()
      : `Transaction rejected by user${error ? `: ${error}` : ""}`;
    return this.#ask(() => this.#api.system(this.#sessionId, message));
  }

  /** Hides the messages so far; the session keeps them. */
  clearChat(): void {
    this.#firstShown = this.#state?.messages.length ?? 0;
    this.#handlers.onMessage?.([]);
  }

  // -- reading ------------------------------------------------------------------------------------------------

  getState(): ChatManagerState {
    return {
      sessionId: this.#sessionId,
      messages: this.#shown(this.#state),
      connectionStatus: this.#status,
      isTyping: isTyping(this.#state),
      isProcessing: this.#state?.is_processing ?? false,
      readiness: this.#state?.readiness ?? NOT_READY,
      pendingWalletTx: this.#state?.pending_wallet_tx ?? null,
    };
  }

  getSessionId(): string {
    return this.#sessionId;
  }

  /** Changes to another session; a connection that is open is made anew for it. */
  setSessionId(sessionId: string): void {
    if (sessionId === this.#sessionId) return;
    const isConnected = this.#reader !== null;
    if (isConnected) this.disconnect();
    this.#sessionId = sessionId;
    this.#state = null;
    this.#firstShown = 0;
    if (isConnected) this.connect();
  }

  // -- inside -------------------------------------------------------------------------------------------------

  #stream(): Reader {
    const { clock, reconnectAttempts, reconnectDelay } = this.#config;
    const sessionId = this.#sessionId;
    return new EventStream({
      url: () => this.#api.streamUrl(sessionId),
      fetch: this.#api.fetch,
      repeatsIds: true,
      attempts: reconnectAttempts ?? RECONNECT_ATTEMPTS,
      backoffFirstMs: reconnectDelay ?? RECONNECT_DELAY_MS,
      onFrame: (frame) => this.#takeText(frame.data),
      onStatus: (status) => this.#streamChanged(status),
      ...(clock && { clock }),
    });
  }

  /** EventSource retries a broken connection by itself and gives up on a refused one; both look the same: an error. */
  #eventSource(open: (url: string) => EventSourceLike): Reader {
    const clock = this.#config.clock ?? systemClock;
    const url = (): string | Promise<string> => this.#api.eventSourceUrl(this.#sessionId);
    let isStopped = false;
    let source: EventSourceLike | null = null;
    let failures = 0;
    let cancelWait: (() => void) | null = null;
    const stop = (): void => {
      isStopped = true;
      cancelWait?.();
      source?.close();
      source = null;
    };
    const again = (): void => {
      stop();
      failures += 1;
      if (failures > (this.#config.reconnectAttempts ?? RECONNECT_ATTEMPTS)) return this.#gaveUp();
      this.#setStatus("reconnecting");
      const delay = (this.#config.reconnectDelay ?? RECONNECT_DELAY_MS) * 2 ** (failures - 1);
      cancelWait = clock.after(delay * (0.5 + clock.random() / 2), start);
    };
    const read = (address: string): void => {
      if (isStopped) return;
      source = open(address);
      source.onopen = () => this.#setStatus("connected");
      source.onmessage = (event) => {
        failures = 0;
        this.#setStatus("connected");
        this.#takeText(event.data);
      };
      source.onerror = again;
    };
    const start = (): void => {
      isStopped = false;
      const address = url();
      if (typeof address === "string") return read(address);
      address.then(read, () => !isStopped && again());
    };
    return { start, stop };
  }

  #streamChanged(status: StreamStatus): void {
    if (status === "open") this.#setStatus("connected");
    else if (status === "retrying") this.#setStatus("reconnecting");
    else if (status === "refused") this.#gaveUp();
    else if (status === "ended") this.disconnect();
  }

  #gaveUp(): void {
    this.#reader?.stop();
    this.#reader = null;
    this.#setStatus("error");
    this.#fail(new Error("The connection to the gateway was lost."));
  }

  #takeText(text: string): void {
    try {
      this.#take(JSON.parse(text) as State);
    } catch (error) {
      this.#fail(error);
    }
  }

  #take(state: State): void {
    const before = this.#state;
    if (before && before.seq > state.seq) return; // The answer to a POST that the stream has overtaken.
    if (before) this.#firstShown -= gone(before.messages.slice(0, this.#firstShown), state.messages);
    this.#state = state;
    const { onMessage, onTypingChange, onProcessingChange, onReadinessChange } = this.#handlers;
    if (!before || !isSame(before.messages, state.messages)) onMessage?.(this.#shown(state));
    if (!before || before.is_processing !== state.is_processing) onProcessingChange?.(state.is_processing);
    if (!before || isTyping(before) !== isTyping(state)) onTypingChange?.(isTyping(state));
    if (!before || !isSame(before.readiness, state.readiness)) onReadinessChange?.(state.readiness);
    const transaction = state.pending_wallet_tx;
    if (transaction !== null && transaction !== before?.pending_wallet_tx) {
      this.#handlers.onWalletTransactionRequest?.(transaction);
    }
    if (state.readiness.phase === "ready") for (const go of this.#waiting.splice(0)) go();
  }

  #ready(): Promise<void> {
    if (this.#state?.readiness.phase === "ready") return Promise.resolve();
    return new Promise((go) => this.#waiting.push(go));
  }

  async #ask(verb: () => Promise<State>): Promise<void> {
    const sessionId = this.#sessionId;
    try {
      const state = await verb();
      if (sessionId === this.#sessionId) this.#take(state);
    } catch (error) {
      this.#fail(error);
    }
  }

  #shown(state: State | null): StateMessage[] {
    return state?.messages.slice(this.#firstShown) ?? [];
  }

  #setStatus(status: ConnectionStatus): void {
    if (status === this.#status) return;
    this.#status = status;
    this.#handlers.onConnectionChange?.(status);
  }

  #fail(error: unknown): void {
    this.#handlers.onError?.(error instanceof Error ? error : new Error(String(error)));
  }
}

function isTyping(state: State | null): boolean {
  return state?.messages.some((message) => message.sender === "agent" && message.is_streaming) ?? false;
}

/** How many are no longer there: an empty answer goes when its turn is over. */
function gone(before: readonly StateMessage[], now: readonly StateMessage[]): number {
  const isThere = (one: StateMessage): boolean =>
    now.some((other) => other.sender === one.sender && other.timestamp === one.timestamp);
  return before.filter((one) => one.sender === "agent" && one.content.trim() === "" && !isThere(one)).length;
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
