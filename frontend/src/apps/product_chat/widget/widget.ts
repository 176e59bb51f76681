/**
 * The chat of a product page, whole: a button, a panel, a form, below a shadow root that nothing of the page reaches.
 * Everything that people type is inserted as text, never as markup; of answers a little Markdown is shown.
 */

import { showText } from "../plain.ts";
import { showRich } from "../rich.ts";
import { Intro } from "./intro.ts";
import { ProductChat, type ProductChatOptions, type ProductMessage } from "../client/chat.ts";
import { STYLE } from "./style.ts";
import { WORDS, type Words } from "./words.ts";

export interface WidgetOptions extends ProductChatOptions {
  title?: string;
  lang?: string;
  dir?: string;
  side?: string;
  theme?: string;
  accent?: string;
  isOpen?: boolean;
}

export interface Widget {
  host: HTMLElement;
  chat: ProductChat;
  open(): void;
  close(): void;
  remove(): void;
}

export function mountWidget(options: WidgetOptions, parent: HTMLElement = document.body): Widget {
  const lang = options.lang ?? document.documentElement.lang;
  const words: Words = lang.startsWith("he") ? WORDS.he : WORDS.en;
  const dir = options.dir ?? (document.documentElement.dir || (lang.startsWith("he") ? "rtl" : "ltr"));
  const host = element("div");
  host.id = "agent-gateway-chat";
  host.dir = dir;
  if (options.theme) host.dataset["theme"] = options.theme;
  if (options.accent) host.style.setProperty("--chat-accent", options.accent);
  const shadow = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  shadow.adoptedStyleSheets = [sheet];

  const chat = new ProductChat(options);
  const parts = build(words, options.title ?? words.title);
  const times = new Intl.DateTimeFormat(lang || "en", { hour: "2-digit", minute: "2-digit" });
  const intro = new Intro(parts.intro, words, (text) => void chat.send(text));
  parts.root.dataset["side"] = options.side ?? "end";
  shadow.append(parts.root);
  parent.append(host);

  const drawn = new Map<string, { item: HTMLElement; message: ProductMessage }>();
  const draw = (): void => {
    drawMessages(parts.log, drawn, chat, words, times);
    if (chat.messages.some((message) => message.text === parts.notice.textContent)) parts.notice.textContent = "";
    parts.intro.hidden = chat.messages.length > 0;
    parts.person.hidden = chat.person !== null || chat.status === "closed";
    const unread = chat.unread;
    parts.badge.textContent = String(unread);
    parts.badge.hidden = unread === 0;
    parts.launcher.setAttribute("aria-label", unread ? `${words.open}, ${words.unread(unread)}` : words.open);
    const isLost = chat.connection === "waiting" || chat.connection === "stopped";
    parts.note.textContent =
      chat.trouble ??
      (chat.sessionId && isLost ? words.offline : chat.typing ? words.typing(chat.typing) : chat.person ? words.answers(chat.person) : "");
    if (!parts.panel.hidden && unread > 0) void chat.markRead();
  };

  const show = (isOpen: boolean): void => {
    parts.panel.hidden = !isOpen;
    parts.launcher.hidden = isOpen;
    parts.launcher.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      chat.wake();
      if (chat.messages.length === 0) void chat.settings().then((settings) => intro.show(settings));
      parts.input.focus();
      parts.log.scrollTop = parts.log.scrollHeight;
    } else parts.launcher.focus();
    draw();
  };
  const send = (): void => {
    const text = parts.input.value;
    if (!text.trim()) return;
    parts.input.value = "";
    void chat.send(text);
  };
  parts.person.addEventListener("click", () => {
    parts.person.disabled = true;
    parts.input.focus();
    void chat.wantPerson(words.wantPerson).then((told) => {
      parts.person.disabled = false;
      parts.notice.textContent = told === null ? "" : told.is_open ? words.told : told.away || words.away;
      draw(); // what the chat says already is not said twice
    });
  });
  parts.launcher.addEventListener("click", () => show(true));
  parts.close.addEventListener("click", () => show(false));
  parts.panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(false);
  });
  parts.form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  parts.input.addEventListener("input", () => chat.typed());
  parts.input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  const look = (): void => {
    if (document.visibilityState === "visible" && chat.sessionId) chat.wake();
  };
  document.addEventListener("visibilitychange", look);
  window.addEventListener("online", look);
  const forget = chat.subscribe(draw);
  // A visitor who has talked before hears of answers although the panel is closed.
  const isMigrated = chat.sessions.migrateLegacyData(options.productId);
  if (isMigrated || chat.isBegun) void chat.open();
  // Another tab has said the first word.
  const unlisten = chat.sessions.onChange(() => {
    if (!chat.sessionId && chat.isBegun) void chat.open();
  });
  if (options.isOpen) show(true);

  return {
    host,
    chat,
    open: () => show(true),
    close: () => show(false),
    remove: () => {
      forget();
      unlisten();
      document.removeEventListener("visibilitychange", look);
      window.removeEventListener("online", look);
      chat.close();
      host.remove();
    },
  };
}

