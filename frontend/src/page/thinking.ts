/** How long an agent thought, as far as the page can tell. */

import { useEffect, useMemo, useState } from "preact/hooks";
import type { ThoughtItem } from "../core/index.ts";
import { usePage } from "./page.ts";

/** Whole seconds, or null if it is going on, was short, or nothing says when it ended. */
export function useThinkingTime(item: ThoughtItem): number | null {
  const page = usePage();
  const [began] = useState(() => (item.is_streaming ? performance.now() : null));
  const [seen, setSeen] = useState<number | null>(null);
  useEffect(() => {
    if (began !== null && !item.is_streaming) setSeen((performance.now() - began) / 1000);
  }, [item.is_streaming]);
  // What came behind it began when it ended; an answer's message is older, as it begins with its turn.
  const told = useMemo(() => {
    if (item.is_streaming) return null;
    const items = page.conversation.peek().chat.items;
    const next = items[items.findIndex((one) => one.kind === "thought" && one.id === item.id) + 1];
    return next && "at" in next ? (Date.parse(next.at) - Date.parse(item.at)) / 1000 : null;
  }, [item, page]);
  const seconds = told !== null && told > 0 ? told : seen;
  return seconds !== null && seconds >= 1 ? Math.round(seconds) : null;
}
