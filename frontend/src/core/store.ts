/** The user's sessions, the one on screen, the agents to choose from, and how many sessions there are. */

import type { Api, SessionLabels } from "./api.ts";
import { type Clock, systemClock } from "./clock.ts";
import { ApiError } from "./errors.ts";
import { newId, SESSION_ID } from "./ids.ts";
import { isAttachment, type Outbox, storedOutbox } from "./outbox.ts";
import type { KeyValue } from "./storage.ts";
import { Subscribable } from "./subscribable.ts";
import type { AgentSummary, Attachment, Counts, Deleted, SessionSummary, WorkspaceSummary } from "./wire.ts";

export const CURRENT_KEY = "agw.session";
const DRAFT_KEY = "agw.draft.";
const FILES_KEY = "agw.files.";
const CHOSEN_KEY = "agw.chosen";
const OUTBOX_KEY = "agw.outbox.";
/** The list and the count change slowly and are not urgent. */
export const LIST_POLL_MS = 20_000;

/** The id in an address's fragment `#s=ID`, if it is one. */
export function sessionIdIn(hash: string): string | null {
  const id = new URLSearchParams(hash.replace(/^#/, "")).get("s");
  return id !== null && SESSION_ID.test(id) ? id : null;
}

export interface SessionStoreConfig {
  api: Api;
  storage: KeyValue;
  clock?: Clock;
  /** The address's fragment, which wins over what is stored. */
  hash?: string;
}

export class SessionStore extends Subscribable {
  sessions: readonly SessionSummary[] = [];
  agents: readonly AgentSummary[] = [];
  counts: Counts | null = null;
  currentId: string;
  /** The agent chosen for a session that has no message yet. */
  chosenAgent: string | null = null;
  /** The repositories that a session may start from, and the one chosen for a session that has no message yet. */
  workspaces: readonly WorkspaceSummary[] = [];
  chosenWorkspace: string | null = null;
  /** Why the list could not be read. */
  error: ApiError | null = null;
  hasLoaded = false;
  /** How many texts were given back: a draft changed without being typed. */
  returned = 0;

  readonly #api: Api;
  readonly #storage: KeyValue;
  readonly #clock: Clock;
  #cancelPoll: (() => void) | null = null;
  #loadingAgents: Promise<void> | null = null;
  /** Moves when another person comes. */
  #era = 0;

  constructor(config: SessionStoreConfig) {
    super();
    this.#api = config.api;
    this.#storage = config.storage;
    this.#clock = config.clock ?? systemClock;
    const stored = this.#storage.getItem(CURRENT_KEY);
    const known = stored !== null && SESSION_ID.test(stored) ? stored : null;
    this.currentId = sessionIdIn(config.hash ?? "") ?? known ?? newId();
    this.#storage.setItem(CURRENT_KEY, this.currentId);
    const [session, agent, workspace] = (this.#storage.getItem(CHOSEN_KEY) ?? "").split("\n");
    if (session !== this.currentId) return;
    this.chosenAgent = agent || null;
    this.chosenWorkspace = workspace || null;
  }

  get current(): SessionSummary | undefined {
    return this.sessions.find((row) => row.session_id === this.currentId);
  }

  get defaultAgent(): AgentSummary | undefined {
    return this.agents.find((agent) => agent.is_default) ?? this.agents[0];
  }

  // -- verbs --------------------------------------------------------------------------------------------------

  select(sessionId: string): void {
    if (sessionId === this.currentId) return;
    this.currentId = sessionId;
    this.chosenAgent = null;
    this.chosenWorkspace = null;
    this.#storage.setItem(CURRENT_KEY, sessionId);
    this.#storage.removeItem(CHOSEN_KEY);
    this.changed();
  }

  /** A fresh id. The gateway hears of it with the first message. */
  startNew(): string {
    this.select(newId());
    return this.currentId;
  }

  chooseAgent(name: string): void {
    this.chosenAgent = name === this.defaultAgent?.name ? null : name;
    this.#keepChosen();
  }

  chooseWorkspace(name: string): void {
    this.chosenWorkspace = name || null;
    this.#keepChosen();
  }

  /** A first message that is sent after a reload goes to the agent that it was written for. */
  #keepChosen(): void {
    const chosen = [this.currentId, this.chosenAgent ?? "", this.chosenWorkspace ?? ""].join("\n");
    this.#storage.setItem(CHOSEN_KEY, chosen);
    this.changed();
  }

  async rename(sessionId: string, title: string): Promise<void> {
    await this.#api.renameSession(sessionId, title);
    this.sessions = this.sessions.map((row) => (row.session_id === sessionId ? { ...row, title } : row));
    this.changed();
  }

  /** Files a session otherwise: pinned, archived, under other tags, or seen. */
  async label(sessionId: string, labels: SessionLabels): Promise<void> {
    const filed = await this.#api.labelSession(sessionId, labels);
    this.sessions = this.sessions.map((row) => (row.session_id === sessionId ? filed : row));
    this.changed();
  }

  /** Deletes; if it was the one on screen, the newest other one or a fresh one takes its place. */
  async remove(sessionId: string): Promise<Deleted> {
    const receipt = await this.#api.deleteSession(sessionId);
    this.sessions = this.sessions.filter((row) => row.session_id !== sessionId);
    this.setDraft(sessionId, "");
    this.setDraftFiles(sessionId, []);
    this.outbox(sessionId).save([]);
    if (sessionId === this.currentId) this.select(this.sessions[0]?.session_id ?? newId());
    this.changed();
    return receipt;
  }

  draft(sessionId: string): string {
    return this.#storage.getItem(DRAFT_KEY + sessionId) ?? "";
  }

  setDraft(sessionId: string, text: string): void {
    if (text) this.#storage.setItem(DRAFT_KEY + sessionId, text);
    else this.#storage.removeItem(DRAFT_KEY + sessionId);
  }

  /** The uploaded files of a draft. */
  draftFiles(sessionId: string): Attachment[] {
    try {
      const kept: unknown = JSON.parse(this.#storage.getItem(FILES_KEY + sessionId) ?? "[]");
      return Array.isArray(kept) ? kept.filter(isAttachment) : [];
    } catch {
      return [];
    }
  }

  setDraftFiles(sessionId: string, files: readonly Attachment[]): void {
    if (files.length > 0) this.#storage.setItem(FILES_KEY + sessionId, JSON.stringify(files));
    else this.#storage.removeItem(FILES_KEY + sessionId);
  }

  /** The messages of a session that are on their way. */
  outbox(sessionId: string): Outbox {
    const box = storedOutbox(this.#storage, OUTBOX_KEY + sessionId);
    const era = this.#era;
    // What is still on its way when the next person comes must not be left to them.
    return { load: box.load, save: (messages) => era === this.#era && box.save(messages) };
  }

  /** Gives back what could not be sent: it is the draft again, before what was written since. */
  takeBack(sessionId: string, text: string, files: readonly Attachment[] = []): void {
    const since = this.draft(sessionId);
    this.setDraft(sessionId, since ? `${text}\n\n${since}` : text);
    if (files.length > 0) this.setDraftFiles(sessionId, [...files, ...this.draftFiles(sessionId)]);
    this.returned += 1;
    this.changed();
  }

  /** Another person is here now: nothing of the one before may be seen. */
  forget(): void {
    this.#era += 1;
    const names = Array.from({ length: this.#storage.length }, (_, place) => this.#storage.key(place) ?? "");
    const isOwn = (name: string): boolean => [DRAFT_KEY, FILES_KEY, OUTBOX_KEY].some((key) => name.startsWith(key));
    for (const name of names) if (isOwn(name)) this.#storage.removeItem(name);
    this.sessions = [];
    this.agents = [];
    this.workspaces = [];
    this.counts = null;
    this.hasLoaded = false;
    this.startNew();
  }

  // -- reading ------------------------------------------------------------------------------------------------

  /** Reads everything now and again every `LIST_POLL_MS` until `stop`; `isDue` false skips a round. */
  start(isDue: () => boolean = () => true): void {
    const round = (): void => {
      this.#cancelPoll = this.#clock.after(LIST_POLL_MS, round);
      if (isDue()) void this.refresh();
    };
    this.stop();
    round();
  }

  stop(): void {
    this.#cancelPoll?.();
    this.#cancelPoll = null;
  }

  async refresh(): Promise<void> {
    if (this.agents.length === 0) this.#loadingAgents ??= this.#loadAgents().finally(() => (this.#loadingAgents = null));
    const [rows, counts] = await Promise.allSettled([this.#api.sessions(), this.#api.counts()]);
    if (rows.status === "fulfilled") this.sessions = [...rows.value].sort(newestFirst);
    if (counts.status === "fulfilled") this.counts = counts.value;
    this.error = rows.status === "rejected" && rows.reason instanceof ApiError ? rows.reason : null;
    this.hasLoaded ||= rows.status === "fulfilled";
    this.changed();
  }

  async #loadAgents(): Promise<void> {
    try {
      this.agents = await this.#api.agents();
    } catch {
      return; // The next refresh asks again; until then the default agent answers.
    }
    this.changed();
    this.workspaces = await this.#api.workspaces().catch(() => []);
    if (this.workspaces.length > 0) this.changed();
  }
}

function newestFirst(a: SessionSummary, b: SessionSummary): number {
  return b.last_active_at < a.last_active_at ? -1 : b.last_active_at > a.last_active_at ? 1 : 0;
}
