/**
 * One session as a client sees it: its fold, its stream, and what the user sent that the log does not show yet.
 *
 * Guarantees: what is shown is the log; a message that could not be sent stays, with its error, and is sent again
 * under the same idempotency key, so it never runs twice; what did not reach the gateway is sent again by itself,
 * in order, once the stream is open again; one that the gateway can never accept as it is
 * goes back to its author, to be changed.
 */

import { type Api, BRIEF } from "./api.ts";
import type { Clock, Visibility } from "./clock.ts";
import { EarlierMessages } from "./earlier.ts";
import { ApiError } from "./errors.ts";
import type { Attachment, LogEvent, MessageItem, Present, PresentFrame, ResyncFrame } from "./events.ts";
import type { Fold } from "./fold.ts";
import { newId } from "./ids.ts";
import type { KeptMessage, Outbox } from "./outbox.ts";
import type { Link } from "./link.ts";
import { ChatState } from "./reduce.ts";
import { EventStream, type StreamDetail, type StreamFrame, type StreamStatus } from "./stream.ts";
import { Subscribable } from "./subscribable.ts";
import { ownVerbs, type Verbs } from "./verbs.ts";
import type { MinimalAnswer } from "./wire.ts";

/** A message on its way; `error` once it failed. */
export interface Outgoing {
  key: string;
  text: string;
  attachments: readonly Attachment[];
  error: ApiError | null;
  /** How many messages the log had when it was sent: its copy in the log can only come behind them. */
  behind: number;
  /** The log's position that holds it, once the gateway has said so. */
  seq: number | null;
}

export interface ConversationConfig {
  api: Api;
  sessionId: string;
  /** The agent to create the session with at the first message; absent, the gateway's default. */
  agent?: string;
  /** The repository that it starts from, the same. */
  workspace?: string;
  /** The link by which somebody else's conversation is followed. */
  link?: Link;
  /** Takes back a message that the gateway will never accept as it is. */
  onRefused?: (text: string, error: ApiError, attachments: readonly Attachment[]) => void;
  /** Keeps the messages that are on their way. */
  outbox?: Outbox;
  /** What applications fold of the log. */
  folds?: readonly Fold[];
  /** Begins with so many messages, the last ones; `earlier` fetches those before. Absent: with everything. */
  last?: number;
  clock?: Clock;
  visibility?: Visibility;
}

export class Conversation extends Subscribable {
  chat: ChatState;
  status: StreamStatus = "stopped";
  detail: StreamDetail = {};
  outgoing: readonly Outgoing[] = [];
  missingApiKey: boolean | null = null;
  /** The last verb that failed, for the user; gone with the next one. */
  error: ApiError | null = null;
  /** True once the stream has sent something, or ended without anything to send. */
  hasLoaded = false;
  isStopping = false;

  readonly sessionId: string;
  /** The messages before those that are here, if it began with the last ones. */
  readonly earlier: EarlierMessages;
  /** The link by which it is followed; null: it is one's own. */
  readonly link: Link | null;
  /** Who follows it now; null: no one but its owner. */
  present: Present | null = null;
  /** Permissions and questions that somebody else answered before the answer given here. */
  readonly answeredBefore = new Set<string>();
  readonly #verbs: Verbs;
  readonly #api: Api;
  readonly #stream: EventStream;
  /** The agent that this session was asked for with; null is the gateway's default. */
  readonly agent: string | null;
  /** The repository that it was asked for with; null is none. */
  readonly workspace: string | null;
  readonly #folds: readonly Fold[];
  readonly #last: number | undefined;
  readonly #onRefused: ConversationConfig["onRefused"];
  readonly #outbox: Outbox | undefined;
  /** What the outbox holds. */
  #kept: readonly Outgoing[] = [];
  #isCreated = false;
  /** How often the stream was opened: whether the gateway came back while an attempt to send failed. */
  #opened = 0;
  /** The messages that did not reach the gateway are being sent again. */
  #catchingUp: Promise<void> | null = null;

