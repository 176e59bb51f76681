/** What the staff asks of the gateway. */

export interface Chat {
  session_id: string;
  product_id: number;
  product_name: string;
  customer_name: string | null;
  status: string;
  priority: string;
  assigned_to: string | null;
  is_spam: boolean;
  unread_count: number;
  last_message_at: string | null;
}

export interface Message {
  id: number;
  sender_type: string;
  sender_name: string;
  message_text: string;
  created_at: string;
}

const TOKEN = "agw_staff_token";
const NAME = "agw_staff_name";
const CHATS = "api/admin/chat/sessions";

export class NotLoggedIn extends Error {}

export class StaffApi {
  get token(): string | null {
    return sessionStorage.getItem(TOKEN);
  }

  get name(): string {
    return sessionStorage.getItem(NAME) ?? "Staff";
  }

  async logIn(username: string, password: string): Promise<void> {
    const answer = await this.#ask<{ access_token: string }>("POST", "api/login", { username, password });
    sessionStorage.setItem(TOKEN, answer.access_token);
    sessionStorage.setItem(NAME, username);
  }

  logOut(): void {
    sessionStorage.removeItem(TOKEN);
  }

  async chats(status: string): Promise<Chat[]> {
    const query = status ? `?limit=100&status=${status}` : "?limit=100";
    return (await this.#ask<{ sessions: Chat[] }>("GET", CHATS + query)).sessions;
  }

  async messages(id: string): Promise<Message[]> {
    const page = await this.#ask<{ messages: Message[] }>("GET", `${CHATS}/${id}/messages?limit=100&order=desc`);
    return page.messages.reverse();
  }

  respond(id: string, text: string): Promise<unknown> {
    return this.#ask("POST", `${CHATS}/${id}/respond`, { message_text: text });
  }

  setStatus(id: string, status: string): Promise<unknown> {
    return this.#ask("PUT", `${CHATS}/${id}/status?status=${status}`, {});
  }

  markRead(chat: Chat): Promise<unknown> {
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
    const json = (await answer.json().catch(() => ({}))) as T & { detail?: string | { message: string } };
    const words = typeof json.detail === "string" ? json.detail : json.detail?.message;
    const isLogin = path === "api/login";
    if ((answer.status === 401 || answer.status === 403) && !isLogin) throw new NotLoggedIn(words);
    if (!answer.ok) throw new Error(words ?? `The gateway answered ${answer.status}.`);
    return json;
  }
}
