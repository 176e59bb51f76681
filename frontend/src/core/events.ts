/** A session's log and what it folds to: events, items, snapshot. Types only; those of the wire are in wire.ts. */

import type { AcpCommand, AcpContent, AcpPlanEntry } from "./acp.ts";
import type {
  AskedHost,
  Contributor,
  Attachment,
  DeniedHost,
  EgressAnswered,
  EgressAsked,
  EgressDenied,
  Ended,
  Events,
  Failure,
  FilesChanged,
  FilesRestored,
  MessageAdded,
  MinimalAnswer,
  NamedRule,
  Notice,
  PermissionAnswered,
  PermissionOption,
  PermissionRule,
  Present,
  QueueChanged,
  QuestionAnswered,
  QuestionAsked,
  QuotaUse,
  SessionForked,
  SessionOption,
  State,
  ToolCall,
  WaitingMessage,
  WorkspaceState,
} from "./wire.ts";

export type * from "./acp.ts";
export type * from "./wire.ts";

export type Sender = MessageAdded["sender"];

/** What a frame of the stream says besides the event's own fields. */
interface Frame {
  seq: number;
  at: string;
}

export type EventType = keyof Events;
export type EventOf<T extends EventType> = Events[T] & Frame;
/** One fact of a session's log, flat as the stream sends it. */
export type GatewayEvent = { [T in EventType]: EventOf<T> }[EventType];

/** A fact of any type: an application adds types of its own to the log. */
export interface LogEvent extends Frame {
  type: string;
}

export interface MessageItem {
  kind: "message";
  id: string;
  turn_id: string | null;
  sender: Sender;
  text: string;
  at: string;
  is_streaming: boolean;
  is_placeholder: boolean;
  /** The message's place in State, which never changes. */
  index: number;
  /** Who wrote it, if that was not the owner. */
  author?: Contributor;
  /** True if the agent never hears of it. */
  is_withdrawn?: boolean;
  /** The files that a user's message brings to its agent; absent: none. */
  attachments?: Attachment[];
}

export interface ThoughtItem {
  kind: "thought";
  id: string;
  turn_id: string;
  text: string;
  at: string;
  is_streaming: boolean;
}

/** `tool_kind` is ACP's kind of tool; it is apart from `kind`, which says what sort of item this is. */
export interface ToolCallItem extends Omit<ToolCall, "type" | "tool_call_id" | "kind"> {
  kind: "tool_call";
  id: string;
  tool_kind?: string;
  at: string;
}

export interface PlanItem {
  kind: "plan";
  id: string;
  turn_id: string;
  entries: AcpPlanEntry[];
  at: string;
}

export interface PermissionItem {
  kind: "permission";
  id: string;
  turn_id: string;
  title: string;
  options: PermissionOption[];
  tool_call_id: string | null;
  /** The rule that an answer for always would make. */
  always?: PermissionRule;
  outcome: PermissionAnswered["outcome"] | null;
  option_id: string | null;
  /** The rule that answered instead of a person. */
  rule?: NamedRule;
  /** Who answered, if that was not the owner. */
  by?: Contributor;
  at: string;
}

export interface QuestionItem extends Omit<QuestionAsked, "type" | "question_id"> {
  kind: "question";
  id: string;
  outcome: QuestionAnswered["outcome"] | null;
  content: QuestionAnswered["content"];
  /** Who answered, if that was not the owner. */
  by?: Contributor;
  at: string;
}

export interface NoticeItem {
  kind: "notice";
  id: string;
  level: Notice["level"];
  code: string;
  text: string;
  quota?: QuotaUse;
  /** The numbers and names in the text, by which it is said in another language. */
  values?: Record<string, string | number>;
  at: string;
}

export interface ContentItem {
  kind: "content";
  id: string;
  turn_id: string;
  content: AcpContent;
  at: string;
}

/** Connections of the worker to one host that were refused. */
export interface EgressDeniedItem extends Omit<EgressDenied, "type"> {
  kind: "egress_denied";
  id: string;
  at: string;
}

/** A connection that waits for the person, until there is an answer. */
export interface EgressAskedItem extends Omit<EgressAsked, "type" | "ask_id"> {
  kind: "egress_asked";
  id: string;
  answer: EgressAnswered["answer"] | null;
  at: string;
}

/** Files of the working directory that a turn changed. */
export interface FilesChangedItem extends Omit<FilesChanged, "type"> {
  kind: "files_changed";
  id: string;
  at: string;
}

/** The working directory was put back; the number below `seq` brings back what it was before. */
export interface FilesRestoredItem extends Omit<FilesRestored, "type"> {
  kind: "files_restored";
  id: string;
  seq: number;
  at: string;
}

/** What is above was copied from another session. */
export interface ForkedItem extends Omit<SessionForked, "type"> {
  kind: "forked";
  id: string;
  at: string;
}

export type Item =
  | MessageItem
  | ThoughtItem
  | ToolCallItem
  | PlanItem
  | PermissionItem
  | QuestionItem
  | NoticeItem
  | ContentItem
  | EgressDeniedItem
  | EgressAskedItem
  | FilesChangedItem
  | FilesRestoredItem
  | ForkedItem;

/** What a log says of the worker's connections. */
export interface EgressSnapshot {
  /** The entries that the session keeps to; null: it has not narrowed its lists. */
  narrowed: string[] | null;
  denied: DeniedHost[];
  asked: AskedHost[];
  /** Hosts that the person allowed for the session (true), or refused. */
  answers: [string, number, boolean][];
}

/** The whole fold as JSON, what a `resync` frame carries under `chat`. */
export interface Snapshot {
  session_id: string;
  seq: number;
  agent: string | null;
  title: string | null;
  state: string;
  state_reason: string | null;
  detail: string | null;
  failure: Failure | null;
  turn_id: string | null;
  waiting: WaitingMessage[];
  is_held: boolean;
  held_for?: QueueChanged["held_for"];
  wallet: string | null;
  network: string | null;
  /** The turn's place in the line for workers; absent if it does not wait for one. */
  start_position?: number;
  /** `memory`: it waits because the machine has none for another agent. */
  start_short_of?: "memory";
  egress?: EgressSnapshot;
  ended: Ended | null;
  commands: AcpCommand[];
  options: Record<string, unknown>;
  session_options?: SessionOption[];
  option_values?: Record<string, string | boolean>;
  usage: Record<string, unknown>;
  rules?: NamedRule[];
  parent?: string;
  workspace?: WorkspaceState;
  /** If only some of the messages were asked for: how many come before them, and how many of `items` are older. */
  earlier?: number;
  apart?: number;
  items: Item[];
  /** What an application folds, under the name of its `Fold`. */
  [application: string]: unknown;
}

/** Who follows the session now: not of the log. */
export interface PresentFrame {
  present: Present;
}

export interface ResyncFrame {
  seq: number;
  /** A gateway that knows no briefer one sends the whole State. */
  state: State | MinimalAnswer;
  chat: Snapshot;
}
