/**
 * The fold of a session's log: the same events give the same snapshot and the same State as gateway/events/fold.py.
 *
 * Guarantees: pure (no clock, no I/O); an item that changes becomes a new object and an item that does not keeps its
 * identity, so that a view may compare by `===`; `restore(snapshot)` continues exactly from the snapshot.
 *
 * An agent's answer begins as an empty streaming message (`turn_started.reply_id`). The turn's first text takes that
 * message over, whatever id it carries: State keeps the message's place, `items` moves it behind what came before.
 * Once the turn is over, a message of the agent's that says nothing is in neither.
 */

import type { QueueChanged, Spending } from "./wire.ts";
import { type EgressEvent, egressAfter, egressState, isEgress } from "./egress.ts";
import type {
  AcpCommand,
  EgressAskedItem,
  EgressSnapshot,
  Ended,
  EventOf,
  Failure,
  GatewayEvent,
  Item,
  LogEvent,
  MessageItem,
  NamedRule,
  Outside,
  PendingPermission,
  PendingQuestion,
  PermissionItem,
  QuestionItem,
  Readiness,
  SessionOption,
  Snapshot,
  State,
  StateMessage,
  ThoughtItem,
  ToolCallItem,
  WaitingMessage,
  WorkspaceState,
} from "./events.ts";
import type { Fold } from "./fold.ts";

type Growing = MessageItem | ThoughtItem;

/** The fields of a snapshot that a ChatState has under the same name. */
const FACTS = [
  "session_id",
  "seq",
  "agent",
  "title",
  "state",
  "state_reason",
  "detail",
  "failure",
  "turn_id",
  "waiting",
  "is_held",
  "wallet",
  "network",
  "ended",
  "commands",
  "options",
  "session_options",
  "option_values",
  "usage",
] as const;

/** What is shown while nobody has said anything of this moment. */
export const NOTHING_OUTSIDE: Outside = {
  missing_api_key: false,
  network: "",
  hosts: [],
  is_for_guests: false,
};

const keyOf = (kind: string, id: string): string => `${kind} ${id}`;

export class ChatState {
  session_id: string;
  seq = 0;
  agent: string | null = null;
  title: string | null = null;
  state = "parked";
  state_reason: string | null = null;
  detail: string | null = null;
  failure: Failure | null = null;
  turn_id: string | null = null;
  /** The turn's place in the line for workers; null if it does not wait for one. */
  start_position: number | null = null;
  /** What the turn in the line waits for, if not for a place: memory. */
  start_short_of: EventOf<"start_position">["short_of"] | null = null;
  waiting: WaitingMessage[] = [];
  is_held = false;
  /** What lets held messages go on by itself; null: only their person does. */
  held_for: QueueChanged["held_for"] | null = null;
  wallet: string | null = null;
  network: string | null = null;
  /** Of the worker's connections; null if the log says nothing of them. */
  egress: EgressSnapshot | null = null;
  ended: Ended | null = null;
  commands: AcpCommand[] = [];
  options: Record<string, unknown> = {};
  session_options: SessionOption[] = [];
  option_values: Record<string, string | boolean> = {};
  usage: Record<string, unknown> = {};
  /** The session's own permission rules. */
  rules: NamedRule[] = [];
  /** The session that this one was forked from. */
  parent: string | null = null;
  /** The repository that it started from; null if from none. */
  workspace: WorkspaceState | null = null;
  /** How many messages come before those that are here. */
  earlier = 0;

  #items: Item[] = [];
  /** Key of an item → its place in `#items`. Only `#settle`, `#dropBlank` and `prepend` move items, and rebuild this. */
  #places = new Map<string, number>();
  /** The place of the next message in State. */
  #next = 0;
  #placeholder: string | null = null;
  #open: string | null = null;
  /** What applications fold, and the value of each. */
  readonly #folds: ReadonlyMap<Fold, { value: unknown }>;

  constructor(sessionId: string, folds: readonly Fold[] = []) {
    this.session_id = sessionId;
    this.#folds = new Map(folds.map((fold) => [fold, { value: fold.initial }]));
  }

