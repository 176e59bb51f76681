// Made by frontend/wire.py from the gateway's Python types. Change those, and run it again.

import type { AcpCommand, AcpContent, AcpLocation, AcpPlanEntry, AcpToolContent } from "./acp.ts";

/** The first event of every session. */
export interface SessionCreated {
  type: "session_created";
  session_id: string;
  agent: string;
}

/** The session's state (lifecycle.py); `reason` with parked and closed, `detail` in words for the user. */
export interface SessionStateChanged {
  type: "session_state";
  state: string;
  reason: string | null;
  detail: string | null;
}

/** The session's title. */
export interface SessionInfo {
  type: "session_info";
  title: string;
  /** True: a person chose it, and no title of the agent's takes its place. */
  is_chosen?: boolean;
}

/**
 * A worker is ready; `how` is new, resumed, loaded, forked or transcript, `walls` the profile that it runs
 * behind, `network` what it reaches: none, broker or shared.
 */
export interface AgentStarted {
  type: "agent_started";
  agent: string;
  name: string | null;
  version: string | null;
  how: string;
  milliseconds: number;
  walls: string;
  network?: string;
}

/** The agent's slash commands: ACP's AvailableCommand objects; the whole list each time. */
export interface AgentCommands {
  type: "agent_commands";
  commands: AcpCommand[];
}

/** The agent's modes and configuration options as ACP gives them; an absent field is unchanged. */
export interface AgentOptions {
  type: "agent_options";
  modes?: unknown;
  current_mode_id?: string;
  config_options?: unknown;
  models?: unknown;
}

/** A value that an option may have; `group` is the name of those that belong together. */
export interface OptionChoice {
  value: string;
  name: string;
  description: string;
  group: string;
}

/** Something that can be chosen of the agent: its mode, its model, or an option of its own. */
export interface SessionOption {
  option_id: string;
  name: string;
  kind: "boolean" | "choice";
  value: string | boolean;
  choices: OptionChoice[];
  category: string;
  description: string;
  is_locked: boolean;
}

/** What can be chosen of the agent, with the values of now; the whole list each time. */
export interface SessionOptions {
  type: "session_options";
  options: SessionOption[];
}

/** A person chose a value; without a worker, the agent hears of it when it starts. */
export interface OptionChosen {
  type: "option_chosen";
  option_id: string;
  value: string | boolean;
}

/** An update of a kind that this gateway does not know, as the agent sent it. */
export interface AgentUpdate {
  type: "agent_update";
  update: unknown;
}

/**
 * Somebody who is not the session's owner and came by a link. `person` is signed in, and the gateway knows the
 * name; a `guest` typed it.
 */
export interface Contributor {
  /** The same for everything that one person does by one link. */
  author_id: string;
  name: string;
  kind: "guest" | "person";
}

/** A file of the session's working directory that a message brings to its agent. */
export interface Attachment {
  /** Relative to the working directory. */
  path: string;
  name: string;
  /** In bytes, when the message was sent. */
  size: number;
  media_type: string;
}

/**
 * A whole message: a new one, or (same `message_id`) the one that replaces what is known of it. `author` wrote
 * it, if that was not the owner.
 */
export interface MessageAdded {
  type: "message";
  message_id: string;
  sender: "agent" | "system" | "user";
  content: string;
  turn_id: string | null;
  is_streaming: boolean;
  author?: Contributor;
  /** Of a user's message; absent: none. */
  attachments?: Attachment[];
}

/**
 * A message that waited will not be sent to the agent, and the agent never hears of it. `reason` is
 * `link_revoked`: the link that its author came by was revoked; or `dropped`: the owner took it out.
 */
export interface MessageWithdrawn {
  type: "message_withdrawn";
  message_id: string;
  reason: string;
}

/** Text that is appended to an agent's message; the first delta of an id makes the message. */
export interface TextDelta {
  type: "text_delta";
  message_id: string;
  turn_id: string;
  text: string;
}

/** Text that is appended to an agent's thought; the first delta of an id makes it. */
export interface ThoughtDelta {
  type: "thought_delta";
  thought_id: string;
  turn_id: string;
  text: string;
}

/** A whole thought, which replaces what is known of it. */
export interface ThoughtAdded {
  type: "thought";
  thought_id: string;
  turn_id: string;
  text: string;
  is_streaming: boolean;
}

/** A part of an agent's answer that is no text (an image, audio, a link), as ACP spells it. */
export interface ContentBlock {
  type: "content_block";
  block_id: string;
  turn_id: string;
  content: AcpContent;
}

/** A tool call: new, or (same id) changed. Absent fields are unchanged, lists replace (ACP `tool_call_update`). */
export interface ToolCall {
  type: "tool_call";
  tool_call_id: string;
  turn_id: string;
  title?: string;
  kind?: string;
  status?: string;
  content?: AcpToolContent[] | null;
  locations?: AcpLocation[] | null;
  raw_input?: unknown;
  raw_output?: unknown;
  /** How long it took, as far as the gateway saw; absent: it goes on, or took less than a second. */
  seconds?: number;
}

