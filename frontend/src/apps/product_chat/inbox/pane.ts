/** The open chat: what was said, an answer to write, and the product and the cart beside it. */

import { showText } from "../plain.ts";
import { showRich } from "../rich.ts";
import type { AdminChat, MessageRow } from "../wire.ts";
import type { StaffDesk } from "./desk.ts";
import { make, press } from "./dom.ts";
import { when } from "./list.ts";
import { inboxLanguage, say } from "./words.ts";

const MOST = 2000;
/** What the gateway calls a visitor who gave no name. */
const UNNAMED = "Visitor";
/** On a phone the product and the cart are folded. */
const NARROW = "(max-width: 50rem)";
const full = new Intl.DateTimeFormat(inboxLanguage, { dateStyle: "medium", timeStyle: "short" });

export class ChatPane {
  readonly pane = make("section", { id: "pane" });
  readonly beside = make("details", { id: "beside", open: !window.matchMedia(NARROW).matches, tabIndex: 0 });
  input: HTMLTextAreaElement | null = null;
  #desk: StaffDesk;
  #lines = make("ol");
  #log = make("div", { id: "log", role: "log", ariaLabel: say("messages"), tabIndex: 0 }, this.#lines);
  #actions = make("div", { id: "actions" });
  #typing = make("p", { id: "typing" });
  #note = make("p", { className: "note" });
  #shown: string | null = null;
  #drawn = new Set<number>();
  #acts = "";
  #besides = "";

  constructor(desk: StaffDesk) {
    this.#desk = desk;
    this.#note.setAttribute("role", "alert");
    this.pane.append(make("p", { className: "quiet none" }, say("choose")));
  }

