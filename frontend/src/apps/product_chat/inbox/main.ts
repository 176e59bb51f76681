/** The staff's inbox: every chat of the shop, live; take over, answer, hand back, set its status. */

import { ProductSocket, type ProductFrame } from "../client/socket.ts";
import { showText } from "../plain.ts";
import { NotLoggedIn, StaffApi } from "./api.ts";
import type { AdminChat, MessageRow } from "../wire.ts";

const STATUSES = ["", "active", "pending", "in_progress", "resolved", "closed"];
const api = new StaffApi();
const root = document.querySelector<HTMLElement>("#inbox");
let chats: AdminChat[] = [];
let current: string | null = null;
let filter = "";
let room: ProductSocket | null = null;
let typing = "";

const board = new ProductSocket({
  url: () => api.socketUrl("ws/chat/admin/inbox"),
  onFrame: (frame) => {
    if (["new_customer_message", "session_status", "resync"].includes(frame.type)) void refresh();
  },
  onState: (state) => {
    if (state === "open") void refresh();
    if (root) root.dataset["connection"] = state;
  },
});

function make<K extends keyof HTMLElementTagNameMap>(
  name: K, props: Partial<HTMLElementTagNameMap[K]> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(name), props);
  made.append(...children);
  return made;
}

async function guarded(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof NotLoggedIn) {
      api.logOut();
      drawLogin("");
    } else say(error instanceof Error ? error.message : String(error));
  }
}

function say(text: string): void {
  const note = document.querySelector("#note");
  if (note) note.textContent = text;
}

function drawLogin(trouble: string): void {
  board.stop();
  room?.stop();
  const name = make("input", { name: "username", autocomplete: "username", required: true });
  const password = make("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const form = make(
    "form", { className: "login" }, make("h1", {}, "Inbox"), make("label", {}, "Name", name),
    make("label", {}, "Password", password), make("button", { type: "submit" }, "Log in"),
    make("p", { id: "note", role: "alert" }, trouble),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    api.logIn(name.value, password.value).then(begin, (error: Error) => say(error.message));
  });
  root?.replaceChildren(form);
}

function drawDesk(): void {
  const select = make("select", { ariaLabel: "Show" });
  select.append(...STATUSES.map((status) => make("option", { value: status }, status.replace("_", " ") || "all")));
  select.addEventListener("change", () => {
    filter = select.value;
    void refresh();
  });
  const list = make("ul", { id: "chats" });
  const pane = make("section", { id: "pane" }, make("p", {}, "Choose a conversation."));
  pane.setAttribute("aria-live", "polite");
  root?.replaceChildren(
    make("aside", {}, make("header", {}, make("h1", {}, "Inbox"), select), list, make("p", { id: "note", role: "status" })),
    pane,
  );
}

function drawList(): void {
  const list = document.querySelector("#chats");
  if (!list) return;
  list.replaceChildren(
    ...chats.map((chat) => {
      const marks = [chat.priority === "urgent" ? "urgent" : "", chat.is_spam ? "looks like spam" : ""].filter(Boolean);
      const button = make(
        "button", { type: "button" }, make("strong", {}, chat.customer_name ?? "Visitor"), make("span", {}, chat.product_name),
        make("small", {}, [chat.status.replace("_", " "), chat.assigned_to ?? "", ...marks].filter(Boolean).join(" · ")),
      );
      if (chat.unread_count > 0) button.append(make("b", { className: "unread" }, String(chat.unread_count)));
      button.setAttribute("aria-pressed", String(chat.session_id === current));
      button.addEventListener("click", () => void guarded(() => choose(chat)));
      const item = make("li", {}, button);
      item.dataset["priority"] = chat.priority;
      item.dataset["session"] = chat.session_id;
      return item;
    }),
  );
}

async function refresh(): Promise<void> {
  await guarded(async () => {
    chats = await api.chats(filter);
    drawList();
    drawActions();
  });
}

async function choose(chat: AdminChat): Promise<void> {
  current = chat.session_id;
  room?.stop();
  const log = make("ol", { id: "log", role: "log" });
  const input = make("textarea", { rows: 2, maxLength: 2000, ariaLabel: "Answer", dir: "auto" });
  const form = make("form", {}, input, make("button", { type: "submit" }, "Answer"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value;
    if (!text.trim()) return;
    input.value = "";
    void guarded(() => api.respond(chat.session_id, text)).then(refresh);
  });
  const pane = document.querySelector("#pane");
  pane?.replaceChildren(
    make("header", {}, make("h2", {}, `${chat.customer_name ?? "Visitor"} · ${chat.product_name}`), make("div", { id: "actions" })),
    log, make("p", { id: "typing" }), form,
  );
  drawActions();
  room = new ProductSocket({
    url: () => api.socketUrl(`ws/chat/session/${chat.session_id}`),
    onFrame: (frame) => hear(chat, frame),
    onState: (state) => {
      if (state === "open") void showMessages(chat);
    },
  });
  room.start();
  input.addEventListener("input", () => room?.send({ type: "typing_indicator", is_typing: input.value !== "" }));
  await showMessages(chat);
}

function hear(chat: AdminChat, frame: ProductFrame): void {
  if (frame.type === "typing_indicator") {
    typing = frame["is_typing"] ? `${String(frame["user_name"])} is typing…` : "";
    const shown = document.querySelector("#typing");
    if (shown) shown.textContent = typing;
  }
  if (["chat_message", "resync"].includes(frame.type)) void showMessages(chat);
}

async function showMessages(chat: AdminChat): Promise<void> {
  await guarded(async () => {
    const messages = await api.messages(chat.session_id);
    if (current !== chat.session_id) return;
    const log = document.querySelector("#log");
    log?.replaceChildren(...messages.map(drawMessage));
    log?.lastElementChild?.scrollIntoView({ block: "nearest" });
    await api.markRead(chat);
  });
}

function drawMessage(message: MessageRow): HTMLElement {
  const text = make("p", { dir: "auto" });
  showText(text, message.message_text);
  const when = new Date(message.created_at).toLocaleTimeString();
  const item = make("li", {}, make("small", {}, `${message.sender_name} · ${when}`), text);
  item.dataset["sender"] = message.sender_type;
  return item;
}

function drawActions(): void {
  const chat = chats.find((one) => one.session_id === current);
  const actions = document.querySelector("#actions");
  if (!chat || !actions) return;
  const action = (words: string, status: string): HTMLElement => {
    const button = make("button", { type: "button" }, words);
    button.addEventListener("click", () => void guarded(() => api.setStatus(chat.session_id, status)).then(refresh));
    return button;
  };
  actions.replaceChildren(
    make("span", { className: "status" }, chat.assigned_to ? `${chat.assigned_to} answers` : "The agent answers"),
    chat.assigned_to ? action("Hand back to the agent", "active") : action("Take over", "in_progress"),
    action("Resolved", "resolved"),
    action("Close", "closed"),
  );
}

async function begin(): Promise<void> {
  try {
    chats = await api.chats(filter);
  } catch (error) {
    drawLogin(error instanceof NotLoggedIn ? "" : String(error));
    return;
  }
  drawDesk();
  drawList();
  board.start();
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible" || !document.querySelector("#chats")) return;
  board.wake();
  room?.wake();
});
void begin();
