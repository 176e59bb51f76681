/** `#s=SESSION&m=NUMBER`: an address that leads to one message of a conversation, however far above it is. */

import { useEffect } from "preact/hooks";
import type { Conversation, MessageItem } from "../core/index.ts";
import { revealed } from "./reveal.ts";

/** The number of the message that the address leads to, or null. */
export function numberIn(hash: string): number | null {
  const number = new URLSearchParams(hash.replace(/^#/, "")).get("m");
  return number !== null && /^\d{1,7}$/.test(number) ? Number(number) : null;
}

export function useAddressedMessage(conversation: Conversation): void {
  const { hasLoaded } = conversation;
  useEffect(() => {
    const go = (): void => void showAddressed(conversation);
    if (hasLoaded) go();
    window.addEventListener("hashchange", go);
    return () => window.removeEventListener("hashchange", go);
  }, [conversation, hasLoaded]);
  useEffect(() => () => void (revealed.value = null), [conversation]);
}

async function showAddressed(conversation: Conversation): Promise<void> {
  const number = numberIn(location.hash);
  if (number === null || !(await conversation.earlier.upTo(number))) return;
  const isWanted = (item: { kind: string }): item is MessageItem =>
    item.kind === "message" && (item as MessageItem).index === number;
  const message = conversation.chat.items.find(isWanted);
  if (message === undefined) return;
  const { show } = await import("./showing.ts");
  await show({ kind: "message", id: message.id, at: 0 }, "", "");
}