  static restore(snapshot: Snapshot, folds: readonly Fold[] = []): ChatState {
    const chat = new ChatState(snapshot.session_id, folds);
    for (const name of FACTS) if (name in snapshot) Object.assign(chat, { [name]: snapshot[name] });
    chat.rules = snapshot.rules ?? [];
    chat.held_for = snapshot.held_for ?? null;
    chat.parent = snapshot.parent ?? null;
    chat.start_position = snapshot.start_position ?? null;
    chat.start_short_of = snapshot.start_short_of ?? null;
    chat.egress = snapshot.egress ?? null;
    chat.workspace = snapshot.workspace ?? null;
    for (const [fold, held] of chat.#folds) if (fold.name in snapshot) held.value = snapshot[fold.name];
    for (const item of snapshot.items) chat.#add(item);
    chat.earlier = snapshot.earlier ?? 0;
    chat.#next = nextOf(chat.#items, chat.earlier);
    for (const item of chat.#items) {
      if (!isGrowing(item) || !item.is_streaming) continue;
      const key = keyOf(item.kind, item.id);
      if (item.kind === "message" && item.is_placeholder) chat.#placeholder = key;
      else chat.#open = key;
    }
    return chat;
  }

  // -- reading ------------------------------------------------------------------------------------------------

  get is_processing(): boolean {
    return this.turn_id !== null;
  }

  /** The items in the order a page draws them in. A fresh array, the items themselves shared. */
  get items(): Item[] {
    return this.#items.slice();
  }

  get readiness(): Readiness {
    if (this.state === "starting") return { phase: "loading", detail: "The agent is starting." };
    return { phase: this.state_reason === "crash_loop" ? "error" : "ready", detail: this.detail };
  }

  get pending_permission(): PendingPermission | null {
    const asked = this.#items.find((i): i is PermissionItem => i.kind === "permission" && i.outcome === null);
    if (!asked) return null;
    const { id, title, options, turn_id, tool_call_id, always } = asked;
    return { permission_id: id, title, options, turn_id, tool_call_id, ...(always && { always }) };
  }

  /** The questions that wait for an answer. */
  get questions(): PendingQuestion[] {
    return this.#items
      .filter((item): item is QuestionItem => item.kind === "question" && item.outcome === null)
      .map(({ id: question_id, turn_id, mode, message, fields, url, host, tool_call_id }) => ({
        ...{ question_id, turn_id, mode, message, fields, url, host, tool_call_id },
      }));
  }

  get messages(): StateMessage[] {
    return this.#items
      .filter((item): item is MessageItem => item.kind === "message")
      .sort((a, b) => a.index - b.index)
      .map((m) => ({
        sender: m.sender,
        content: m.text,
        timestamp: m.at,
        is_streaming: m.is_streaming,
        ...authorship(m),
        ...(m.attachments && { attachments: m.attachments }),
      }));
  }

  stateOf(outside: Outside = NOTHING_OUTSIDE): State {
    return {
      session_id: this.session_id,
      seq: this.seq,
      messages: this.messages,
      is_processing: this.is_processing,
      is_loading: this.state === "starting",
      is_connecting_mcp: false,
      missing_api_key: outside.missing_api_key,
      readiness: this.readiness,
      pending_wallet_tx: this.wallet,
      pending_permission: this.pending_permission,
      questions: this.questions,
      options: this.option_values,
      queued: this.waiting.length,
      start_position: this.start_position,
      ...this.#shortOf(),
      ended: this.ended,
      ...(this.usage.spending ? { cost: this.usage.spending as Spending } : {}),
      ...this.#ownRules(),
      ...(outside.present && { present: outside.present }),
      ...this.#origin(),
      ...this.#ownWorkspace(),
      egress: egressState(this.egress, outside),
    };
  }

  /** What an application's fold came to; its initial value if this chat does not know the fold. */
  valueOf<Value>(fold: Fold<Value>): Value {
    return (this.#folds.get(fold as Fold)?.value ?? fold.initial) as Value;
  }

  snapshot(): Snapshot {
    const facts = Object.fromEntries(FACTS.map((name) => [name, this[name]]));
    const values = Object.fromEntries([...this.#folds].map(([fold, { value }]) => [fold.name, value]));
    const egress = this.egress && { egress: this.egress };
    const earlier = this.earlier > 0 && { earlier: this.earlier };
    const place = this.start_position !== null && { start_position: this.start_position };
    const held = this.held_for && { held_for: this.held_for };
    const own = { ...this.#ownRules(), ...this.#origin(), ...this.#ownWorkspace() };
    const optional = { ...egress, ...earlier, ...place, ...this.#shortOf(), ...held, ...own };
    return { ...values, ...facts, ...optional, items: this.#items.slice() } as Snapshot;
  }

  #shortOf() {
    const isSaid = this.start_position !== null && this.start_short_of !== null;
    return isSaid ? { start_short_of: this.start_short_of! } : {};
  }

  /** They are in State and the snapshot if there are any. */
  #ownRules(): { rules?: NamedRule[] } {
    return this.rules.length > 0 ? { rules: this.rules } : {};
  }

  #origin(): { parent?: string } {
    return this.parent === null ? {} : { parent: this.parent };
  }

  #ownWorkspace(): { workspace?: WorkspaceState } {
    return this.workspace ? { workspace: this.workspace } : {};
  }

  /** Takes earlier items in. What of them was here already, because it is open, stays as it is now. */
  prepend(older: readonly Item[], earlier: number): void {
    const now = older.map((item) => this.#get(keyOf(item.kind, item.id)) ?? item);
    const known = new Set(now.filter((item, place) => item !== older[place]));
    const rest = known.size === 0 ? this.#items : this.#items.filter((item) => !known.has(item));
    this.#items = [...now, ...rest];
    if (known.size > 0) this.#placeFrom(0);
    else {
      // Those that were here are all further back by as much: their keys are not put together anew for each page.
      for (const [key, place] of this.#places) this.#places.set(key, place + now.length);
      this.#placeFrom(0, now.length);
    }
    this.earlier = earlier;
  }

  /**
   * Keeps what was there before this snapshot of the last messages: its reader may be far above. Nothing is kept if it
   * does not reach up to these, or if something in it was open then and is not said to be open now.
   */
  keep(before: ChatState, apart: number): void {
    const first = this.#items[apart];
    const place = first && before.#places.get(keyOf(first.kind, first.id));
    if (before.earlier >= this.earlier || place === undefined) return;
    const older = before.#items.slice(0, place);
    const isOld = older.every((item) => !isOpen(item) || this.#places.has(keyOf(item.kind, item.id)));
    if (isOld) this.prepend(older, before.earlier);
  }

  /** The number that a message gets which comes now. */
  get nextNumber(): number {
    return nextOf(this.#items.filter((item) => !saysNothing(item)), this.earlier);
  }

  // -- folding ------------------------------------------------------------------------------------------------

  /** Takes one event in; events come in order of seq. An event of an unknown type changes only `seq`. */
  apply(any: LogEvent): void {
    this.seq = any.seq;
    this.#applications(any);
    const event = any as GatewayEvent;
    switch (event.type) {
      case "text_delta":
        return this.#text(event);
      case "thought_delta":
        return this.#thought(event);
      case "thought":
        return this.#wholeThought(event);
      case "tool_call":
        return this.#toolCall(event);
      case "message":
        return this.#message(event);
      case "message_withdrawn":
        return this.#patch<MessageItem>("message", event.message_id, { is_withdrawn: true });
      case "turn_started":
        return this.#turnStarted(event);
      case "turn_ended":
      case "turn_interrupted":
        return this.#turnOver(event);
      case "start_position":
        if (event.turn_id !== this.turn_id) return;
        this.start_position = event.position;
        this.start_short_of = event.short_of ?? null;
        return;
      case "permission_asked":
        return this.#permissionAsked(event);
      case "permission_answered":
        return this.#permissionAnswered(event);
      case "question_asked": {
        const { type: _type, seq: _seq, question_id: id, at, ...asked } = event;
        return this.#upsert({ kind: "question", id, ...asked, outcome: null, content: null, at });
      }
      case "question_answered": {
        const { question_id: id, outcome, content, by, at } = event;
        if (!this.#get(keyOf("question", id))) this.#add({ kind: "question", id, at } as QuestionItem);
        return this.#patch<QuestionItem>("question", id, { outcome, content, ...(by && { by }) });
      }
      case "plan": {
        const { turn_id, entries, at } = event;
        return this.#upsert({ kind: "plan", id: turn_id, turn_id, entries, at });
      }
      case "content_block": {
        const { block_id, turn_id, content, at } = event;
        this.#closeOpen();
        return this.#upsert({ kind: "content", id: block_id, turn_id, content, at });
      }
      case "notice": {
        const { notice_id, level, code, text, quota, values, at } = event;
        const more = { ...(quota && { quota }), ...(values && { values }) };
        return this.#upsert({ kind: "notice", id: notice_id, level, code, text, ...more, at });
      }
      case "budget_near": {
        const { notice_id, type, text, limit, used, allowed, at } = event;
        const quota = { limit, used, allowed };
        return this.#upsert({ kind: "notice", id: notice_id, level: "warning", code: type, text, quota, at });
      }
      case "files_changed": {
        const { type, seq: _seq, ...fields } = event;
        return this.#upsert({ kind: type, id: event.turn_id, ...fields });
      }
      case "files_restored": {
        const { type, ...fields } = event;
        return this.#upsert({ kind: type, id: `f${event.seq}`, ...fields });
      }
      case "session_forked": {
        const { type: _type, seq, ...fields } = event;
        this.parent = event.parent;
        return this.#upsert({ kind: "forked", id: `f${seq}`, ...fields });
      }
      default:
        return isEgress(event) ? this.#egress(event) : this.#facts(event);
    }
  }

  #egress(event: EgressEvent): void {
    this.egress = egressAfter(this.egress, event);
    switch (event.type) {
      case "egress_denied": {
        const { host, port, why, count, turn_id, at } = event;
        const id = `${turn_id ?? ""} ${host}:${port} ${why}`;
        return this.#upsert({ kind: "egress_denied", id, host, port, why, count, turn_id, at });
      }
      case "egress_asked": {
        const { ask_id: id, host, port, turn_id, at } = event;
        return this.#upsert({ kind: "egress_asked", id, host, port, turn_id, answer: null, at });
      }
      case "egress_answered": {
        const { ask_id: id, answer, at } = event;
        if (!this.#get(keyOf("egress_asked", id))) this.#add({ kind: "egress_asked", id, at } as EgressAskedItem);
        return this.#patch<EgressAskedItem>("egress_asked", id, { answer });
      }
    }
  }

  /** A fold that fails keeps its value: an application must not stop the conversation. */
  #applications(event: LogEvent): void {
    for (const [fold, held] of this.#folds) {
      if (!fold.types.includes(event.type)) continue;
      try {
        held.value = fold.apply(held.value, event);
      } catch (error) {
        console.warn(`Agent Gateway: the fold ${fold.name} failed at event ${event.seq}: ${String(error)}`);
      }
    }
  }

  #facts(event: GatewayEvent): void {
    switch (event.type) {
      case "session_state":
        this.state = event.state;
        this.state_reason = event.reason;
        this.detail = event.detail;
        if (event.state === "starting") this.start_position = null;
        return;
      case "session_created":
        this.session_id = event.session_id;
        this.agent = event.agent;
        this.ended = null;
        return;
      case "session_info":
        this.title = event.title;
        return;
      case "agent_started":
        this.failure = null;
        return;
      case "agent_commands":
        this.commands = event.commands;
        return;
      case "agent_options":
        this.options = { ...this.options, ...bodyOf(event) };
        return;
      case "session_options":
        this.session_options = event.options;
        this.option_values = Object.fromEntries(event.options.map((option) => [option.option_id, option.value]));
        return;
      case "option_chosen": {
        const { option_id, value } = event;
        this.option_values = { ...this.option_values, [option_id]: value };
        this.session_options = this.session_options.map((option) =>
          option.option_id === option_id ? { ...option, value } : option,
        );
        return;
      }
      case "usage":
        this.usage = { ...this.usage, ...bodyOf(event, (value) => value !== null) };
        return;
      case "queue":
        this.waiting = event.waiting;
        this.is_held = event.is_held;
        this.held_for = event.held_for ?? null;
        return;
      case "rule_added": {
        const added = { rule_id: event.rule_id, rule: event.rule };
        const isKnown = this.rules.some((one) => one.rule_id === added.rule_id);
        const changed = this.rules.map((one) => (one.rule_id === added.rule_id ? added : one));
        this.rules = isKnown ? changed : [...changed, added];
        return;
      }
      case "rule_removed":
        this.rules = this.rules.filter((known) => known.rule_id !== event.rule_id);
        return;
      case "wallet":
        this.wallet = event.pending;
        return;
      case "network":
        this.network = event.network;
        return;
      case "workspace_changed": {
        const { name, commit, branch, pushed_branch } = event;
        this.workspace = { name, commit, branch, pushed_branch };
        return;
      }
      case "session_closed":
        this.ended = { at: event.at, reason: event.reason };
        this.state = "closed";
    }
  }

  #message(event: EventOf<"message">): void {
    const { message_id: id, turn_id, sender, content: text, at, is_streaming, author } = event;
    const attached = event.attachments?.length ? { attachments: event.attachments } : {};
    let key = keyOf("message", id);
    let known = this.#get(key);
    if (!known && sender === "agent") {
      const placeholder = this.#placeholderOf(turn_id);
      if (placeholder) [key, known] = [keyOf("message", placeholder.id), placeholder];
    }
    if (known?.kind !== "message") {
      const message = { id, turn_id, sender, text, at, is_streaming, is_placeholder: false, ...attached };
      this.#addMessage({ ...message, ...(author && { author }) });
      return;
    }
    if (known.is_placeholder) {
      known = this.#settle(known, id);
      key = keyOf("message", id);
    }
    const { attachments: _attachments, ...rest } = known;
    this.#replace(key, { ...rest, text, is_streaming, ...attached });
    if (this.#open === key && !is_streaming) this.#open = null;
  }

  #text(event: EventOf<"text_delta">): void {
    const { message_id: id, turn_id, text, at } = event;
    const key = keyOf("message", id);
    let message = this.#get(key) ?? this.#placeholderOf(turn_id);
    if (message?.kind !== "message") {
      message = this.#addMessage({
        id,
        turn_id,
        sender: "agent",
        text: "",
        at,
        is_streaming: true,
        is_placeholder: false,
      });
    }
    if (message.is_placeholder) message = this.#settle(message, id);
    this.#growing(key);
    this.#replace(key, { ...message, text: message.text + text });
  }

  #thought(event: EventOf<"thought_delta">): void {
    const { thought_id: id, turn_id, text, at } = event;
    const key = keyOf("thought", id);
    const known = this.#get(key);
    if (!known) this.#add({ kind: "thought", id, turn_id, text: "", at, is_streaming: true });
    this.#growing(key);
    const thought = this.#get(key);
    if (thought?.kind === "thought") this.#replace(key, { ...thought, text: thought.text + text });
  }

  #wholeThought(event: EventOf<"thought">): void {
    const { thought_id: id, turn_id, text, at, is_streaming } = event;
    const key = keyOf("thought", id);
    const known = this.#get(key);
    if (known?.kind === "thought") {
      this.#replace(key, { ...known, text, is_streaming });
    } else {
      this.#closeOpen();
      this.#add({ kind: "thought", id, turn_id, text, at, is_streaming });
    }
    if (this.#open === key && !is_streaming) this.#open = null;
  }

  #toolCall(event: EventOf<"tool_call">): void {
    const { type: _type, seq: _seq, at, tool_call_id: id, kind: toolKind, ...rest } = event;
    const fields = toolKind === undefined ? rest : { ...rest, tool_kind: toolKind };
    const known = this.#get(keyOf("tool_call", id));
    if (known) return this.#patch<ToolCallItem>("tool_call", id, fields);
    this.#closeOpen();
    this.#add({ kind: "tool_call", id, ...fields, at });
  }

  #turnStarted(event: EventOf<"turn_started">): void {
    const { turn_id, reply_id: id, at } = event;
    this.#dropBlank();
    this.turn_id = turn_id;
    this.start_position = null;
    this.failure = null;
    this.#addMessage({ id, turn_id, sender: "agent", text: "", at, is_streaming: true, is_placeholder: true });
    this.#placeholder = keyOf("message", id);
  }

