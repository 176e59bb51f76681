/** Opens a conversation at one of its messages. */

import type { Page } from "./page.ts";
import { frame, itemOf, show } from "./showing.ts";

/** How long the conversation may take to be there. */
const WAIT_MS = 10_000;
/** The message is marked so long. */
const MARKED_MS = 2_500;

/** False if the message is not in the conversation; somebody who went elsewhere meanwhile is left alone. */
export async function jumpTo(page: Page, sessionId: string, messageId: string | undefined): Promise<boolean> {
  page.store.select(sessionId);
  page.isDrawerOpen.value = false;
  if (messageId === undefined) return true;
  const conversation = page.conversation.peek();
  const isShown = (): boolean => page.conversation.peek() === conversation;
  const isHere = (): boolean => conversation.chat.items.some((item) => item.id === messageId);
  await until(() => conversation.hasLoaded || !isShown(), WAIT_MS);
  while (isShown() && !isHere()) if (!(await conversation.earlier.manyMore())) break;
  if (!isShown()) return true;
  if (!isHere()) return false;
  const message = { kind: "message", id: messageId };
  await show({ ...message, at: 0 }, "", "");
  if (!isShown()) return true;
  const found = itemOf(message);
  found?.classList.add("is-found");
  setTimeout(() => found?.classList.remove("is-found"), MARKED_MS);
  return true;
}

/** Looks at each frame, and now and then if there are none. */
async function until(isSo: () => boolean, milliseconds: number): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!isSo() && performance.now() < end) await frame();
}