/** The agent's plan for a turn: ACP's PlanEntry objects; the whole list each time. */
export interface Plan {
  type: "plan";
  turn_id: string;
  entries: AcpPlanEntry[];
}

/** One answer that a permission request offers; `kind` is ACP's allow_once, allow_always, reject_once, … */
export interface PermissionOption {
  option_id: string;
  name: string;
  kind: string;
}

/** A rule that answers permission requests: it matches a call that fits every field that is there. Absent: any. */
export interface PermissionRule {
  action: "allow" | "ask" | "deny";
  /** ACP's kind of tool call. */
  kind?: string;
  tool?: string;
  /** The first words of a command; with `is_exact` all of them. */
  command?: string[];
  is_exact?: boolean;
  /** Globs; with `is_exact` paths as they are. */
  path?: string[];
  mcp_server?: string;
  /** The digest of one exact input. */
  input?: string;
}

/**
 * The agent asks before it acts; answered by POST /api/sessions/{id}/permission, or by a rule. `always` is the
 * rule that an answer for always would make; absent: it counts for this request only.
 */
export interface PermissionAsked {
  type: "permission_asked";
  permission_id: string;
  turn_id: string;
  title: string;
  options: PermissionOption[];
  tool_call_id: string | null;
  always?: PermissionRule;
}

/** A rule with its name: `r12` for one of the session, `permissions.deny.1` for one of the operator. */
export interface NamedRule {
  rule_id: string;
  rule: PermissionRule;
}

/**
 * The answer: `selected` with the option, or `cancelled` because the turn ended first. `rule` is the rule that
 * answered instead of a person; `by` is who answered, if that was not the owner.
 */
export interface PermissionAnswered {
  type: "permission_answered";
  permission_id: string;
  outcome: "cancelled" | "selected";
  option_id: string | null;
  rule?: NamedRule;
  by?: Contributor;
}

/** A person answered for always: from here on this rule answers in this session, until it is removed. */
export interface RuleAdded {
  type: "rule_added";
  rule_id: string;
  rule: PermissionRule;
}

/** A rule of the session answers no longer. */
export interface RuleRemoved {
  type: "rule_removed";
  rule_id: string;
}

/** One value that a field offers. */
export interface QuestionChoice {
  value: string;
  title: string;
  description: string;
}

/**
 * A field of a question's form. `minimum` and `maximum` bound a number, the characters of a text, or how many are
 * chosen; `pattern` is what the agent wants of a text, which the gateway does not check.
 */
export interface QuestionField {
  name: string;
  kind: "boolean" | "choice" | "choices" | "integer" | "number" | "text";
  title: string;
  description: string;
  is_required: boolean;
  choices: QuestionChoice[];
  format: string;
  pattern: string;
  minimum: number | null;
  maximum: number | null;
  default: string | number | number | boolean | string[] | null;
}

/**
 * The agent asks its user: a form, or an address (`url`) that the user may open. It is answered by POST
 * /api/sessions/{id}/questions/{question_id}.
 */
export interface QuestionAsked {
  type: "question_asked";
  question_id: string;
  turn_id: string;
  mode: "form" | "url";
  message: string;
  fields: QuestionField[];
  url: string | null;
  host: string | null;
  tool_call_id: string | null;
}

/**
 * The answer: `accept` with the form's content, `decline`, `cancel` (by the user, or because the turn ended
 * first), or `complete`: the agent saw that what the address was for is done. `by` is who answered, if that was
 * not the owner.
 */
export interface QuestionAnswered {
  type: "question_answered";
  question_id: string;
  outcome: "accept" | "cancel" | "complete" | "decline";
  content: Record<string, string | number | number | boolean | string[]> | null;
  by?: Contributor;
}

/** What the model calls of a session have cost so far, by the gateway's own ledger. */
export interface Spending {
  spent: number;
  currency: string;
  /** What they may cost in a day, if the session has such a budget. */
  limit: number | null;
  /** Of some calls only an estimate is known, or no price. */
  is_estimated: boolean;
  /** What they may cost in all, if the session has such a budget. */
  budget?: number;
  /** Who set it for this session alone; absent: it is that of the configuration. */
  budget_by?: "operator" | "person";
}

/**
 * Tokens: `used` of `size` of the context window; `input_tokens` and `output_tokens` of the last model call.
 * `cost` is what an agent with a model of its own says; `spending` is what the gateway has counted.
 */
export interface Usage {
  type: "usage";
  used: number | null;
  size: number | null;
  input_tokens: number | null;
  output_tokens: number | null;
  cost?: unknown;
  provider?: string;
  model?: string;
  spending?: Spending;
}

/** Most of a budget for models is used, in words and in figures: dollars or tokens. */
export interface BudgetNear {
  type: "budget_near";
  notice_id: string;
  text: string;
  /** Whose, and which: `subject.cost_per_day`. */
  limit: string;
  used: number;
  allowed: number;
}

/** A budget for models is used up: a call was refused. The end of its turn says so to people. */
export interface BudgetSpent {
  type: "budget_reached";
  text: string;
  limit: string;
  used: number;
  allowed: number;
}