  constructor(config: ConversationConfig) {
    super();
    this.#api = config.api;
    this.#onRefused = config.onRefused;
    this.#outbox = config.outbox;
    this.outgoing = this.#kept = (config.outbox?.load() ?? []).map(afterReload);
    this.agent = config.agent ?? null;
    this.workspace = config.workspace ?? null;
    this.sessionId = config.sessionId;
    this.#folds = config.folds ?? [];
    this.#last = config.last;
    this.chat = new ChatState(config.sessionId, this.#folds);
    const { clock, visibility } = config;
    this.link = config.link ?? null;
    this.#verbs = this.link?.verbs ?? ownVerbs(this.#api, config.sessionId);
    this.earlier = new EarlierMessages({
      fetch: (before, last) => this.#verbs.history(before, last),
      chat: () => this.chat,
      changed: () => this.changed(),
    });
    this.#stream = new EventStream({
      url: (after) => this.#verbs.streamUrl(after, this.#window()),
      fetch: this.#api.fetch,
      headers: () => ({ ...BRIEF, ...this.#api.headers() }),
      onFrame: (frame) => this.#take(frame),
      onStatus: (status, detail) => this.#statusChanged(status, detail),
      ...(clock && { clock }),
      ...(visibility && { visibility }),
    });
  }

  /** If it begins anew, it begins with everything that is here, and some more: its reader may be far above. */
  #window(): number | undefined {
    if (this.#last === undefined) return undefined;
    const { nextNumber, earlier } = this.chat;
    return Math.min(LAST_MOST, nextNumber - earlier + this.#last);
  }

  start(): void {
    this.#stream.start();
  }

  stop(): void {
    this.#stream.stop();
  }

  /** Continues after a new sign-in: messages that were refused with 401 are sent now. */
  async resume(): Promise<void> {
    this.error = null;
    this.start();
    for (const message of this.outgoing.filter((one) => one.error?.status === 401)) await this.#deliver(message);
  }

  retryNow(): void {
    this.#stream.retryNow();
  }

  /** False for somebody with a link that only reads. */
  get mayWrite(): boolean {
    return this.link === null || (this.link.mayWrite && !this.link.needsName);
  }

  /** False for somebody with a link that does not answer for the owner. */
  get mayAnswer(): boolean {
    return this.link === null || (this.link.mayApprove && !this.link.needsName);
  }

  /** True for somebody with a link to it. */
  get isGuest(): boolean {
    return this.link !== null;
  }

  get isProcessing(): boolean {
    return this.chat.is_processing || this.outgoing.some((message) => message.error === null);
  }

  /** True if the message will be sent automatically once the stream is open again. */
  isSentLater(message: Outgoing): boolean {
    return isStranded(message) && ["connecting", "retrying", "paused"].includes(this.status);
  }

  // -- verbs --------------------------------------------------------------------------------------------------

  async send(text: string, attachments: readonly Attachment[] = []): Promise<void> {
    const message: Outgoing = { key: newId(), text, attachments, error: null, behind: this.chat.nextNumber, seq: null };
    this.outgoing = [...this.outgoing, message];
    this.changed();
    while (this.#catchingUp) await this.#catchingUp;
    const before = this.outgoing.find(isStranded);
    if (!before) return this.#deliver(message);
    this.#update(message.key, { error: before.error });
    await this.#catchUp();
  }

  /** Sends a message that failed again, under the same key; what did not arrive before it goes first. */
  async resend(key: string): Promise<void> {
    const message = this.outgoing.find((one) => one.key === key);
    if (message) await (isStranded(message) ? this.#catchUp() : this.#deliver(message));
  }

  discard(key: string): void {
    this.outgoing = this.outgoing.filter((one) => one.key !== key);
    this.changed();
  }

  /** The last message that the agent was given, once more. */
  async retry(): Promise<void> {
    const waiting = new Set(this.chat.waiting.map((one) => one.message_id));
    const last = this.chat.items
      .filter((i): i is MessageItem => i.kind === "message" && i.sender === "user" && !waiting.has(i.id))
      .at(-1);
    if (last) await this.send(last.text, last.attachments);
  }

  async interrupt(): Promise<void> {
    if (this.isStopping) return;
    this.isStopping = true;
    this.changed();
    await this.#try(() => this.#verbs.interrupt());
    this.isStopping = false;
    this.changed();
  }

  answerPermission(permissionId: string, optionId: string): Promise<boolean> {
    return this.#answer(permissionId, () => this.#verbs.answerPermission(permissionId, optionId));
  }

  answerEgress(askId: string, answer: string): Promise<boolean> {
    return this.#try(() => this.#api.answerEgress(this.sessionId, askId, answer));
  }

  answerQuestion(questionId: string, action: "accept" | "decline" | "cancel", content?: unknown): Promise<boolean> {
    return this.#answer(questionId, () => this.#verbs.answerQuestion(questionId, action, content));
  }

  chooseOption(optionId: string, value: string | boolean): Promise<boolean> {
    return this.#try(() => this.#api.chooseOption(this.sessionId, optionId, value));
  }

  queue(action: "send" | "drop", messageId?: string): Promise<boolean> {
    return this.#try(() => this.#api.queue(this.sessionId, action, messageId));
  }

  changeQueued(messageId: string, change: { message?: string; before?: string }): Promise<boolean> {
    return this.#try(() => this.#api.changeQueued(this.sessionId, messageId, change));
  }

  system(message: string): Promise<boolean> {
    return this.#try(() => this.#api.system<MinimalAnswer>(this.sessionId, message, BRIEF));
  }

  dismissError(): void {
    this.error = null;
    this.changed();
  }

  // -- inside -------------------------------------------------------------------------------------------------

  protected override changed(): void {
    if (this.outgoing !== this.#kept) this.#outbox?.save(this.outgoing);
    this.#kept = this.outgoing;
    super.changed();
  }

  async #deliver(message: Outgoing): Promise<void> {
    const opened = this.#opened;
    this.#update(message.key, { error: null });
    try {
      await this.#createWithAgent();
      const answer = await this.#verbs.chat(message.text, message.key, pathsOf(message));
      this.missingApiKey = answer.missing_api_key;
      this.#update(message.key, { seq: answer.seq });
    } catch (thrown) {
      const error = asApiError(thrown);
      if (this.#onRefused && isFinal(error)) {
        this.discard(message.key);
        this.#onRefused(message.text, error, message.attachments);
      } else this.#update(message.key, { error });
      // The stream will not open a second time for what failed while it did.
      if (isAway(error) && this.#opened !== opened) void this.#catchUp();
      return;
    }
    // A deleted session comes alive again with a message; its stream has to be asked for anew.
    if (this.status === "ended" || this.status === "refused") this.#stream.start();
  }

  #catchUp(): Promise<void> {
    this.#catchingUp ??= this.#sendStranded().finally(() => {
      this.#catchingUp = null;
    });
    return this.#catchingUp;
  }

  /** Sends what did not reach the gateway, one after the other, until one fails with no sign that it came back. */
  async #sendStranded(): Promise<void> {
    for (;;) {
      const next = this.outgoing.find(isStranded);
      if (!next) return;
      const opened = this.#opened;
      await this.#deliver(next);
      const isLeft = this.outgoing.some((one) => one.key === next.key && isStranded(one));
      if (isLeft && this.#opened === opened) return;
    }
  }

  /** Makes the session if there is none: files are uploaded before the first message. */
  async ensure(): Promise<void> {
    if (this.#isCreated || this.chat.seq > 0) return;
    const agent = this.agent === null ? {} : { agent: this.agent };
    try {
      await this.#api.createSession({ ...agent, session_id: this.sessionId });
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "session_exists") throw error;
    }
    this.#isCreated = true;
  }

  async #createWithAgent(): Promise<void> {
    const { agent, workspace } = this;
    if ((agent === null && workspace === null) || this.#isCreated || this.chat.seq > 0) return;
    await this.#api.createSession({
      session_id: this.sessionId,
      ...(agent !== null && { agent }),
      ...(workspace !== null && { workspace }),
    });
    this.#isCreated = true;
  }