  draw(): void {
    const chat = this.#desk.current;
    if ((chat?.session_id ?? null) !== this.#shown) this.#open(chat);
    if (!chat) return;
    this.#drawMessages();
    this.#drawActions(chat);
    this.#drawBeside(chat);
    this.#typing.textContent = this.#desk.typing ? say("typing", { name: this.#desk.typing }) : "";
    this.#note.textContent = this.#desk.note || (this.#desk.isOnline ? "" : say("offline"));
  }

  #open(chat: AdminChat | null): void {
    this.#shown = chat?.session_id ?? null;
    this.#drawn.clear();
    this.#lines.replaceChildren();
    this.#acts = this.#besides = "";
    this.beside.replaceChildren();
    if (!chat) {
      this.input = null;
      this.pane.replaceChildren(make("p", { className: "quiet none" }, say("choose")));
      return;
    }
    const title = make("h2", { dir: "auto" }, `${chat.customer_name ?? say("visitor")} · ${chat.product_name}`);
    const back = press(say("back"), () => this.#desk.leave(), "button small back");
    this.pane.replaceChildren(make("header", {}, back, title, this.#actions), this.#log, this.#typing, this.#note, this.#form());
  }

  #form(): HTMLElement {
    const input = make("textarea", { className: "field", rows: 2, maxLength: MOST, ariaLabel: say("answer"), placeholder: say("placeholder"), dir: "auto" });
    this.input = input;
    const button = make("button", { type: "submit", className: "button primary" }, say("answer"));
    const form = make("form", {}, ...this.#canned(input), input, button);
    const send = async (): Promise<void> => {
      const text = input.value;
      if (!text.trim() || button.disabled) return;
      button.disabled = true;
      if ((await this.#desk.respond(text)) && input.value === text) input.value = "";
      button.disabled = false;
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void send();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      void send();
    });
    input.addEventListener("input", () => this.#desk.typed(input.value !== ""));
    return form;
  }

  #canned(input: HTMLTextAreaElement): HTMLElement[] {
    const known = this.#desk.answers;
    if (known.length === 0) return [];
    const select = make("select", { className: "field canned", ariaLabel: say("canned") }, make("option", { value: "" }, say("canned")));
    known.forEach((one, index) => select.append(make("option", { value: String(index) }, one.name)));
    select.addEventListener("change", () => {
      const text = known[Number(select.value)]?.text ?? "";
      if (select.value) input.value = [input.value.trimEnd(), text].filter(Boolean).join("\n").slice(0, MOST);
      select.value = "";
      input.focus();
    });
    return [select];
  }

  #drawMessages(): void {
    const isAtEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 80;
    const isFirst = this.#drawn.size === 0;
    for (const message of this.#desk.messages) {
      if (this.#drawn.has(message.id)) continue;
      this.#drawn.add(message.id);
      this.#lines.append(drawRow(message));
    }
    if (isAtEnd || isFirst) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #drawActions(chat: AdminChat): void {
    const acts = `${chat.status} ${chat.assigned_to ?? ""}`;
    if (acts === this.#acts) return;
    this.#acts = acts;
    const to = (status: string) => () => this.#desk.setStatus(status);
    const isOver = chat.status === "resolved" || chat.status === "closed";
    const close = (): void => {
      if (window.confirm(say("closeAsk"))) void this.#desk.setStatus("closed");
    };
    this.#actions.replaceChildren(
      make("span", { className: "status" }, chat.assigned_to ? say("answers", { name: chat.assigned_to }) : say("agentAnswers")),
      isOver ? press(say("reopen"), to("active"), "button small")
      : chat.assigned_to ? press(say("handBack"), to("active"), "button small")
      : press(say("takeOver"), to("in_progress"), "button small"),
      ...(chat.status === "resolved" ? [] : isOver ? [] : [press(say("resolve"), to("resolved"), "button small")]),
      ...(chat.status === "closed" ? [] : [press(say("close"), close, "button small")]),
    );
  }

  #drawBeside(chat: AdminChat): void {
    const aside = this.#desk.aside;
    const besides = JSON.stringify(aside);
    if (besides === this.#besides) return;
    this.#besides = besides;
    if (!aside) return;
    const { product, cart, cart_total } = aside;
    const lines = cart.map((item) => make("li", {}, make("span", { dir: "auto" }, `${item.quantity} × ${item.name}`), make("span", {}, item.total)));
    this.beside.replaceChildren(
      make("summary", {}, say("details")),
      make("section", {}, make("h3", {}, say("product")),
        ...(product
          ? [make("p", { dir: "auto" }, make("strong", {}, product.name)), make("p", {}, product.price), make("p", { className: "quiet", dir: "auto" }, product.description)]
          : [make("p", { className: "quiet" }, say("gone"))])),
      make("section", {}, make("h3", {}, say("cart")),
        ...(lines.length > 0
          ? [make("ul", { className: "cart" }, ...lines), make("p", {}, make("strong", {}, say("total", { total: cart_total })))]
          : [make("p", { className: "quiet" }, say("emptyCart"))])),
      make("section", {}, make("h3", {}, say("visitor")),
        ...(chat.customer_email ? [make("p", {}, chat.customer_email)] : []),
        make("p", { className: "quiet" }, `${say("began")} ${full.format(new Date(chat.created_at))}`)),
    );
  }
}

/** Who has no name of their own is called so in the staff's language. */
function nameOf({ sender_type: type, sender_name: name }: MessageRow): string {
  if (type === "assistant") return say("agent");
  return type === "customer" && name === UNNAMED ? say("visitor") : name;
}

function drawRow(message: MessageRow): HTMLElement {
  const isRich = message.sender_type === "assistant";
  const text = isRich ? make("div", { className: "text", dir: "auto" }) : make("p", { className: "text", dir: "auto" });
  if (isRich) showRich(text, message.message_text);
  else showText(text, message.message_text);
  const time = make("time", { dateTime: message.created_at, title: full.format(new Date(message.created_at)) }, when(message.created_at));
  const item = make("li", {}, make("small", { dir: "auto" }, `${nameOf(message)} · `, time), text);
  item.dataset["sender"] = message.sender_type;
  return item;
}