/** How much of a quota is used; `limit` names it with whose it is: `subject.messages_per_day`. */
export interface QuotaUse {
  limit: string;
  used: number;
  allowed: number;
}

/**
 * Something the user should know, in words; `code` is for programs, `level` info, warning or error. `quota` goes
 * with the code `quota`; `values` are the numbers and names in the words of other codes, for clients that have
 * words of their own; `kind` among them tells words of one code apart.
 */
export interface Notice {
  type: "notice";
  notice_id: string;
  level: "error" | "info" | "warning";
  code: string;
  text: string;
  quota?: QuotaUse;
  values?: Record<string, string | number>;
}

/** The agent works on `message_id`; `reply_id` is its answer's first message, empty so far. */
export interface TurnStarted {
  type: "turn_started";
  turn_id: string;
  message_id: string;
  reply_id: string;
}

/**
 * The turn waits until a worker may start: its place in the line, from 1 on. Of the messages that it will hand to
 * the agent it gives the ids when the waiting begins; only that is kept, later places are shown.
 */
export interface StartPosition {
  type: "start_position";
  turn_id: string;
  position: number;
  message_ids: string[];
  /** If the machine has no memory for another agent now; absent: all places are taken. */
  short_of?: "memory";
}

/** Why a turn failed, in words for the user; `retryable` says whether sending it again may help. */
export interface Failure {
  code: string;
  message: string;
  retryable: boolean;
}

/** The agent completed the turn: ACP's stop reason, or `error` with the failure. */
export interface TurnEnded {
  type: "turn_ended";
  turn_id: string;
  stop_reason: string;
  error: Failure | null;
}

/** The turn ended without the agent's word: its worker or the gateway ended first. */
export interface TurnInterrupted {
  type: "turn_interrupted";
  turn_id: string;
  reason: string;
  message: string;
}

/** A user's message that waits for its turn. */
export interface WaitingMessage {
  message_id: string;
  turn_id: string;
  text: string;
  /** Absent: the owner's. */
  author?: Contributor;
  /** Absent: none. */
  attachments?: Attachment[];
}

/**
 * The messages that wait for their turn; `is_held` after an interrupt, until the user sends or drops them, or for
 * what `held_for` names: a budget, until it allows them.
 */
export interface QueueChanged {
  type: "queue";
  waiting: WaitingMessage[];
  is_held: boolean;
  held_for?: "budget";
}

/** The transaction that waits for the user's wallet: compact JSON with sorted keys, or null. */
export interface WalletChanged {
  type: "wallet";
  pending: string | null;
}

/** The network that the user's wallet is on. */
export interface NetworkChanged {
  type: "network";
  network: string;
}

/**
 * The repository that the session starts from, as it is now: `commit` is empty until its files are there. `store`
 * names the warm copy whose objects the session reads, `pushed` is the commit that it pushed to `pushed_branch`.
 */
export interface WorkspaceChanged {
  type: "workspace_changed";
  name: string;
  commit: string;
  branch: string;
  store: string;
  pushed_branch: string;
  pushed: string;
}

/** The session's worker reaches no more than these of the hosts that its lists allow. */
export interface EgressNarrowed {
  type: "egress_narrowed";
  hosts: string[];
}

/**
 * A connection of the worker was refused, `count` times so far in this turn: the first time is said at once,
 * later ones together. Without a host: that of any further host.
 */
export interface EgressDenied {
  type: "egress_denied";
  host: string;
  port: number;
  why: string;
  count: number;
  turn_id: string | null;
}

/**
 * A connection to a host that no list names waits for the person; answered by POST
 * /api/sessions/{id}/egress/{ask_id}.
 */
export interface EgressAsked {
  type: "egress_asked";
  ask_id: string;
  host: string;
  port: number;
  turn_id: string | null;
}

/** The answer: what the person chose, `timeout` if nobody did, `cancelled` if the worker ended first. */
export interface EgressAnswered {
  type: "egress_answered";
  ask_id: string;
  answer: "always" | "cancelled" | "deny" | "once" | "session" | "timeout";
}

/**
 * A turn changed files of the working directory, and a snapshot keeps them as they are now. `turn` is the number
 * of the event that ended the turn.
 */
export interface FilesChanged {
  type: "files_changed";
  turn_id: string;
  turn: number;
  added: number;
  changed: number;
  removed: number;
}

/**
 * The working directory is again what it was at `at_seq`. What it was before is kept, too: it comes back with the
 * number below that of this event.
 */
export interface FilesRestored {
  type: "files_restored";
  at_seq: number;
  files: number;
  /** Files that could not be put back. */
  failed: number;
}

/**
 * What is above was copied from the session `parent`, up to its event `at_seq`. `files` says which files came
 * along: `snapshot` those of that moment, `now` those of now, `none`: it had none.
 */
export interface SessionForked {
  type: "session_forked";
  parent: string;
  at_seq: number;
  files: "none" | "now" | "snapshot";
  /** Files that did not come along. */
  missing?: number;
  /** True if some of the next turn's changes may be in the files. */
  is_mixed?: boolean;
}

/** A worker's end and its receipt; `survivors` must be 0. */
export interface WorkerEnded {
  type: "worker_ended";
  reason: string;
  detail: string | null;
  processes: number;
  survivors: number;
  bytes_freed: number;
  milliseconds: number;
}