  async #try(verb: () => Promise<unknown>): Promise<boolean> {
    this.error = null;
    try {
      const answer = await verb();
      if (isStanding(answer)) this.missingApiKey = answer.missing_api_key;
      return true;
    } catch (error) {
      this.error = asApiError(error);
      this.changed();
      return false;
    }
  }

  /** Somebody else may have been first; the card says so. */
  async #answer(itemId: string, verb: () => Promise<unknown>): Promise<boolean> {
    const isTaken = await this.#try(verb);
    if (!isTaken && this.error !== null && TOO_LATE.has(this.error.code)) {
      this.answeredBefore.add(itemId);
      this.changed();
    }
    return isTaken;
  }

  #update(key: string, fields: Partial<Outgoing>): void {
    this.outgoing = this.outgoing.map((one) => (one.key === key ? { ...one, ...fields } : one));
    this.#dropArrived();
    this.changed();
  }

  /** Forgets what the log shows by now, however the stream and the answer to the POST overtook each other. */
  #dropArrived(): void {
    if (this.outgoing.length === 0) return;
    const items = this.chat.items;
    const isInLog = (sent: Outgoing): boolean =>
      items.some((i) => i.kind === "message" && i.index >= sent.behind && i.sender === "user" && isSame(i, sent)) ||
      this.chat.waiting.some((one) => isSame(one, sent));
    const left = this.outgoing.filter(
      (one) =>
        one.error !== null || !((one.seq !== null && one.seq <= this.chat.seq) || isInLog(one)),
    );
    // Most frames change nothing here, and then the outbox has nothing to write.
    if (left.length < this.outgoing.length) this.outgoing = left;
  }

  #take(frame: StreamFrame): void {
    if (frame.event === "moved") return this.#api.moved();
    if (frame.event === "present") {
      const { present } = JSON.parse(frame.data) as PresentFrame;
      this.present = present.count > 0 ? present : null;
      return this.changed();
    }
    this.hasLoaded = true;
    if (frame.event === "resync") {
      const { chat, state, seq } = JSON.parse(frame.data) as ResyncFrame;
      const before = this.chat;
      this.chat = ChatState.restore(chat, this.#folds);
      this.chat.keep(before, chat.apart ?? 0);
      this.#stream.cursor = seq;
      this.missingApiKey = state.missing_api_key;
      if ("messages" in state) this.present = state.present ?? null;
    } else {
      this.chat.apply(JSON.parse(frame.data) as LogEvent);
    }
    this.#dropArrived();
    this.changed();
  }

  #statusChanged(status: StreamStatus, detail: StreamDetail): void {
    this.status = status;
    this.detail = detail;
    if (status === "open") {
      this.#opened += 1;
      this.present = null; // the stream says who is there, if there is anyone
      void this.#catchUp();
    }
    if (status === "ended") this.hasLoaded = true;
    if (status === "refused" && detail.status === 401) this.#api.unauthorized();
    this.changed();
  }
}

