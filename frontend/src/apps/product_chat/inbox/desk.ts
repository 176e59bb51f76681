/** What the staff sees: the chats, the one that is open, and what is beside it. No DOM. */

import { Subscribable } from "../../../core/subscribable.ts";
import { ProductSocket, type ProductFrame } from "../client/socket.ts";
import type { AdminChat, CannedAnswer, ChatAside, MessageRow } from "../wire.ts";
import { CHATS_PAGE, NotLoggedIn, type StaffApi } from "./api.ts";

export const VIEWS = ["all", "waiting", "urgent", "mine", "active", "pending", "in_progress", "resolved", "closed"] as const;
export type InboxView = (typeof VIEWS)[number];
const STATUSES: readonly string[] = ["active", "pending", "in_progress", "resolved", "closed"];
const OVER: readonly string[] = ["resolved", "closed"];

export class StaffDesk extends Subscribable {
  chats: AdminChat[] = [];
  /** There are more chats of this status, or with these words. */
  hasMore = false;
  view: InboxView = "all";
  search = "";
  current: AdminChat | null = null;
  messages: MessageRow[] = [];
  aside: ChatAside | null = null;
  answers: CannedAnswer[] = [];
  typing: string | null = null;
  note = "";
  isOnline = true;
  /** A visitor wrote. */
  onNews: () => void = () => undefined;
  onLoggedOut: () => void = () => undefined;
  readonly api: StaffApi;
  #board: ProductSocket;
  #room: ProductSocket | null = null;
  #asked = 0;
  /** So many pages of chats are shown. */
  #pages = 1;

  constructor(api: StaffApi) {
    super();
    this.api = api;
    this.#board = new ProductSocket({
      url: () => api.socketUrl("ws/chat/admin/inbox"),
      onFrame: (frame) => this.#hear(frame),
      onState: (state) => {
        this.isOnline = state === "open" || state === "connecting";
        if (state === "open") void this.refresh();
        this.changed();
      },
    });
  }

  /** The chats of the view, urgent and unread ones first. */
  get shown(): AdminChat[] {
    const isShown = (chat: AdminChat): boolean => {
      if (this.view === "waiting") return chat.waiting_since !== null && !OVER.includes(chat.status);
      if (this.view === "urgent") return chat.priority === "urgent";
      if (this.view === "mine") return chat.assigned_to === this.api.name;
      return true;
    };
    return this.chats.filter(isShown).sort((a, b) => rank(b) - rank(a) || timeOf(b) - timeOf(a));
  }

  get waitingCount(): number {
    return this.chats.filter((chat) => chat.unread_count > 0 && !OVER.includes(chat.status)).length;
  }

  async begin(): Promise<void> {
    await this.#fetchChats();
    this.answers = await this.api.answers().catch(() => []);
    this.#board.start();
    this.changed();
  }

  end(): void {
    this.#board.stop();
    this.leave();
  }

  wake(): void {
    this.#board.wake();
    this.#room?.wake();
  }

  show(view: InboxView): Promise<void> {
    this.view = view;
    this.#pages = 1;
    return this.refresh();
  }

  find(search: string): Promise<void> {
    this.search = search;
    this.#pages = 1;
    return this.refresh();
  }

  /** Shows another page of the list. */
  more(): Promise<void> {
    this.#pages += 1;
    return this.refresh();
  }

  async refresh(): Promise<void> {
    await this.#guarded(() => this.#fetchChats());
  }

  /** All pages that are shown; a chat that moved from one to another meanwhile is there once. */
  async #fetchChats(): Promise<void> {
    const mine = (this.#asked += 1);
    const status = STATUSES.includes(this.view) ? this.view : "";
    const found = new Map<string, AdminChat>();
    let isFull = true;
    for (let page = 0; isFull && page < this.#pages; page += 1) {
      const chats = await this.api.chats(status, this.search, page * CHATS_PAGE);
      if (mine !== this.#asked) return;
      for (const chat of chats) found.set(chat.session_id, chat);
      isFull = chats.length === CHATS_PAGE;
    }
    this.chats = [...found.values()];
    this.hasMore = isFull;
    this.current = found.get(this.current?.session_id ?? "") ?? this.current;
  }

  async choose(chat: AdminChat): Promise<void> {
    this.leave();
    this.current = chat;
    this.#room = new ProductSocket({
      url: () => this.api.socketUrl(`ws/chat/session/${chat.session_id}`),
      onFrame: (frame) => this.#hearRoom(chat, frame),
      onState: (state) => {
        if (state === "open") void this.#read(chat);
      },
    });
    this.#room.start();
    this.changed();
    await this.#read(chat);
    await this.#guarded(async () => {
      const aside = await this.api.aside(chat.session_id);
      if (this.#isOpen(chat)) this.aside = aside;
    });
  }

  /** Shows no chat. */
  leave(): void {
    this.#room?.stop();
    this.#room = null;
    this.current = this.aside = this.typing = null;
    this.messages = [];
    this.note = "";
    this.changed();
  }

  /** True if the answer was taken; else it says why, and the text is still the writer's. */
  async respond(text: string): Promise<boolean> {
    const chat = this.current;
    if (!chat) return false;
    const isSaid = await this.#guarded(() => this.api.respond(chat.session_id, text));
    await this.refresh();
    return isSaid;
  }

  async setStatus(status: string): Promise<void> {
    const chat = this.current;
    if (chat) await this.#guarded(() => this.api.setStatus(chat.session_id, status));
    await this.refresh();
  }

  typed(isTyping: boolean): void {
    this.#room?.send({ type: "typing_indicator", is_typing: isTyping });
  }

  #hear(frame: ProductFrame): void {
    if (frame.type === "new_customer_message") this.onNews();
    if (["new_customer_message", "session_status", "resync"].includes(frame.type)) void this.refresh();
  }

  #hearRoom(chat: AdminChat, frame: ProductFrame): void {
    if (frame.type === "typing_indicator") {
      this.typing = frame["is_typing"] ? String(frame["user_name"]) : null;
      this.changed();
    }
    if (["chat_message", "resync"].includes(frame.type)) void this.#read(chat);
  }

  async #read(chat: AdminChat): Promise<void> {
    await this.#guarded(async () => {
      const messages = await this.api.messages(chat.session_id);
      if (!this.#isOpen(chat)) return;
      this.messages = messages;
      this.changed();
      await this.api.markRead(chat);
      if (this.current && this.current.unread_count > 0) await this.refresh();
    });
  }

  #isOpen(chat: AdminChat): boolean {
    return this.current?.session_id === chat.session_id;
  }

  async #guarded(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      this.note = "";
      return true;
    } catch (error) {
      if (error instanceof NotLoggedIn) this.onLoggedOut();
      else this.note = error instanceof Error ? error.message : String(error);
      return false;
    } finally {
      this.changed();
    }
  }
}

function rank(chat: AdminChat): number {
  const isOver = OVER.includes(chat.status);
  return (isOver ? 0 : 8) + (chat.priority === "urgent" ? 4 : 0) + (chat.unread_count > 0 ? 2 : 0) + (chat.waiting_since !== null ? 1 : 0);
}

function timeOf(chat: AdminChat): number {
  return Date.parse(chat.last_message_at ?? chat.created_at);
}