/** The last event: the session was deleted; a client that reconnects gets 204. */
export interface SessionClosed {
  type: "session_closed";
  reason: string;
}

/** A message as the six verbs show it; `timestamp` never changes. */
export interface StateMessage {
  sender: "agent" | "system" | "user";
  content: string;
  timestamp: string;
  is_streaming: boolean;
  /** Who wrote it, if that was not the owner. */
  author?: Contributor;
  /** True if the agent never hears of it. */
  is_withdrawn?: boolean;
  attachments?: Attachment[];
}

/** Whether a client may let its user type: `ready`, `loading` or `error`, and why in words. */
export interface Readiness {
  phase: "error" | "loading" | "ready";
  detail: string | null;
}

/** The oldest permission request that waits for the user. */
export interface PendingPermission {
  permission_id: string;
  title: string;
  options: PermissionOption[];
  turn_id: string;
  tool_call_id: string | null;
  always?: PermissionRule;
}

/** A question that waits for the user's answer. */
export interface PendingQuestion {
  question_id: string;
  turn_id: string;
  mode: "form" | "url";
  message: string;
  fields: QuestionField[];
  url: string | null;
  host: string | null;
  tool_call_id: string | null;
}

/** When and why a session ended. */
export interface Ended {
  at: string;
  reason: string;
}

/** Connections to one host that were refused, for one reason. */
export interface DeniedHost {
  /** Empty: further hosts, each of which is not told. */
  host: string;
  port: number;
  why: string;
  count: number;
  /** The last time that it was said. */
  at: string;
}

/** A connection that waits for the person. */
export interface AskedHost {
  ask_id: string;
  host: string;
  port: number;
  at: string;
}

/**
 * What the session's worker may reach, and what was refused. `mode` is the worker's network: `shared`, `none` or
 * `broker`; `hosts` are the entries that hold, if it is `broker`.
 */
export interface EgressState {
  mode: string;
  hosts: string[];
  denied: DeniedHost[];
  asked: AskedHost[];
}

/**
 * Somebody who follows a session now, in one tab or in several. `link` is what the link that they came by allows;
 * empty: it is the owner. Without a name: the owner, or somebody who gave none.
 */
export interface Participant {
  person_id: string;
  name: string;
  kind: "guest" | "owner" | "person";
  link: string;
}

/** Who follows a session now: the first of them, and how many they are. */
export interface Present {
  people: Participant[];
  count: number;
}

/** The repository that a session started from; `commit` is empty until its files are there. */
export interface WorkspaceState {
  name: string;
  commit: string;
  branch: string;
  pushed_branch: string;
}

/**
 * What the six verbs answer. Always present but for `cost`, `rules`, `present`, `parent`, `workspace` and
 * `earlier`.
 */
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
  questions: PendingQuestion[];
  options: Record<string, string | boolean>;
  queued: number;
  start_position: number | null;
  ended: Ended | null;
  /** None for readers who are not the owner, and before there is a session. */
  egress: EgressState | null;
  /** What its model calls have cost; absent: it has made none that the gateway counts. */
  cost?: Spending;
  /** The session's own permission rules. */
  rules?: NamedRule[];
  /** Who follows it now; absent: nobody but the owner. */
  present?: Present;
  /** The session that this one was forked from. */
  parent?: string;
  /** Absent: it did not start from a repository. */
  workspace?: WorkspaceState;
  /** If only some of the messages were asked for: how many come before them. */
  earlier?: number;
  /** `memory`: the turn waits because the machine has none for its agent; absent: all places are taken. */
  start_short_of?: string;
}

/** What State shows that no event says, because it is about this moment and not about the conversation. */
export interface Outside {
  missing_api_key: boolean;
  /** That of the session's workers; empty: it is not told. */
  network: string;
  /** Entries of the lists that allow hosts. */
  hosts: string[];
  present?: Present;
  /** Whether its reader came by a link: rules, costs, repository and other sessions are the owner's. */
  is_for_guests: boolean;
}

/** Who asks. `csrf_token` goes into X-CSRF-Token where no Origin is sent. */
export interface Me {
  tenant: string;
  subject: string;
  kind: string;
  scopes: string[];
  csrf_token: string;
  /** Whether they may answer permission requests; absent: whoever has the scope `chat` may. */
  may_approve?: boolean;
  /** False: a message of theirs that begins with `/` is no command of the agent's; absent: it may be one. */
  may_command?: boolean;
}

/** An application that has a part of the page of its own: `page` is the address of its module. */
export interface ApplicationPage {
  name: string;
  page: string;
}

/** A link of the operator's. */
export interface PageLink {
  title: string;
  url: string;
}

/** The operator's own; what is absent is as the page brings it along. */
export interface Branding {
  name?: string;
  /** Its address, relative to the gateway's. */
  logo?: string;
  accent?: string;
  accent_dark?: string;
  welcome?: string;
  welcome_text?: string;
  suggestions?: string[];
  links?: PageLink[];
}

