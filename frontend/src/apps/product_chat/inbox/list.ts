/** The left panes: which chats, and the list of them. */

import { gatewayNow } from "../../../core/clock.ts";
import type { AdminChat } from "../wire.ts";
import { VIEWS, type StaffDesk } from "./desk.ts";
import { make, press } from "./dom.ts";
import { inboxLanguage, say, type InboxWord } from "./words.ts";

const times = new Intl.DateTimeFormat(inboxLanguage, { hour: "2-digit", minute: "2-digit" });
const days = new Intl.DateTimeFormat(inboxLanguage, { day: "numeric", month: "short" });
const SEARCH_PAUSE = 200;

export class ChatList {
  readonly filters: HTMLElement;
  readonly list: HTMLElement;
  readonly search: HTMLInputElement;
  #desk: StaffDesk;
  #chats = make("ul", { id: "chats", ariaLabel: say("chats") });
  #none = make("p", { className: "quiet none" }, say("none"));
  #more = press(say("more"), () => this.#desk.more(), "button small more");
  #drawn = "";
  #timer = 0;

  constructor(desk: StaffDesk, tools: HTMLElement[]) {
    this.#desk = desk;
    this.filters = make("nav", { id: "filters", ariaLabel: say("filters") });
    for (const view of VIEWS) {
      const button = press(say(view as InboxWord), () => desk.show(view), "filter");
      button.dataset["view"] = view;
      this.filters.append(button);
    }
    this.search = make("input", { type: "search", className: "field wide", placeholder: say("search"), ariaLabel: say("search") });
    this.search.addEventListener("input", () => {
      window.clearTimeout(this.#timer);
      this.#timer = window.setTimeout(() => void desk.find(this.search.value.trim()), SEARCH_PAUSE);
    });
    this.list = make("section", { id: "list" }, make("header", {}, make("h2", {}, say("chats")), ...tools), this.search, this.#chats, this.#none);
    this.#more.dataset["testid"] = "more-chats";
    this.list.setAttribute("aria-label", say("chats"));
  }

  draw(): void {
    for (const button of this.filters.querySelectorAll<HTMLElement>(".filter")) {
      const isMine = button.dataset["view"] === this.#desk.view;
      button.setAttribute("aria-pressed", String(isMine));
    }
    const shown = this.#desk.shown;
    const { hasMore } = this.#desk;
    this.#none.hidden = shown.length > 0 || hasMore;
    const drawn = JSON.stringify([shown, this.#desk.current?.session_id, hasMore]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const focused = (document.activeElement?.closest("#chats li") as HTMLElement | null)?.dataset["session"];
    const isMore = document.activeElement === this.#more;
    const rows = shown.map((chat) => this.#row(chat));
    this.#chats.replaceChildren(...rows, ...(hasMore ? [make("li", { className: "more-row" }, this.#more)] : []));
    if (focused) this.#button(focused)?.focus();
    if (isMore) (hasMore ? this.#more : this.#chats.querySelector<HTMLElement>("li:last-child button"))?.focus();
  }

  /** Moves to the next chat of the list, or to the one before. */
  step(by: 1 | -1): void {
    const shown = this.#desk.shown;
    const at = shown.findIndex((chat) => chat.session_id === this.#desk.current?.session_id);
    const next = shown[at < 0 ? 0 : at + by];
    if (next) void this.#desk.choose(next).then(() => this.#button(next.session_id)?.focus());
  }

  focus(): void {
    const id = this.#desk.current?.session_id;
    ((id ? this.#button(id) : null) ?? this.#chats.querySelector("button"))?.focus();
  }

  #button(id: string): HTMLButtonElement | null {
    return this.#chats.querySelector(`li[data-session="${CSS.escape(id)}"] button`);
  }

  #row(chat: AdminChat): HTMLElement {
    const marks = [say(chat.status as InboxWord), chat.assigned_to ?? "", chat.priority === "urgent" ? say("urgent") : "", chat.is_spam ? say("spam") : ""];
    const name = make("strong", { dir: "auto" }, chat.customer_name ?? say("visitor"));
    const last = make("span", { className: "last" }, sayer(chat), make("span", { dir: "auto" }, lastWords(chat)));
    const button = make(
      "button", { type: "button" },
      make("span", { className: "top" }, name, make("time", { dateTime: chat.last_message_at ?? "" }, when(chat.last_message_at ?? chat.created_at))),
      make("span", { className: "about", dir: "auto" }, chat.product_name),
      make("small", {}, [...marks, waits(chat)].filter(Boolean).join(" · ")),
    );
    if (chat.unread_count > 0) button.append(make("b", { className: "unread" }, say("unread", { count: chat.unread_count })));
    button.setAttribute("aria-pressed", String(chat.session_id === this.#desk.current?.session_id));
    button.addEventListener("click", () => void this.#desk.choose(chat));
    const item = make("li", {}, button, last);
    item.dataset["priority"] = chat.priority;
    item.dataset["session"] = chat.session_id;
    item.dataset["unread"] = String(chat.unread_count > 0);
    return item;
  }
}

/** Apart from the words: theirs may be of another direction, and are cut at their own end. */
function sayer({ last_sender, assigned_to }: AdminChat): HTMLElement {
  const name = last_sender === "assistant" ? say("agent") : last_sender === "admin" ? (assigned_to ?? say("you")) : "";
  return make("bdi", {}, name && `${name}: `);
}

function lastWords(chat: AdminChat): string {
  return (chat.last_message ?? "").replace(/\*\*|`/g, "").replace(/\[([^\]\n]+)\]\([^()\s]+\)/g, "$1");
}

function waits(chat: AdminChat): string {
  if (!chat.waiting_since || chat.status === "resolved" || chat.status === "closed") return "";
  return say("waits", { time: ago(chat.waiting_since) });
}

/** The time of today's moments, the day of others. */
export function when(iso: string): string {
  const at = new Date(iso);
  return at.toDateString() === new Date(gatewayNow()).toDateString() ? times.format(at) : days.format(at);
}

function ago(iso: string): string {
  const minutes = Math.max(0, Math.round((gatewayNow() - Date.parse(iso)) / 60_000));
  const [value, unit] = minutes < 60 ? [minutes, "minute"] : minutes < 1440 ? [Math.round(minutes / 60), "hour"] : [Math.round(minutes / 1440), "day"];
  return new Intl.NumberFormat(inboxLanguage, { style: "unit", unit: String(unit), unitDisplay: "short" }).format(Number(value));
}
