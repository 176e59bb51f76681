/** What is drawn wherever the reader is: what somebody looks for, or everything. */

import { signal } from "@preact/signals";

/** A place in the conversation: a thing of it, and a character of its text. */
export interface Revealed {
  kind: string;
  id: string;
  at: number;
}

/** The place that is shown: its thing and its part of a long text are drawn. */
export const revealed = signal<Revealed | null>(null);

/** The session that is drawn as a whole, to be copied or printed. */
export const wholeId = signal<string | null>(null);

/** True while everything is drawn at once: a browser that prints waits for nothing. */
export const isOnPaper = signal(false);

/** True while the bar that searches the conversation is open. */
export const isFinding = signal(false);