/** How one may be let in here, and who one is already. */
export interface AuthState {
  modes: string[];
  /** key: POST /api/auth/sign-in; oidc: GET /api/auth/oidc/start. */
  sign_in: string[];
  me: Me | null;
  /** Links to a visitor's sessions. Signing in ends them, unless `keep_shares` is said. */
  shared_links: number;
  /** The applications that run here. */
  applications: (string | ApplicationPage)[];
  /** What the operator has set of the page's look. */
  page?: Branding;
  /** How long a message may be in UTF-8; absent: 32,768. */
  message_bytes?: number;
  /**
   * True if this browser's sign-in ended because its provider has to confirm it: send the browser to GET
   * /api/auth/oidc/start?silent=true, which asks nothing of a person who is signed in there.
   */
  signs_in_again?: boolean;
}

/** A link that makes one other browser this person, once. */
export interface Handover {
  token: string;
  url: string;
  expires_at: string;
}

/** An agent that a session may choose. */
export interface AgentSummary {
  name: string;
  title: string;
  is_default: boolean;
  missing_api_key: boolean;
  /** Of its workers: `none`, `broker` (the hosts of its lists, through the gateway) or `shared`. */
  network: "broker" | "none" | "shared";
  /** For operators, if it shares the machine's network and nobody said so: why, and how to change it. */
  network_advice?: string;
}

/** The agents of this gateway. */
export interface AgentList {
  agents: AgentSummary[];
}

/** The permission rules that hold for a session: its own, which can be revoked, and the operator's. */
export interface RuleList {
  rules: NamedRule[];
  operator: NamedRule[];
}

/** A session in a list; times are ISO 8601. */
export interface SessionSummary {
  session_id: string;
  title: string | null;
  state: string;
  agent: string;
  created_at: string;
  last_active_at: string;
  messages: number;
  /** The session that it was forked from, if that is still there. */
  parent?: string;
  pinned?: boolean;
  archived?: boolean;
  tags?: string[];
  /** A turn has ended that its owner has not seen. Absent, as the three above: no, none. */
  unread?: boolean;
}

/** The caller's sessions, last active first. */
export interface SessionList {
  sessions: SessionSummary[];
}

/** A title or a message in which every word occurs. */
export interface SearchHit {
  session_id: string;
  title: string | null;
  /** When it was said, ISO 8601; of a title, when the session was last used. */
  at: string;
  excerpt: string;
  /** Where the words are in the excerpt: (first, behind the last), counted in Unicode characters. */
  marks: [number, number][];
  /** Absent: it is the title, and so for the two below. */
  message_id?: string;
  sender?: string;
  /** The last event that is in the message. */
  seq?: number;
}

/** Titles first, then messages, those of the session last used first; a few of each session. */
export interface SearchAnswer {
  hits: SearchHit[];
  /** Everything was searched, in this answer and those before it. */
  is_complete: boolean;
  /** Where to go on, as `after` of the next request; absent: it is complete. */
  following?: string;
  /** The index is being built: everything is found, but it takes more answers. */
  is_indexing: boolean;
}

/** One port at which a session's worker listens. */
export interface OpenPort {
  port: number;
  /** Where its owner opens it, relative to the gateway's address. */
  url: string;
}

/** `GET /api/sessions/{id}/ports`. A parked session has none: its processes have ended. */
export interface OpenPorts {
  ports: OpenPort[];
}

/**
 * What a verb answers instead of State to who prefers little (`Prefer: return=minimal`): where the session is
 * now. Whatever the verb did is in the log up to `seq`.
 */
export interface MinimalAnswer {
  session_id: string;
  seq: number;
  is_processing: boolean;
  queued: number;
  start_position: number | null;
  missing_api_key: boolean;
}

/** Items of a conversation in the order in which they are drawn; `earlier` messages come before them. */
export interface HistoryPage {
  session_id: string;
  seq: number;
  earlier: number;
  items: Record<string, unknown>[];
}

/** What the end of a worker came to. `survivors` must be 0. */
export interface Receipt {
  processes: number;
  survivors: number;
  bytes_freed: number;
  milliseconds: number;
}

/** What a deletion came to: everything of the session is erased, and its processes are gone. */
export interface Deleted {
  session_id: string;
  deleted: boolean;
  receipt: Receipt;
}

/** What operators watch. */
export interface Counts {
  /** Everything in the map. */
  active_sessions: number;
  /** With a worker. */
  live: number;
  parked: number;
}

/** What came of an mcp-command. */
export interface CommandAnswer {
  success: boolean;
  message: string;
  data: unknown;
}

/** What went wrong: a stable slug, words with what to do, and the session where there is one. */
export interface ErrorDetail {
  code: string;
  message: string;
  session_id: string | null;
  /** Which quota is used up, as SCOPE.NAME; how much of it is used, and allowed. */
  limit?: string;
  used?: number;
  allowed?: number;
}

/** Every error of this gateway. */
export interface ErrorBody {
  error: ErrorDetail;
  request_id: string;
}

/**
 * The new session. `files`: `snapshot`: those of that moment; `now`: those of now, because none of that moment
 * are kept; `none`: there were none.
 */
