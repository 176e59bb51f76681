/**
 * One visitor's chat about one product: history, live frames, and what is on its way. No DOM.
 *
 * Messages are sent by HTTP under a name of the client's, so that a lost answer costs a second try and never a second
 * message; they arrive by WebSocket, and once by their number whatever way they come.
 */

import { systemClock, type Clock } from "../../../core/clock.ts";
import { newId } from "../../../core/ids.ts";
import { ProductSocket, type ProductFrame, type ProductSocketOptions, type SocketState } from "./socket.ts";
import { ProductSessions } from "./sessions.ts";
import { Subscribable } from "../../../core/subscribable.ts";
import type { ChatPost, MessageRow, PersonWanted, WidgetSettings } from "../wire.ts";

export const TOKEN_KEY = "agw_visitor_token";
const UNREACHABLE = "The chat cannot be reached.";
const HISTORY = 100;
const TRIES = 3;
const TRY_AGAIN = 1_500;
const TYPING = 3_000;

export type Poster = ChatPost["sender_type"];

export interface ProductMessage {
  /** The number, or what this client calls a message that has none yet. */
  key: string;
  number: number | null;
  sender: Poster;
  name: string;
  text: string;
  at: string;
  state: "sending" | "sent" | "failed";
  error?: string;
}

export interface ProductChatOptions {
  /** Where the gateway is: https://chat.example */
  gateway: string;
  productId: number;
  sessions?: ProductSessions;
  clock?: Clock;
  fetch?: typeof fetch;
  open?: ProductSocketOptions["open"];
  /** The origin of the page; another one than the gateway's means a token instead of a cookie. */
  origin?: string;
}

export class ProductChat extends Subscribable {
  messages: ProductMessage[] = [];
  connection: SocketState = "stopped";
  typing: string | null = null;
  status = "active";
  person: string | null = null;
  /** Why there is no chat, in words. */
  trouble: string | null = null;
  readonly sessions: ProductSessions;
  #options: ProductChatOptions;
  #clock: Clock;
  #socket: ProductSocket;
  #sessionId = "";
  #stopTyping: (() => void) | null = null;
  #opening: Promise<void> | null = null;

