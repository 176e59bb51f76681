/** What the reader has unfolded stays so, also when it was scrolled away and is drawn again. */

import { useState } from "preact/hooks";
import { usePage } from "./page.ts";

/** So many are remembered. */
const KEPT_MOST = 1_000;

interface Unfolded {
  byItself: boolean;
  isOpen: boolean;
}

const choices = new Map<string, Unfolded>();

/** Whether a thing is unfolded: as the reader chose, or by itself if that is new since. */
export function useKeptOpen(kind: string, id: string, byItself: boolean): [boolean, (isOpen: boolean) => void] {
  const key = `${usePage().conversation.peek().sessionId} ${kind} ${id}`;
  const [, draw] = useState(0);
  const choice = choices.get(key);
  const isOpen = choice?.byItself === byItself ? choice.isOpen : byItself;
  const choose = (wanted: boolean): void => {
    if (wanted === isOpen) return;
    choices.delete(key);
    if (choices.size >= KEPT_MOST) choices.delete(choices.keys().next().value ?? "");
    choices.set(key, { byItself, isOpen: wanted });
    draw((times) => times + 1);
  };
  return [isOpen, choose];
}