  #turnOver(event: EventOf<"turn_ended"> | EventOf<"turn_interrupted">): void {
    this.#closeOpen();
    this.#dropBlank();
    this.start_position = null;
    if (event.turn_id === this.turn_id) this.turn_id = null;
    if (event.type === "turn_interrupted") {
      this.failure = { code: event.reason, message: event.message, retryable: true };
    } else if (event.error) {
      this.failure = event.error;
    }
  }

  #permissionAsked(event: EventOf<"permission_asked">): void {
    const { permission_id: id, turn_id, title, options, tool_call_id, always, at } = event;
    this.#upsert({
      kind: "permission",
      id,
      turn_id,
      title,
      options,
      tool_call_id,
      ...(always && { always }),
      outcome: null,
      option_id: null,
      at,
    });
  }

  #permissionAnswered(event: EventOf<"permission_answered">): void {
    const { permission_id: id, outcome, option_id, rule, by, at } = event;
    if (!this.#get(keyOf("permission", id))) this.#add({ kind: "permission", id, at } as PermissionItem);
    this.#patch<PermissionItem>("permission", id, { outcome, option_id, ...(rule && { rule }), ...(by && { by }) });
  }

  // -- items --------------------------------------------------------------------------------------------------

  #get(key: string): Item | undefined {
    const place = this.#places.get(key);
    return place === undefined ? undefined : this.#items[place];
  }

  #add(item: Item): void {
    this.#places.set(keyOf(item.kind, item.id), this.#items.length);
    this.#items.push(item);
  }

  #addMessage(fields: Omit<MessageItem, "kind" | "index">): MessageItem {
    const message: MessageItem = { kind: "message", ...fields, index: this.#next };
    this.#next += 1;
    this.#add(message);
    return message;
  }

  #replace(key: string, item: Item): void {
    const place = this.#places.get(key);
    if (place !== undefined) this.#items[place] = item;
  }

  #patch<T extends Item>(kind: T["kind"], id: string, fields: Partial<T>): void {
    const key = keyOf(kind, id);
    const known = this.#get(key);
    if (known) this.#replace(key, { ...known, ...fields } as Item);
  }

  /** A block that is known keeps its place and the moment it came at. */
  #upsert(item: Item): void {
    const key = keyOf(item.kind, item.id);
    const known = this.#get(key);
    if (known) this.#replace(key, { ...item, at: known.at });
    else this.#add(item);
  }

  #placeholderOf(turnId: string | null): MessageItem | undefined {
    const item = this.#placeholder === null ? undefined : this.#get(this.#placeholder);
    return item?.kind === "message" && item.turn_id === turnId ? item : undefined;
  }

  /** Gives the empty answer its id and its place behind what the turn did before it said something. */
  #settle(message: MessageItem, id: string): MessageItem {
    const settled: MessageItem = { ...message, id, is_placeholder: false };
    const place = this.#places.get(keyOf("message", message.id)) ?? this.#items.length;
    this.#items.splice(place, 1);
    this.#items.push(settled);
    this.#places.delete(keyOf("message", message.id));
    this.#placeFrom(place);
    this.#placeholder = null;
    return settled;
  }

  /** Notes the places of the items from this one on, to before that one. */
  #placeFrom(first: number, end = this.#items.length): void {
    for (let at = first; at < end; at += 1) {
      const item = this.#items[at];
      if (item) this.#places.set(keyOf(item.kind, item.id), at);
    }
  }

  /** Takes the agent's messages out in which nothing was said. Not before a turn begins or is over: each of them may
   * still grow.
   */
  #dropBlank(): void {
    this.#placeholder = null;
    const first = this.#items.findIndex(saysNothing);
    if (first < 0) return;
    for (const item of this.#items.filter(saysNothing)) {
      const key = keyOf(item.kind, item.id);
      this.#places.delete(key);
      if (this.#open === key) this.#open = null;
    }
    this.#items = this.#items.filter((item) => !saysNothing(item));
    this.#placeFrom(first);
    this.#next = nextOf(this.#items, this.earlier);
  }

  #growing(key: string): void {
    if (this.#open === key) return;
    this.#closeOpen();
    this.#open = key;
  }

  /** A tool call, a thought after text, or the turn's end: what was growing is finished. */
  #closeOpen(): void {
    const item = this.#open === null ? undefined : this.#get(this.#open);
    if (this.#open !== null && item && isGrowing(item))
      this.#replace(this.#open, { ...item, is_streaming: false });
    this.#open = null;
  }
}

