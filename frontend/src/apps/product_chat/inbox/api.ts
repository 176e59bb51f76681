/** What the staff asks of the gateway. */

import { hearDate } from "../../../core/clock.ts";
import { SafeStorage } from "../client/sessions.ts";
import type { AdminChat, AdminChats, CannedAnswer, CannedAnswers, ChatAside, LoggedIn, MessagePage, MessageRow } from "../wire.ts";

const TOKEN = "agw_staff_token";
const NAME = "agw_staff_name";
const CHATS = "api/admin/chat/sessions";

/** So many chats come at once. */
export const CHATS_PAGE = 100;

export class NotLoggedIn extends Error {}

export class StaffApi {
  readonly #storage = new SafeStorage(() => sessionStorage);

  get token(): string | null {
    return this.#storage.getItem(TOKEN);
  }

  get name(): string {
    return this.#storage.getItem(NAME) ?? "Staff";
  }

  async logIn(username: string, password: string): Promise<void> {
    const answer = await this.#ask<LoggedIn>("POST", "api/login", { username, password });
    this.#storage.setItem(TOKEN, answer.access_token);
    this.#storage.setItem(NAME, username);
  }

  logOut(): void {
    this.#storage.removeItem(TOKEN);
  }

  /** A page of those in which somebody has said something. */
  async chats(status: string, search: string, offset = 0): Promise<AdminChat[]> {
    const query = new URLSearchParams({ limit: String(CHATS_PAGE), offset: String(offset), with_messages: "true" });
    if (status) query.set("status", status);
    if (search) query.set("search", search);
    return (await this.#ask<AdminChats>("GET", `${CHATS}?${query.toString()}`)).sessions;
  }

  aside(id: string): Promise<ChatAside> {
    return this.#ask("GET", `${CHATS}/${id}`);
  }

  async answers(): Promise<CannedAnswer[]> {
    return (await this.#ask<CannedAnswers>("GET", "api/admin/chat/answers")).answers;
  }

  async messages(id: string): Promise<MessageRow[]> {
    const page = await this.#ask<MessagePage>("GET", `${CHATS}/${id}/messages?limit=100&order=desc`);
    return page.messages.reverse();
  }

  respond(id: string, text: string): Promise<unknown> {
    return this.#ask("POST", `${CHATS}/${id}/respond`, { message_text: text });
  }

  setStatus(id: string, status: string): Promise<unknown> {
    return this.#ask("PUT", `${CHATS}/${id}/status?status=${status}`, {});
  }

  markRead(chat: AdminChat): Promise<unknown> {
    return this.#ask("PUT", `api/products/${chat.product_id}/chat/sessions/${chat.session_id}/messages/read`, { mark_all: true });
  }

  socketUrl(path: string): string {
    const url = new URL(path, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("admin_name", this.name);
    if (this.token) url.searchParams.set("token", this.token);
    return url.href;
  }

  async #ask<T>(method: string, path: string, body?: object): Promise<T> {
    const headers: Record<string, string> = body ? { "Content-Type": "application/json" } : {};
    if (this.token) headers["Authorization"] = `Bearer ${this.token}`;
    const request: RequestInit = { method, headers };
    if (body) request.body = JSON.stringify(body);
    const answer = await fetch(path, request);
    hearDate(answer.headers.get("Date"));
    const json = (await answer.json().catch(() => ({}))) as T & { detail?: string | { message: string } };
    const words = typeof json.detail === "string" ? json.detail : json.detail?.message;
    const isLogin = path === "api/login";
    if ((answer.status === 401 || answer.status === 403) && !isLogin) throw new NotLoggedIn(words);
    if (!answer.ok) throw new Error(words ?? `The gateway answered ${answer.status}.`);
    return json;
  }
}