export interface ForkAnswer {
  session: SessionSummary;
  /** Up to this event the conversation was copied. */
  at_seq: number;
  files: "none" | "now" | "snapshot";
  /** Files that did not come along, because they are too large or could not be read. */
  missing: number;
  /** The next turn began before all files of that moment were read: some of its changes may be in them. */
  is_mixed: boolean;
}

/**
 * How many files are again what they were; `seq` is the number of the event that says so, and the number below it
 * brings back what they were before.
 */
export interface UndoAnswer {
  files: number;
  /** Names that could not be put back. */
  failed: string[];
  seq: number;
}

/** A link without its secret. */
export interface ShareSummary {
  share_id: string;
  created_at: string;
  expires_at: string | null;
  kind: "approve" | "drive" | "view";
  /** How often somebody began to follow the session by it. */
  uses: number;
  last_used_at: string | null;
}

/** The links to a session. */
export interface ShareList {
  shares: ShareSummary[];
}

/** A new link; `token` is told this once. */
export interface NewShare {
  share_id: string;
  token: string;
  url: string;
  expires_at: string | null;
  kind: "approve" | "drive" | "view";
}

/** What a link allows, and who you are to the others: absent until you have a name. */
export interface SharedLink {
  kind: "approve" | "drive" | "view";
  expires_at: string | null;
  you?: Contributor;
  is_owner: boolean;
}

/** The address of one file, from the gateway's root; anyone who has it may read the file until then. */
export interface FileLink {
  url: string;
  expires_at: string;
  preview: "csv" | "html" | "image" | "markdown" | "none" | "pdf" | "svg" | "text";
}

/** One entry of a folder. `other` is a device, a FIFO or a socket, which nobody can read here. */
export interface FileEntry {
  /** For people; what is no text is U+FFFD. */
  name: string;
  /** From the working directory, percent-encoded: put it behind `?path=` as it is. */
  path: string;
  kind: "file" | "folder" | "link" | "other";
  size: number;
  modified_at: string;
  /** Of a file, by its name. */
  media_type: string | null;
  /** How the page can show it. */
  preview: "csv" | "html" | "image" | "markdown" | "none" | "pdf" | "svg" | "text" | null;
  /** Of a folder, if `depth` reaches it. */
  inner?: FileListing;
}

/** The entries of a folder: folders first, then by name, byte by byte. */
export interface FileListing {
  path: string;
  entries: FileEntry[];
  /** Ask again with it for those that follow; null: there are no more. */
  cursor: string | null;
  /** True if the folder has so many entries that not all of them were looked at. */
  is_partial: boolean;
}

/** One frame of `…/files/watch`. */
export interface TreeChange {
  /** Changed, new and removed ones, percent-encoded as in a listing. */
  paths: string[];
}

/** What was used, and what it cost by the prices that the gateway knows. */
export interface UsageRow {
  /** What it is of, by what the report tells apart. An empty name: it is nobody's, or not known any more. */
  names: Record<string, string>;
  calls: number;
  /** Without those from and to a cache. */
  input_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  /** Without those of thoughts. */
  output_tokens: number;
  reasoning_tokens: number;
  /** Of agents with models of their own, as they say. */
  told_tokens: number;
  /** All of them. */
  tokens: number;
  cost_usd: number;
  /** Calls of models without a price, which are not in the cost. */
  unpriced_calls: number;
  /** Calls that were cut, or whose provider did not say: their tokens are an estimate. */
  estimated_calls: number;
  cpu_seconds: number;
  memory_gb_seconds: number;
  /** How long workers lived. */
  wall_seconds: number;
  /** So much more is stored than before; less than 0: so much less. */
  stored_bytes: number;
}

/** Sums of what was used between two days, both within; the latest and the dearest come first. */
export interface UsageReport {
  from_day: string;
  to_day: string;
  by: string[];
  rows: UsageRow[];
  /** Of all rows, those that are left out as well. */
  total: UsageRow;
  /** Rows are left out. */
  has_more: boolean;
}

/** A key of a person or tenant, for a provider or for the hosts of a credential; never the key itself. */
export interface OwnKeySummary {
  name: string;
  kind: "credential" | "provider";
  /** `unused`: nothing in the configuration takes it any more. */
  need: "allowed" | "required" | "unused";
  /** `lost`: it was encrypted with a secret that the gateway does not have any more; set it again. */
  state: "lost" | "not_set" | "set";
  set_at: string | null;
  /** The tenant has a key that is used if the person sets none. */
  has_fallback: boolean;
}

/** Every key that may be set, and those that are. */
export interface OwnKeyList {
  keys: OwnKeySummary[];
}

/** A limit that somebody has, and how much of it is used now, or today. */
export interface LimitUse {
  /** As in the configuration: messages_per_day, stored_bytes, … */
  name: string;
  used: number;
  allowed: number;
}

