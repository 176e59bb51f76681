/**
 * The words of the wire: events, State, snapshot. Types only.
 *
 * They mirror gateway/events/facts.py and gateway/events/fold.py; the golden files in tests/golden/ hold both folds to it.
 */

export type Sender = "user" | "agent" | "system";

export interface PermissionOption {
  option_id: string;
  name: string;
  kind: string;
}

export interface WaitingMessage {
  message_id: string;
  text: string;
}

export interface Failure {
  code: string;
  message: string;
  retryable: boolean;
}

/** An ACP content block; what is not text is drawn as what it says it is. */
export interface AcpContent {
  type: string;
  text?: string;
  data?: string;
  mimeType?: string;
  uri?: string;
  name?: string;
  title?: string;
  resource?: { uri?: string; text?: string; mimeType?: string };
}

/** One part of a tool call's content: a content block, a diff or a terminal. */
export interface AcpToolContent {
  type: string;
  content?: AcpContent;
  path?: string;
  oldText?: string | null;
  newText?: string;
  terminalId?: string;
}

export interface AcpLocation {
  path: string;
  line?: number | null;
}

export interface AcpCommand {
  name: string;
  description?: string;
  input?: { hint?: string } | null;
}

export interface AcpPlanEntry {
  content: string;
  priority?: string;
  status?: string;
}

export interface ToolCallFields {
  turn_id: string;
  title?: string;
  kind?: string;
  status?: string;
  content?: AcpToolContent[] | null;
  locations?: AcpLocation[] | null;
  raw_input?: unknown;
  raw_output?: unknown;
}

/** How much of a quota is used; `limit` names it with whose it is: `subject.messages_per_day`. */
export interface QuotaUse {
  limit: string;
  used: number;
  allowed: number;
}

/** How full a session's cart is; what is in it is asked for. */
export interface CartFigures {
  lines: number;
  items: number;
  total: string;
}

interface Bodies {
  session_created: { session_id: string; agent: string };
  session_state: { state: string; reason: string | null; detail: string | null };
  session_info: { title: string };
  agent_started: { agent: string; name: string | null; version: string | null; how: string; milliseconds: number };
  agent_commands: { commands: AcpCommand[] };
  agent_options: { modes?: unknown; current_mode_id?: string; config_options?: unknown };
  agent_update: { update: unknown };
  message: { message_id: string; sender: Sender; content: string; turn_id: string | null; is_streaming: boolean };
  text_delta: { message_id: string; turn_id: string; text: string };
  thought_delta: { thought_id: string; turn_id: string; text: string };
  thought: { thought_id: string; turn_id: string; text: string; is_streaming: boolean };
  content_block: { block_id: string; turn_id: string; content: AcpContent };
  tool_call: { tool_call_id: string } & ToolCallFields;
  plan: { turn_id: string; entries: AcpPlanEntry[] };
  permission_asked: {
    permission_id: string;
    turn_id: string;
    title: string;
    options: PermissionOption[];
    tool_call_id: string | null;
  };
  permission_answered: { permission_id: string; outcome: "selected" | "cancelled"; option_id: string | null };
  usage: {
    used: number | null;
    size: number | null;
    input_tokens: number | null;
    output_tokens: number | null;
    cost: unknown;
  };
  notice: {
    notice_id: string;
    level: "info" | "warning" | "error";
    code: string;
    text: string;
    /** With the code `quota`. */
    quota?: QuotaUse;
  };
  turn_started: { turn_id: string; message_id: string; reply_id: string };
  turn_ended: { turn_id: string; stop_reason: string; error: Failure | null };
  turn_interrupted: { turn_id: string; reason: string; message: string };
  queue: { waiting: WaitingMessage[]; is_held: boolean };
  wallet: { pending: string | null };
  network: { network: string };
  cart: CartFigures;
  worker_ended: { reason: string; detail: string | null };
  session_closed: { reason: string };
}

export type EventType = keyof Bodies;
export type EventOf<T extends EventType> = { type: T; seq: number; at: string } & Bodies[T];
/** One fact of a session's log, flat as the stream sends it. */
export type GatewayEvent = { [T in EventType]: EventOf<T> }[EventType];

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
export interface ToolCallItem extends Omit<ToolCallFields, "kind"> {
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
  outcome: "selected" | "cancelled" | null;
  option_id: string | null;
  at: string;
}

export interface NoticeItem {
  kind: "notice";
  id: string;
  level: "info" | "warning" | "error";
  code: string;
  text: string;
  quota?: QuotaUse;
  at: string;
}

export interface ContentItem {
  kind: "content";
  id: string;
  turn_id: string;
  content: AcpContent;
  at: string;
}

export type Item = MessageItem | ThoughtItem | ToolCallItem | PlanItem | PermissionItem | NoticeItem | ContentItem;

export interface Ended {
  at: string;
  reason: string;
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
  wallet: string | null;
  network: string | null;
  cart: CartFigures | null;
  ended: Ended | null;
  commands: AcpCommand[];
  options: Record<string, unknown>;
  usage: Record<string, unknown>;
  items: Item[];
}

export interface StateMessage {
  sender: Sender;
  content: string;
  timestamp: string;
  is_streaming: boolean;
}

export interface Readiness {
  phase: "ready" | "loading" | "error";
  detail: string | null;
}

export interface PendingPermission {
  permission_id: string;
  title: string;
  options: PermissionOption[];
  turn_id: string;
  tool_call_id: string | null;
}

/** What the six verbs answer; every field is always present. */
export interface State {
  session_id: string;
  seq: number;
  messages: StateMessage[];
  is_processing: boolean;
  is_loading: boolean;
  is_connecting_mcp: boolean;
  missing_api_key: boolean;
  readiness: Readiness;
  pending_wallet_tx: string | null;
  pending_permission: PendingPermission | null;
  queued: number;
  start_position: number | null;
  ended: Ended | null;
}

export interface ResyncFrame {
  seq: number;
  state: State;
  chat: Snapshot;
}
