/** Everything that can be done from the palette and by a shortcut, as it is possible now. */

import type { Item, MessageItem } from "../core/index.ts";
import { OPERATIONS } from "./address.ts";
import { toComposer } from "./asking.ts";
import { copied } from "./clipboard.ts";
import { saveConversation } from "./download.ts";
import type { IconName } from "./icons.tsx";
import { overlay, type Overlay } from "./overlay.ts";
import type { Page } from "./page.ts";
import { language, theme, toggleLanguage, toggleTheme } from "./preferences.ts";
import { type DeedWord, w } from "./deed-words.ts";

export interface PageAction {
  id: string;
  label: string;
  icon: IconName;
  /** May fail: then the reason is told. */
  run(): unknown;
}

type PageDeed = Omit<PageAction, "label"> & { id: DeedWord };

export function actions(page: Page): PageAction[] {
  const conversation = page.conversation.peek();
  const { chat } = conversation;
  const row = page.store.current;
  const answer = lastOf(chat.items, "agent");
  const question = lastOf(chat.items, "user");
  const { me, ways } = page.identity;
  const open = (shown: Overlay) => () => {
    overlay.value = shown;
  };
  const found: (PageDeed | false | undefined)[] = [
    { id: "newSession", icon: "plus", run: () => startNew(page) },
    conversation.isProcessing && { id: "stop", icon: "stop", run: () => conversation.interrupt() },
    answer && { id: "copyAnswer", icon: "copy", run: () => copyText(page, answer.text) },
    question && { id: "editLast", icon: "edit", run: open({ what: "branch", item: question, how: "edit" }) },
    question && { id: "again", icon: "again", run: open({ what: "branch", item: question, how: "again" }) },
    answer && !conversation.isProcessing && { id: "fork", icon: "branch", run: () => page.fork() },
    chat.failure !== null && !conversation.isProcessing && { id: "retry", icon: "again", run: () => conversation.retry() },
    { id: "files", icon: "folder", run: () => page.filing.open() },
    row && { id: "rename", icon: "edit", run: open({ what: "rename", row }) },
    row && { id: "share", icon: "link", run: open({ what: "share", row }) },
    row && { id: "exportMarkdown", icon: "export", run: () => saveConversation(page, row, "markdown") },
    row && { id: "exportJsonl", icon: "export", run: () => saveConversation(page, row, "jsonl") },
    row && { id: "delete", icon: "delete", run: open({ what: "delete", row }) },
    { id: "settings", icon: "settings", run: open({ what: "settings" }) },
    { id: "shortcuts", icon: "list", run: open({ what: "shortcuts" }) },
    { id: theme.peek() === "dark" ? "toLight" : "toDark", icon: theme.peek() === "dark" ? "sun" : "moon", run: toggleTheme },
    { id: "otherLanguage", icon: "globe", run: toggleLanguage },
    me?.scopes.includes("operate") && { id: "operations", icon: "execute", run: () => location.assign(OPERATIONS) },
    !page.identity.isLocal && me?.scopes.includes("chat") && { id: "handover", icon: "move", run: open({ what: "handover" }) },
    me?.kind === "user" && ways.length > 0 && { id: "signOut", icon: "leave", run: () => page.signOut(false) },
    { id: "compose", icon: "edit", run: toComposer },
  ];
  const own = found.flatMap((one) => (one ? [{ ...one, label: w(one.id) }] : []));
  return [...own, ...partActions(page)];
}

/** The panels of applications. */
function partActions(page: Page): PageAction[] {
  return page.parts.peek().flatMap((part): PageAction[] => {
    if (!part.panel || !part.title) return [];
    const run = (): void => {
      page.openPanel.value = part;
    };
    return [{ id: `part ${part.applications.join(" ")}`, label: part.title[language.peek()], icon: "other", run }];
  });
}

/** Does it; says why if it did not succeed. */
export async function perform(page: Page, action: PageAction): Promise<void> {
  try {
    await action.run();
  } catch (error) {
    page.tellWhy(error);
  }
}

function lastOf(items: readonly Item[], sender: string): MessageItem | undefined {
  const said = items.filter((item): item is MessageItem => item.kind === "message" && item.sender === sender);
  return said.filter((message) => message.text !== "" && !message.author).at(-1);
}

function startNew(page: Page): void {
  page.store.startNew();
  page.isDrawerOpen.value = false;
  toComposer();
}

async function copyText(page: Page, text: string): Promise<void> {
  page.tell(w((await copied(text)) ? "copiedAnswer" : "notCopied"));
}

/** Puts the keyboard on the message before or after the one that has it; its buttons are a Tab away. */
export function walkMessages(step: -1 | 1): void {
  const messages = [...document.querySelectorAll<HTMLElement>("article.message")];
  const at = messages.findIndex((one) => one.contains(document.activeElement));
  const next = at < 0 ? messages.at(step === -1 ? -1 : 0) : messages[at + step];
  if (next === undefined) return step === 1 ? toComposer() : undefined;
  next.tabIndex = -1;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}
