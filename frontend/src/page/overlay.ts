/** Which one thing lies above the page. */

import { signal } from "@preact/signals";
import type { MessageItem, SessionSummary } from "../core/index.ts";

/** A message is written anew, or sent to another agent. */
export type How = "edit" | "again";

export type Overlay =
  | { what: "palette" | "settings" | "shortcuts" | "handover" }
  | { what: "rename" | "share" | "tags" | "delete"; row: SessionSummary }
  | { what: "branch"; item: MessageItem; how: How };

export const overlay = signal<Overlay | null>(null);