/** It may have arrived, or not: it is sent again, under its key. Nothing in the log is taken for it by its words. */
function afterReload(kept: KeptMessage): Outgoing {
  const error = kept.error ?? new ApiError(0, "unreachable", "This page was closed before the answer came.");
  return { ...kept, error, behind: Number.POSITIVE_INFINITY, seq: null };
}

function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(0, "failed", error instanceof Error ? error.message : String(error));
}

/** What a message consists of, on its way and in the log. */
interface Said {
  text: string;
  attachments?: readonly Attachment[];
}

const pathsOf = (message: Said): string[] => (message.attachments ?? []).map((one) => one.path);

function isSame(one: Said, other: Said): boolean {
  return one.text === other.text && pathsOf(one).join("\n") === pathsOf(other).join("\n");
}

/** True if sending the same message again can never succeed. */
function isFinal(error: ApiError): boolean {
  return [400, 413, 422].includes(error.status) || error.code === "conversation_full";
}

/** The gateway gives no more of the last messages. */
const LAST_MOST = 1_000;

/** Codes of an answer that came too late. */
export const TOO_LATE = new Set(["permission_not_pending", "question_closed"]);

/** Not running, behind a proxy that finds it so, or stopping. */
const AWAY = new Set(["unreachable", "http_502", "http_503", "http_504", "draining"]);

/** True if the message did not reach the gateway. */
function isAway(error: ApiError): boolean {
  return AWAY.has(error.code);
}

function isStranded(message: Outgoing): boolean {
  return message.error !== null && isAway(message.error);
}

function isStanding(answer: unknown): answer is MinimalAnswer {
  return typeof answer === "object" && answer !== null && "missing_api_key" in answer;
}
