/** Opens a conversation at one of its messages. */

import type { Page } from "./page.ts";
import { revealed } from "./reveal.ts";

const PAGE_MOST = 1_000;
/** How long the conversation, and then the message's place, may take to be there. */
const WAIT_MS = 10_000;
/** What is drawn above moves the message; it is held in sight so long. */
const HOLD_MS = 600;

/** False if the message is not in the conversation; somebody who went elsewhere meanwhile is left alone. */
export async function jumpTo(page: Page, sessionId: string, messageId: string | undefined): Promise<boolean> {
  page.store.select(sessionId);
  page.isDrawerOpen.value = false;
  if (messageId === undefined) return true;
  const conversation = page.conversation.peek();
  const isShown = (): boolean => page.conversation.peek() === conversation;
  const isHere = (): boolean => conversation.chat.items.some((item) => item.id === messageId);
  await until(() => conversation.hasLoaded || !isShown(), WAIT_MS);
  while (isShown() && !isHere()) if (!(await conversation.earlier.more(PAGE_MOST))) break;
  if (!isShown()) return true;
  if (!isHere()) return false;
  const place = { kind: "message", id: messageId, at: 0 };
  revealed.value = place;
  const element = (): HTMLElement | null => document.querySelector(`[data-item="${CSS.escape(messageId)}"]`);
  await until(() => element() !== null, WAIT_MS);
  const end = performance.now() + HOLD_MS;
  await until(() => {
    element()?.scrollIntoView({ block: "center" });
    return performance.now() > end || !isShown();
  }, WAIT_MS);
  const found = element();
  found?.classList.add("is-found");
  setTimeout(() => found?.classList.remove("is-found"), 2_500);
  if (revealed.peek() === place) revealed.value = null;
  return true;
}

/** Looks at each frame, and now and then if there are none. */
async function until(isSo: () => boolean, milliseconds: number): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!isSo() && performance.now() < end) {
    await new Promise<void>((go) => {
      requestAnimationFrame(() => go());
      setTimeout(go, 100);
    });
  }
}
