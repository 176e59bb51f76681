/**
 * What an application adds to the page: events that it folds, and views of what they come to.
 *
 * The parts in the tree are listed in src/parts.ts. An application from elsewhere serves a module of its own, whose
 * default export is its part; it needs no framework, because a view draws into an element of the page.
 */

import type { Api, Fold, Language } from "../core/index.ts";

export interface PagePart<Value = unknown> {
  /** The part is shown if the gateway runs all of these applications. */
  readonly applications: readonly string[];
  /** What its panel is called, where people choose it from a list. */
  readonly title?: Readonly<Record<Language, string>>;
  /** What it folds of the session's log. Its value is `place.value`. */
  readonly fold?: Fold<Value>;
  /** Drawn in the line above the conversation. */
  header?(element: HTMLElement, place: PartPlace<Value>): Ending | Promise<Ending>;
  /** Drawn beside the conversation while it is open. One panel is open at a time; Esc closes it. */
  panel?(element: HTMLElement, place: PartPlace<Value>): Ending | Promise<Ending>;
}

/** Takes away what a view has drawn. */
export type Ending = () => void;

/** What a view may know and do. Its fields say how it is now; `onChange` says when to read them again. */
export interface PartPlace<Value = unknown> {
  /** The gateway's HTTP verbs, as this person; `api.call` is for an application's own routes. */
  readonly api: Api;
  readonly sessionId: string;
  /** The agent that was chosen for the session; null is the gateway's default. */
  readonly agent: string | null;
  /** The agent that the session has, or would get now; null while that is not known. */
  readonly currentAgent: string | null;
  /** What the part's fold came to in this session. */
  readonly value: Value;
  /** True while a turn runs or a message is on its way. */
  readonly isProcessing: boolean;
  readonly language: Language;
  /** True while the part's panel is open. */
  isPanelOpen: boolean;
  /** Calls back after each change; the answer ends that. */
  onChange(call: () => void): () => void;
  /** Shows a short message to the person for some seconds. */
  tell(text: string): void;
}