function build(words: Words, title: string) {
  const root = element("div", "root");
  const launcher = element("button", "launcher");
  launcher.type = "button";
  launcher.setAttribute("aria-expanded", "false");
  const badge = element("span", "badge");
  badge.hidden = true;
  launcher.append(title, badge);
  const panel = element("section", "panel");
  panel.hidden = true;
  panel.setAttribute("role", "dialog");
  panel.setAttribute("aria-label", title);
  const header = element("div", "head");
  const heading = element("h2");
  heading.textContent = title;
  const close = element("button");
  close.type = "button";
  close.textContent = "×";
  close.setAttribute("aria-label", words.close);
  header.append(heading, close);
  const log = element("div", "log");
  const lines = element("ol");
  log.setAttribute("role", "log");
  log.setAttribute("aria-label", words.log);
  log.tabIndex = 0;
  log.append(lines);
  const intro = element("div", "intro");
  const note = element("div", "note");
  note.setAttribute("role", "status");
  const notice = element("div", "notice");
  notice.setAttribute("role", "status");
  const person = element("button", "person");
  person.type = "button";
  person.textContent = words.person;
  const form = element("form");
  const input = element("textarea");
  input.rows = 1;
  input.maxLength = 2000;
  input.placeholder = words.placeholder;
  input.setAttribute("aria-label", words.placeholder);
  input.dir = "auto";
  const button = element("button");
  button.type = "submit";
  button.textContent = words.send;
  form.append(input, button);
  panel.append(header, intro, log, notice, note, person, form);
  root.append(launcher, panel);
  return { root, launcher, badge, panel, close, intro, log, notice, note, person, form, input };
}

type Drawn = Map<string, { item: HTMLElement; message: ProductMessage }>;

/** Draws what changed and leaves the rest alone, so that a screen reader reads nothing twice. */
function drawMessages(log: HTMLElement, drawn: Drawn, chat: ProductChat, words: Words, times: Intl.DateTimeFormat): void {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const wanted = new Set(chat.messages.map((message) => message.key));
  for (const [key, { item }] of drawn) {
    if (wanted.has(key)) continue;
    item.remove();
    drawn.delete(key);
  }
  const lines = log.firstElementChild ?? log;
  chat.messages.forEach((message, index) => {
    const known = drawn.get(message.key);
    let item = known?.item;
    if (known?.message !== message) {
      const fresh = drawMessage(message, chat, words, times);
      if (item) item.replaceWith(fresh);
      item = fresh;
      drawn.set(message.key, { item, message });
    }
    if (item && lines.children[index] !== item) lines.insertBefore(item, lines.children[index] ?? null);
  });
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

function drawMessage(message: ProductMessage, chat: ProductChat, words: Words, times: Intl.DateTimeFormat): HTMLElement {
  const item = element("li");
  item.dataset["sender"] = message.sender;
  item.dataset["state"] = message.state;
  const who = element("div", "who");
  who.textContent = message.sender === "customer" ? words.you : message.name;
  const at = new Date(message.at);
  if (Number.isFinite(at.getTime())) {
    const time = element("time");
    time.dateTime = message.at;
    time.textContent = times.format(at);
    who.append(" ", time);
  }
  const bubble = element("div", "bubble");
  bubble.dir = "auto";
  if (message.sender === "customer") showText(bubble, message.text);
  else showRich(bubble, message.text);
  if (message.sender !== "system") item.append(who);
  item.append(bubble);
  if (message.state === "failed") {
    const failed = element("div", "failed");
    const again = element("button");
    again.type = "button";
    again.textContent = words.again;
    again.addEventListener("click", () => void chat.retry(message.key));
    failed.append(`${words.failed} ${message.error ?? ""} `, again);
    item.append(failed);
  }
  return item;
}

function element<K extends keyof HTMLElementTagNameMap>(name: K, className = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}