/** True if what is known of it changes yet. */
function isOpen(item: Item): boolean {
  if (isGrowing(item)) return item.is_streaming;
  if (item.kind === "permission" || item.kind === "question") return item.outcome === null;
  if (item.kind === "egress_asked") return item.answer === null;
  return item.kind === "tool_call" && item.status !== "completed" && item.status !== "failed";
}

function isGrowing(item: Item): item is Growing {
  return item.kind === "message" || item.kind === "thought";
}

/** Whether it is a message of the agent's without a word and without a file. */
function saysNothing(item: Item): boolean {
  return item.kind === "message" && item.sender === "agent" && !item.attachments && /^[ \t\r\n]*$/.test(item.text);
}

/** The place in State of a message that comes after these, and after the `earlier` ones that are not here. */
function nextOf(items: readonly Item[], earlier: number): number {
  return items.reduce((next, item) => (item.kind === "message" ? Math.max(next, item.index + 1) : next), earlier);
}

/** What is said only of messages of people who are not the owner. */
function authorship({ author, is_withdrawn }: MessageItem): Pick<MessageItem, "author" | "is_withdrawn"> {
  return { ...(author && { author }), ...(is_withdrawn && { is_withdrawn }) };
}

/** An event's own fields, without the frame's. */
function bodyOf(event: GatewayEvent, isKept: (value: unknown) => boolean = () => true): Record<string, unknown> {
  const { type: _type, seq: _seq, at: _at, ...body } = event;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => isKept(value)));
}