/** A person: what they have, and what they have used today. Times are ISO 8601. */
export interface PersonSummary {
  tenant: string;
  subject: string;
  is_disabled: boolean;
  disabled_at: string | null;
  /** With an agent that runs. */
  sessions_live: number;
  sessions_stored: number;
  stored_bytes: number;
  /** API keys that are good. */
  keys: number;
  messages: number;
  tokens: number;
  /** When one of the sessions or keys was last used. */
  last_used_at: string | null;
  /** Of today's model calls, in US dollars. */
  cost_usd: number;
  /** Providers and hosts for which a key of their own is set, by name; never a key. */
  own_keys: string[];
  limits: LimitUse[];
}

/** People, last used first. */
export interface PeopleList {
  people: PersonSummary[];
  /** True if there are more than were asked for. */
  has_more: boolean;
}

/** A file that was uploaded, or what has arrived of it; a message names it by its `path`. */
export interface UploadedFile {
  /** Relative to the working directory. */
  path: string;
  name: string;
  /** Bytes of it that have arrived. */
  received: number;
  /** Of the whole file; null: not known. */
  size: number | null;
  /** True if it is in its place. */
  is_whole: boolean;
  media_type: string;
  etag: string;
}

/** What one request uploaded, in its order. */
export interface UploadList {
  files: UploadedFile[];
}

/** One tenant's share. */
export interface TenantNumbers {
  tenant: string;
  sessions: number;
  workers: number;
  memory_bytes: number;
  turns_per_minute: number;
  tokens_per_minute: number;
}

/** One of the gateways that share a store, as its last beat said. */
export interface NodeNumbers {
  name: string;
  version: string;
  /** Where the others reach it. */
  url: string;
  /** starting, up, draining, or silent: no beat of it was seen for a lease. */
  state: string;
  /** In its memory. */
  sessions: number;
  workers: number;
  worker_limit: number;
  /** For how long no beat of it was seen. */
  still_seconds: number;
  /** It is the one that answers. */
  is_this: boolean;
}

/** The gateway at a glance. Rates and percentiles are of the last five minutes; null: nothing happened. */
export interface Overview {
  version: string;
  at: string;
  uptime_seconds: number;
  is_draining: boolean;
  sessions: number;
  states: Record<string, number>;
  workers: number;
  worker_limit: number;
  worker_memory_bytes: number;
  /** Of those that live. */
  worker_cpu_seconds: number;
  gateway_memory_bytes: number;
  gateway_cpu_seconds: number;
  turns_running: number;
  queued: number;
  streams: number;
  starts_per_minute: number;
  turns_per_minute: number;
  tokens_per_minute: number;
  start_p50_seconds: number | null;
  start_p99_seconds: number | null;
  first_token_p50_seconds: number | null;
  first_token_p99_seconds: number | null;
  loop_lag_p99_seconds: number | null;
  store_waiting: number;
  tenants: TenantNumbers[];
  /** The gateways that share the store, by name; absent: this one has its own. All else here is of this gateway. */
  nodes?: NodeNumbers[];
}

/** A session in memory, by its internal key; times are ISO 8601. */
export interface WatchedSession {
  key: string;
  tenant: string;
  agent: string;
  state: string;
  created_at: string;
  last_used_at: string;
  idle_seconds: number;
  /** Of its worker, shared pages by share; 0 without one. */
  memory_bytes: number;
  /** Of its worker so far. */
  cpu_seconds: number;
  messages: number;
  queued: number;
  /** Of its worker: none, broker or shared; absent without one. */
  network?: string;
  /** Its owner's subject; absent for operators who may not see people. */
  person?: string;
}

/** Those that were used last come first; `total` is how many there are, of those that were asked for. */
export interface WatchedSessions {
  sessions: WatchedSession[];
  total: number;
  /** Of all sessions within the caller's reach, to choose from. */
  agents: string[];
  tenants: string[];
  /** How many of all of them are in each state. */
  states: Record<string, number>;
}

/** What came of an operator's word on a session. */
export interface Acted {
  key: string;
  state: string;
  had_worker: boolean;
}

/**
 * The gateway takes no new work, gives turns their grace, and ends. `grace_seconds` is null if turns may go on to
 * their end, because other gateways take the work.
 */
export interface DrainBegun {
  grace_seconds: number | null;
}

/** A host that workers of an agent were refused in the last day. */
export interface RefusedHostRow {
  agent: string;
  tenant: string;
  host: string;
  port: number;
  why: string;
  count: number;
  last_at: string;
  /** The lines that would allow it, to be added to the configuration; empty if no list can. */
  toml: string;
}

/** The last 200, the last one first. */
export interface RefusedHostTable {
  hosts: RefusedHostRow[];
}

/**
 * The last day, a value of each line for each time; null: nothing happened. A step that is missing: the gateway
 * did not run.
 */
export interface OverviewHistory {
  step_seconds: number;
  /** Milliseconds since 1970 UTC. */
  at: number[];
  /** By the names of `Overview`, and `errors_per_minute`. */
  lines: Record<string, (number | null)[]>;
}

/** One thing that must hold, as /readyz has it; `words` say what does not. */
export interface HealthCheck {
  is_well: boolean;
  words: string;
}

/** An alarm that the gateway raises about itself; docs/alarms.md says what to do. */
export interface AlarmRow {
  name: string;
  /** critical or warning. */
  severity: string;
  /** The figure that it is about: a share, a count, seconds or bytes. */
  value: number;
  /** When it was first seen; ISO 8601. */
  since: string;
}