  constructor(options: ProductChatOptions) {
    super();
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.sessions = options.sessions ?? new ProductSessions();
    this.#socket = new ProductSocket({
      url: () => this.#socketUrl(),
      clock: this.#clock,
      onFrame: (frame) => this.#take(frame),
      onState: (state) => this.#connected(state),
      ...(options.open ? { open: options.open } : {}),
    });
  }

  get sessionId(): string {
    return this.#sessionId;
  }

  get unread(): number {
    return this.messages.filter((message) => message.sender !== "customer" && !this.#isRead(message)).length;
  }

  /** Opens the chat, or the one that another tab opened. */
  open(): Promise<void> {
    return (this.#opening ??= this.#open().finally(() => (this.#opening = null)));
  }

  close(): void {
    this.#socket.stop();
  }

  /** True if this visitor has said something about this product before. */
  get isBegun(): boolean {
    return this.#sessionId !== "" || this.sessions.getProductSession(this.#options.productId).messageCount > 0;
  }

  /** Connects again if there is something to hear: who only looks leaves nothing at the gateway. */
  wake(): void {
    if (this.#sessionId) this.#socket.wake();
    else if (this.isBegun) void this.open();
  }

  /** How the shop greets, and whether somebody is there; null: it cannot be reached. */
  async settings(): Promise<WidgetSettings | null> {
    const { gateway, productId } = this.#options;
    try {
      const answer = await (this.#options.fetch ?? fetch)(`${gateway}/api/products/${productId}/chat`, { credentials: "omit" });
      return answer.ok ? ((await answer.json()) as WidgetSettings) : null;
    } catch {
      return null;
    }
  }

  /** Says that the visitor wants a person, in these words; what the shop answers, or null if it was not told. */
  async wantPerson(text: string): Promise<PersonWanted | null> {
    await this.send(text);
    if (!this.#sessionId) return null;
    try {
      return (await this.#post(`/${this.#sessionId}/person`, {})) as unknown as PersonWanted;
    } catch {
      return null;
    }
  }

  async send(text: string): Promise<void> {
    const key = newId();
    const at = new Date(this.#clock.now()).toISOString();
    this.messages = [...this.messages, { key, number: null, sender: "customer", name: "", text, at, state: "sending" }];
    this.changed();
    await this.retry(key);
  }

  /** Sends again what was not sent. */
  async retry(key: string): Promise<void> {
    const text = this.messages.find((message) => message.key === key)?.text;
    if (text === undefined) return;
    this.#change(key, { state: "sending" });
    try {
      await this.open();
      if (!this.#sessionId) throw new Refusal(0, this.trouble ?? UNREACHABLE);
      const answer = await this.#post(`/${this.#sessionId}/messages`, { message_text: text, client_id: key });
      const number = Number(answer["message_id"]);
      const isThere = this.messages.some((message) => message.number === number && message.key !== key);
      if (isThere) this.messages = this.messages.filter((message) => message.key !== key);
      else this.#change(key, { state: "sent", number });
      this.sessions.updateProductSession(this.#options.productId, { messageCount: this.messages.length });
    } catch (error) {
      this.#change(key, { state: "failed", error: wordsOf(error) });
    }
    this.#socket.wake();
    this.changed();
  }

  /** The visitor types: said at most every three seconds, and taken back when it stops. */
  typed(): void {
    if (this.#stopTyping === null) this.#socket.send({ type: "typing_indicator", is_typing: true });
    this.#stopTyping?.();
    this.#stopTyping = this.#clock.after(TYPING, () => {
      this.#stopTyping = null;
      this.#socket.send({ type: "typing_indicator", is_typing: false });
    });
  }

  /** The visitor has seen everything. */
  async markRead(): Promise<void> {
    const unread = this.messages.filter((message) => message.sender !== "customer" && !this.#isRead(message));
    if (unread.length === 0 || !this.#sessionId) return;
    for (const message of unread) if (message.number !== null) this.#read.add(message.number);
    this.changed();
    await this.#ask("PUT", `${this.#path}/${this.#sessionId}/messages/read`, { mark_all: true }).catch(() => undefined);
  }

  #read = new Set<number>();

  #isRead(message: ProductMessage): boolean {
    return message.number === null || this.#read.has(message.number);
  }

  get #path(): string {
    return `/api/products/${this.#options.productId}/chat/sessions`;
  }

  async #open(): Promise<void> {
    if (this.#sessionId) return;
    const { productId } = this.#options;
    this.sessions.migrateLegacyData(productId);
    let session = this.sessions.getProductSession(productId);
    const about = (): object => ({
      session_id: session.sessionId,
      product_id: productId,
      customer_name: session.customerName ?? null,
      customer_email: addressOf(session.customerEmail),
    });
    try {
      try {
        await this.#post("", about());
      } catch (error) {
        if (!(error instanceof Refusal) || error.status !== 409) throw error;
        session = this.sessions.renewProductSession(productId);
        await this.#post("", about());
      }
      this.#sessionId = session.sessionId;
      this.trouble = null;
      this.#socket.start();
    } catch (error) {
      this.trouble = wordsOf(error);
    }
    this.changed();
  }

  async #history(): Promise<void> {
    const rows = (await this.#ask("GET", `${this.#path}/${this.#sessionId}/messages?limit=${HISTORY}`)) as unknown as MessageRow[];
    for (const row of rows) {
      if (row.is_read) this.#read.add(row.id);
      this.#put({
        key: String(row.id), number: row.id, sender: row.sender_type as Poster, name: row.sender_name,
        text: row.message_text, at: row.created_at, state: "sent",
      });
    }
    this.changed();
  }

  #connected(state: SocketState): void {
    this.connection = state;
    if (state !== "open") this.typing = null;
    if (state === "open" && this.#socket.seq === null) void this.#history().catch(() => undefined);
    this.changed();
  }

  #take(frame: ProductFrame): void {
    switch (frame.type) {
      case "chat_message":
        this.#put({
          key: String(frame["message_id"]), number: Number(frame["message_id"]), sender: frame["sender_type"] as Poster,
          name: String(frame["sender_name"]), text: String(frame["message"]), at: String(frame["timestamp"]),
          state: "sent",
        });
        if (frame["sender_type"] !== "customer") this.typing = null;
        break;
      case "typing_indicator":
        if (frame["user_type"] !== "customer") this.typing = frame["is_typing"] ? String(frame["user_name"]) : null;
        break;
      case "session_status":
        this.status = String(frame["status"]);
        this.person = (frame["assigned_to"] as string | null) ?? null;
        break;
      case "message_read":
        if (frame["read_by_type"] === "customer") for (const id of frame["message_ids"] as number[]) this.#read.add(id);
        break;
      case "resync":
        void this.#history().catch(() => undefined);
        break;
      default:
        return;
    }
    this.changed();
  }

  /** Puts a message in its place by number; one that was on its way from here keeps its own. */
  #put(message: ProductMessage): void {
    if (this.messages.some((known) => known.number === message.number)) return;
    const mine = this.messages.find(
      (known) => known.number === null && known.state === "sending" && message.sender === "customer" && known.text === message.text,
    );
    if (mine) {
      this.#change(mine.key, { number: message.number, state: "sent", at: message.at });
      return;
    }
    const settled = this.messages.filter((known) => known.number !== null);
    const waiting = this.messages.filter((known) => known.number === null);
    settled.push(message);
    settled.sort((a, b) => (a.number ?? 0) - (b.number ?? 0));
    this.messages = [...settled, ...waiting];
  }

  #change(key: string, changes: Partial<ProductMessage>): void {
    this.messages = this.messages.map((message) => (message.key === key ? { ...message, ...changes } : message));
    this.changed();
  }

  // -- the wire -------------------------------------------------------------------------------------------------

  get #isForeign(): boolean {
    return (this.#options.origin ?? globalThis.location.origin) !== new URL(this.#options.gateway).origin;
  }

  #socketUrl(): string {
    const base = this.#options.gateway.replace(/^http/, "ws");
    const url = new URL(`${base}/ws/chat/customer/${this.#options.productId}/${this.#sessionId}`);
    const name = this.sessions.read().userPreferences.name;
    if (name) url.searchParams.set("customer_name", name);
    const token = this.sessions.storage.getItem(TOKEN_KEY);
    if (this.#isForeign && token) url.searchParams.set("visitor", token);
    return url.href;
  }

  async #post(rest: string, body: object): Promise<Record<string, unknown>> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#ask("POST", this.#path + rest, body);
      } catch (error) {
        const isWorthIt = !(error instanceof Refusal) || error.status >= 500;
        if (!isWorthIt || tries >= TRIES) throw error;
        await new Promise<void>((done) => this.#clock.after(TRY_AGAIN * tries, done));
      }
    }
  }

  async #ask(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
    const headers: Record<string, string> = body ? { "Content-Type": "application/json" } : {};
    const token = this.sessions.storage.getItem(TOKEN_KEY);
    if (this.#isForeign && token) headers["Authorization"] = `Bearer ${token}`;
    const request: RequestInit = { method, headers, credentials: this.#isForeign ? "omit" : "same-origin" };
    if (body) request.body = JSON.stringify(body);
    const answer = await (this.#options.fetch ?? fetch)(this.#options.gateway + path, request);
    const given = answer.headers.get("X-Visitor-Token");
    if (given && this.#isForeign) this.sessions.storage.setItem(TOKEN_KEY, given);
    const json = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
    if (answer.status === 401 && token && this.#isForeign) {
      // Too old, or of another site: the next request is a new visitor's.
      this.sessions.storage.removeItem(TOKEN_KEY);
    }
    if (!answer.ok) throw new Refusal(answer.status, detailOf(json) ?? `The gateway answered ${answer.status}.`);
    return json;
  }
}

export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

function detailOf(json: Record<string, unknown>): string | null {
  const detail = json["detail"] as string | { message?: string } | undefined;
  if (typeof detail === "string") return detail;
  const error = json["error"] as { message?: string } | undefined;
  return detail?.message ?? error?.message ?? null;
}

function wordsOf(error: unknown): string {
  return error instanceof Refusal ? error.message : UNREACHABLE;
}

/** An e-mail address as the gateway takes it; one that is none must not cost a visitor the chat. */
function addressOf(text: unknown): string | null {
  return typeof text === "string" && text.length <= 254 && /^[^\s@<>"'&]+@[^\s@<>"'&]+\.[^\s@<>"'&]+$/.test(text) ? text : null;
}