/** How one gateway is. */
export interface GatewayHealth {
  version: string;
  started_at: string;
  uptime_seconds: number;
  /** store, disk, forkserver, tasks, draining. */
  checks: Record<string, HealthCheck>;
  disk_free_bytes: number;
  disk_low_bytes: number;
  database_bytes: number;
  /** Behind which workers run: strict, basic or none. */
  walls: string;
  /** Why they are not stricter; empty if nothing is missing. */
  walls_missing: string;
  /** Error answers of the last five minutes, by their code. */
  errors: Record<string, number>;
  /** Of them, those with a status of 500 and more. */
  failed_answers: number;
  /** Requests over a limit in the last five minutes, by the limit's name. */
  rejections: Record<string, number>;
  /** The critical ones first. */
  alarms: AlarmRow[];
}

/** One line of the gateway's log. */
export interface LogLine {
  number: number;
  at: string;
  level: string;
  logger: string;
  message: string;
  request_id?: string;
  tenant?: string;
  session?: string;
}

/**
 * The newest first, of the last 2,000 lines since the gateway started; `next`: the `before` of what comes after;
 * null at the end.
 */
export interface LogLinePage {
  lines: LogLine[];
  next: string | null;
}

/** One act. */
export interface AuditLine {
  at: string;
  action: string;
  outcome: string;
  tenant?: string | null;
  subject?: string | null;
  kind?: string | null;
  key_id?: string | null;
  target?: string | null;
  request_id?: string | null;
  detail?: string | null;
  /** Refusals since the last line that were not written. */
  left_out?: number;
}

/**
 * The newest first. `next`: the `before` of what comes after; null at the end. A page may be empty and have a
 * next one: so much is read for one request and no more.
 */
export interface AuditPage {
  lines: AuditLine[];
  next: string | null;
}

/** What a tenant has and has used today. */
export interface TenantSummary {
  name: string;
  title: string;
  is_disabled: boolean;
  sessions_live: number;
  sessions_stored: number;
  concurrent_turns: number;
  messages: number;
  tokens: number;
  cpu_seconds: number;
  memory_gb_seconds: number;
  stored_bytes: number;
  /** Of all of it together. */
  limits: LimitUse[];
}

/** Every tenant. */
export interface TenantList {
  tenants: TenantSummary[];
}

/** An API key without its secret; times are ISO 8601. */
export interface KeySummary {
  id: string;
  tenant: string;
  subject: string;
  name: string;
  scopes: string[];
  /** good, expired or revoked. */
  state: string;
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
}

/** Every key, oldest first. */
export interface KeyList {
  keys: KeySummary[];
}

/** A new key: `key` is its text, which is told this once. */
export interface MintedKey {
  key: string;
  summary: KeySummary;
}

/** A workspace that a new session may start from. */
export interface WorkspaceSummary {
  name: string;
  title: string;
  repo: string;
  /** Empty: the default branch of the repository. */
  ref: string;
  /** The agent of its sessions that name none. */
  agent: string;
  branch_prefix: string;
}

/** Those that the caller may use. */
export interface WorkspaceList {
  workspaces: WorkspaceSummary[];
}

/** A branch that is on the server now. */
export interface BranchPushed {
  branch: string;
  commit: string;
  author: string;
  /** Where a pull request is opened; empty if the host's pattern is not known. */
  pull_request_url: string;
  /** What git said of files that it could not take; empty if it took all. */
  left_out: string;
}

/** Every event of the core, by its type. */
export interface Events {
  session_created: SessionCreated;
  session_state: SessionStateChanged;
  session_info: SessionInfo;
  agent_started: AgentStarted;
  agent_commands: AgentCommands;
  agent_options: AgentOptions;
  session_options: SessionOptions;
  option_chosen: OptionChosen;
  agent_update: AgentUpdate;
  message: MessageAdded;
  message_withdrawn: MessageWithdrawn;
  text_delta: TextDelta;
  thought_delta: ThoughtDelta;
  thought: ThoughtAdded;
  content_block: ContentBlock;
  tool_call: ToolCall;
  plan: Plan;
  permission_asked: PermissionAsked;
  permission_answered: PermissionAnswered;
  rule_added: RuleAdded;
  rule_removed: RuleRemoved;
  question_asked: QuestionAsked;
  question_answered: QuestionAnswered;
  usage: Usage;
  budget_near: BudgetNear;
  budget_reached: BudgetSpent;
  notice: Notice;
  turn_started: TurnStarted;
  start_position: StartPosition;
  turn_ended: TurnEnded;
  turn_interrupted: TurnInterrupted;
  queue: QueueChanged;
  wallet: WalletChanged;
  network: NetworkChanged;
  workspace_changed: WorkspaceChanged;
  egress_narrowed: EgressNarrowed;
  egress_denied: EgressDenied;
  egress_asked: EgressAsked;
  egress_answered: EgressAnswered;
  files_changed: FilesChanged;
  files_restored: FilesRestored;
  session_forked: SessionForked;
  worker_ended: WorkerEnded;
  session_closed: SessionClosed;
}
