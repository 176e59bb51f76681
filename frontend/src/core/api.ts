/** The gateway's HTTP verbs, typed. Every failure is an ApiError; nothing else is thrown but an abort. */

import { hearDate } from "./clock.ts";
import { ApiError } from "./errors.ts";
import { newId } from "./ids.ts";
import type { KeyValue } from "./storage.ts";
import { retryAfterMs } from "./stream.ts";
import { isElsewhere, visiting, visitorKey } from "./visitor.ts";
import type {
  Acted,
  AgentList,
  AgentSummary,
  AuthState,
  BranchPushed,
  CommandAnswer,
  Counts,
  Deleted,
  DrainBegun,
  ErrorBody,
  FileLink,
  FileListing,
  ForkAnswer,
  Handover,
  HistoryPage,
  Me,
  MinimalAnswer,
  NewShare,
  OpenPort,
  OpenPorts,
  Overview,
  OwnKeyList,
  PeopleList,
  OwnKeySummary,
  RuleList,
  SearchAnswer,
  SessionList,
  SessionSummary,
  SharedLink,
  ShareList,
  ShareSummary,
  State,
  RefusedHostTable,
  UndoAnswer,
  UploadedFile,
  UsageReport,
  WatchedSessions,
  WorkspaceList,
  WorkspaceSummary,
} from "./wire.ts";



/** Who acts by a link, as the gateway is told. */
export interface GuestNames {
  guest: string;
  name: string;
}

/** What a turn changed; a text is null if it is too long, or no text. */
export interface FileChanges {
  turn: number;
  files: {
    path: string;
    change: string;
    size_before: number | null;
    size_after: number | null;
    binary: boolean;
    before: string | null;
    after: string | null;
  }[];
}

export interface ApiConfig {
  /** Where the gateway is; "" is this page's own origin. */
  baseUrl: string;
  fetch?: typeof fetch;
  /** Headers of every request, a credential for example. */
  headers?(): Record<string, string>;
  /** Keeps a visitor's token if the gateway is on another origin than the page. */
  storage?: KeyValue;
  /** The page's origin; by default that of `location`. */
  origin?: string;
  /** The gateway does not know this browser, or not any more. */
  onUnauthorized?(): void;
  /** The session that a stream showed now belongs to a person who signed in, in another tab for example. */
  onMoved?(): void;
}

/** Which part of a file comes. */
export interface FilePart {
  start: number;
  /** Of the whole file. */
  size: number;
  signal: AbortSignal;
}

const SAFE = new Set(["GET", "HEAD"]);
/** For who follows the session: of a verb's answer, only where it is now. */
export const BRIEF: Readonly<Record<string, string>> = { Prefer: "return=minimal" };

/** How a session is filed, and up to which event it was seen. */
export interface SessionLabels {
  pinned?: boolean;
  archived?: boolean;
  tags?: readonly string[];
  seen_seq?: number;
}

export class Api {
  /** Goes with whatever changes something: a cookie alone proves no intent. */
  csrfToken: string | null = null;
  /** For streams: the same as every request here is made with. */
  readonly fetch: typeof fetch;
  readonly #config: ApiConfig;
  /** Where the visitor's token is kept, if this browser may be one. */
  readonly #visitor: { storage: KeyValue; key: string } | null;

  constructor(config: ApiConfig) {
    this.#config = { ...config, baseUrl: config.baseUrl.replace(/\/+$/, "") };
    const plain = config.fetch ?? globalThis.fetch.bind(globalThis);
    const { storage, baseUrl, origin = globalThis.location?.origin } = config;
    const isVisiting = storage !== undefined && isElsewhere(baseUrl, origin);
    this.#visitor = isVisiting ? { storage, key: visitorKey(baseUrl) } : null;
    this.fetch = this.#visitor ? visiting(plain, this.#visitor.storage, this.#visitor.key) : plain;
  }

  /** The same key and body never run a second turn, so a send may be tried again. */
  chat<Answer extends MinimalAnswer = State>(
    sessionId: string,
    message: string,
    idempotencyKey: string = newId(),
    attachments: readonly string[] = [],
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const body = { message, session_id: sessionId, ...(attachments.length > 0 && { attachments }) };
    return this.#post("/api/chat", body, { "Idempotency-Key": idempotencyKey, ...headers });
  }

  state(sessionId: string): Promise<State> {
    return this.#request("GET", `/api/state?session_id=${encodeURIComponent(sessionId)}`);
  }

  interrupt<Answer extends MinimalAnswer = State>(
    sessionId: string,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return this.#post("/api/interrupt", { session_id: sessionId }, headers);
  }

  system<Answer extends MinimalAnswer = State>(
    sessionId: string,
    message: string,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return this.#post("/api/system", { message, session_id: sessionId }, headers);
  }

  /** Earlier items: `last` messages before the message of this number, and what was done between them. */
  history(sessionId: string, before: number, last: number): Promise<HistoryPage> {
    const query = new URLSearchParams({ before: String(before), last: String(last) });
    return this.#request("GET", `${sessionPath(sessionId)}/history?${query}`);
  }

  command(sessionId: string, command: string, args: Record<string, unknown>): Promise<CommandAnswer> {
    return this.#post("/api/mcp-command", { command, args, session_id: sessionId });
  }

  async sessions(): Promise<SessionSummary[]> {
    const answer = await this.#request<SessionList>("GET", "/api/sessions");
    return answer.sessions;
  }

  createSession(wanted: {
    agent?: string;
    session_id?: string;
    workspace?: string;
  }): Promise<{ session_id: string; agent: string }> {
    return this.#post("/api/sessions", wanted);
  }

  /** A new session of this one: up to before a message, or the last turn that ended, with its files. */
  fork(sessionId: string, wanted: { before_message?: string; at_seq?: number; agent?: string }): Promise<ForkAnswer> {
    return this.#post(`${sessionPath(sessionId)}/fork`, wanted);
  }

  /** Makes the working directory what it was at a number of the log. */
  restoreFiles(sessionId: string, atSeq: number): Promise<UndoAnswer> {
    return this.#post(`${sessionPath(sessionId)}/files/restore`, { at_seq: atSeq });
  }

  /** A few titles and messages in which every word occurs; `after` is `following` of the answer before. */
  search(query: string, after?: string): Promise<SearchAnswer> {
    const asked = new URLSearchParams({ q: query, ...(after !== undefined && { after }) });
    return this.#request("GET", `/api/search?${asked}`);
  }

  /** Files a session; what is absent stays as it is. */
  labelSession(sessionId: string, labels: SessionLabels): Promise<SessionSummary> {
    return this.#request("PUT", `${sessionPath(sessionId)}/labels`, labels);
  }

  renameSession(sessionId: string, title: string): Promise<unknown> {
    return this.#request("PATCH", sessionPath(sessionId), { title });
  }

  deleteSession(sessionId: string): Promise<Deleted> {
    return this.#request("DELETE", sessionPath(sessionId));
  }

  answerPermission(sessionId: string, permissionId: string, optionId: string): Promise<unknown> {
    return this.#post(`${sessionPath(sessionId)}/permission`, {
      permission_id: permissionId,
      option_id: optionId,
    });
  }

  answerEgress(sessionId: string, askId: string, answer: string): Promise<unknown> {
    return this.#post(`${sessionPath(sessionId)}/egress/${encodeURIComponent(askId)}`, { answer });
  }

  /** The permission rules that hold for a session: its own and the operator's. */
  rules(sessionId: string): Promise<RuleList> {
    return this.#request("GET", `${sessionPath(sessionId)}/rules`);
  }

  revokeRule(sessionId: string, ruleId: string): Promise<unknown> {
    return this.#request("DELETE", `${sessionPath(sessionId)}/rules/${encodeURIComponent(ruleId)}`);
  }

  answerQuestion(sessionId: string, questionId: string, action: string, content?: unknown): Promise<unknown> {
    const path = `${sessionPath(sessionId)}/questions/${encodeURIComponent(questionId)}`;
    return this.#post(path, content === undefined ? { action } : { action, content });
  }

  chooseOption(sessionId: string, optionId: string, value: string | boolean): Promise<unknown> {
    return this.#post(`${sessionPath(sessionId)}/options`, { option_id: optionId, value });
  }

  queue(sessionId: string, action: "send" | "drop", messageId?: string): Promise<unknown> {
    const body = messageId === undefined ? { action } : { action, message_id: messageId };
    return this.#post(`${sessionPath(sessionId)}/queue`, body);
  }

  /** Changes a message that waits, or its place: before another one, or with "" behind all. */
  changeQueued(sessionId: string, messageId: string, change: { message?: string; before?: string }): Promise<unknown> {
    return this.#request("PATCH", `${sessionPath(sessionId)}/queue/${encodeURIComponent(messageId)}`, change);
  }

  async export(sessionId: string, format: "jsonl" | "markdown"): Promise<Blob> {
    const response = await this.#send("GET", `${sessionPath(sessionId)}/export?format=${format}`);
    return response.blob();
  }

  // -- files --------------------------------------------------------------------------------------------------

  /** The entries of a folder; paths are percent-encoded already, as the gateway gives them. */
  files(sessionId: string, path: string, cursor?: string, depth = 1): Promise<FileListing> {
    const more = cursor === undefined ? "" : `&cursor=${cursor}`;
    return this.#request("GET", `${sessionPath(sessionId)}/files?path=${path}&depth=${depth}${more}`);
  }

  /** The beginning of a text file, and how long all of it is in bytes. */
  async fileText(sessionId: string, path: string, bytesMost: number): Promise<{ text: string; size: number }> {
    const range = { Range: `bytes=0-${bytesMost - 1}` };
    const address = `${sessionPath(sessionId)}/files/content?path=${path}`;
    const response = await this.#send("GET", address, undefined, range).catch((error: unknown) => {
      if (error instanceof ApiError && error.status === 416) return new Response(""); // an empty file
      throw error;
    });
    const text = await response.text();
    const whole = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1];
    return { text, size: whole === undefined ? text.length : Number(whole) };
  }

  /** All of a file. */
  async fileBytes(sessionId: string, path: string): Promise<ArrayBuffer> {
    const response = await this.#send("GET", `${sessionPath(sessionId)}/files/content?path=${path}`);
    return response.arrayBuffer();
  }

  /** A short-lived address of one file, which needs no credentials. */
  async fileLink(sessionId: string, path: string, kind: "preview" | "download"): Promise<FileLink> {
    const link = await this.#post<FileLink>(`${sessionPath(sessionId)}/files/link`, { path, kind });
    return { ...link, url: this.#config.baseUrl + link.url };
  }

  /** A folder as a zip, for a browser to download. */
  archiveUrl(sessionId: string, path: string): string {
    return this.#config.baseUrl + this.#withVisitor(`${sessionPath(sessionId)}/files/archive?path=${path}`);
  }

  fileUrl(sessionId: string, path: string): string {
    return this.#config.baseUrl + this.#withVisitor(`${sessionPath(sessionId)}/files/content?path=${path}`);
  }

  /** The ports at which the session's agent has started servers. */
  ports(sessionId: string): Promise<OpenPorts> {
    return this.#request("GET", `${sessionPath(sessionId)}/ports`);
  }

  /** Where a browser opens one; the gateway leads it to an origin of its own. */
  portUrl(port: OpenPort): string {
    return this.#config.baseUrl + this.#withVisitor(port.url);
  }

  fileWatchUrl(sessionId: string): string {
    return `${this.#config.baseUrl}${sessionPath(sessionId)}/files/watch`;
  }

  /** What the turn that this event ended has changed. */
  fileChanges(sessionId: string, turn: number): Promise<FileChanges> {
    return this.#request("GET", `${sessionPath(sessionId)}/files/changes?turn=${turn}`);
  }

  /** For an address that a browser opens by itself, without headers. */
  #withVisitor(address: string): string {
    const token = this.#visitor?.storage.getItem(this.#visitor.key);
    return token ? `${address}&${new URLSearchParams({ visitor: token })}` : address;
  }

  counts(): Promise<Counts> {
    return this.#request("GET", "/api/sessions/count");
  }

  async agents(): Promise<AgentSummary[]> {
    const answer = await this.#request<AgentList>("GET", "/api/agents");
    return answer.agents;
  }

  /** The repositories that a session may start from. */
  async workspaces(): Promise<WorkspaceSummary[]> {
    return (await this.#request<WorkspaceList>("GET", "/api/workspaces")).workspaces ?? [];
  }

  /** What a session changed since it started from a repository. */
  async changes(sessionId: string, kind: "diff" | "patch"): Promise<Blob> {
    const response = await this.#send("GET", `${sessionPath(sessionId)}/changes.${kind}`);
    return response.blob();
  }

  pushBranch(sessionId: string, name: string, message: string): Promise<BranchPushed> {
    return this.#post(`${sessionPath(sessionId)}/branch`, { name, ...(message && { message }) });
  }

  /** A route of an application, from the gateway's root: `/api/…`. */
  call<T>(method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> {
    return this.#request(method, path, body);
  }

  // -- files --------------------------------------------------------------------------------------------------

  /** A free path for a file of this name. */
  freePath(sessionId: string, name: string, size: number): Promise<UploadedFile> {
    const query = new URLSearchParams({ name, size: String(size) });
    return this.#request("GET", `${sessionPath(sessionId)}/uploads?${query}`);
  }

  /** How much has arrived of an upload that was cut. */
  uploaded(sessionId: string, path: string, size: number): Promise<UploadedFile> {
    const query = new URLSearchParams({ path, size: String(size) });
    return this.#request("GET", `${sessionPath(sessionId)}/uploads?${query}`);
  }

  /** One part of a file, from byte `start` on. */
  async uploadPart(sessionId: string, path: string, part: Blob, place: FilePart): Promise<UploadedFile> {
    const query = new URLSearchParams({ path });
    const { start, size, signal } = place;
    const range = `bytes ${start}-${start + part.size - 1}/${size}`;
    const headers = { ...(size > 0 && { "Content-Range": range }), "If-None-Match": "*" };
    const url = `${sessionPath(sessionId)}/files/content?${query}`;
    const response = await this.#send("PUT", url, part, headers, signal);
    return (await response.json()) as UploadedFile;
  }

  /** Where an uploaded file is read from; null if it is not among the uploads. */
  uploadUrl(sessionId: string, path: string): string | null {
    const name = /^uploads\/([^/]+)$/.exec(path)?.[1];
    if (name === undefined) return null;
    return `${this.#config.baseUrl}${sessionPath(sessionId)}/uploads/${encodeURIComponent(name)}`;
  }

  // -- who ----------------------------------------------------------------------------------------------------

  /** With the headers of a browser's own: the chat page has it asked for this address before its scripts are here. */
  authState(): Promise<AuthState> {
    return this.#request("GET", "/api/auth", undefined, { Accept: "*/*" });
  }

  signIn(key: string, keepShares = false): Promise<Me> {
    return this.#post("/api/auth/sign-in", { key, ...(keepShares && { keep_shares: true }) });
  }

  signOut(everywhere: boolean): Promise<void> {
    return this.#post("/api/auth/sign-out", { everywhere });
  }

  /** Where signing in with the provider begins; it comes back to the path `next`. */
  providerUrl(next: string, keepShares = false): string {
    const query = new URLSearchParams({ next, ...(keepShares && { keep_shares: "true" }) });
    return `${this.#config.baseUrl}/api/auth/oidc/start?${query}`;
  }

  /** The same for a person whose sign-in has to be confirmed: the provider asks them nothing. */
  confirmUrl(next: string): string {
    return `${this.providerUrl(next)}&silent=true`;
  }

  handOver(): Promise<Handover> {
    return this.#post("/api/auth/handover", {});
  }

  claim(token: string, keepShares = false): Promise<Me> {
    return this.#post("/api/auth/handover/claim", { token, ...(keepShares && { keep_shares: true }) });
  }

  // -- keys of one's own ---------------------------------------------------------------------------------------

  /** Which may be set, and which are; never the keys. */
  async ownKeys(): Promise<OwnKeySummary[]> {
    return (await this.#request<OwnKeyList>("GET", "/api/me/keys")).keys;
  }

  setOwnKey(name: string, key: string): Promise<OwnKeySummary> {
    return this.#request("PUT", `/api/me/keys/${encodeURIComponent(name)}`, { key });
  }

  removeOwnKey(name: string): Promise<OwnKeySummary> {
    return this.#request("DELETE", `/api/me/keys/${encodeURIComponent(name)}`);
  }

  // -- links --------------------------------------------------------------------------------------------------

  /** Without `hours` the link is good until it is revoked. */
  share(sessionId: string, kind: NewShare["kind"], hours?: number): Promise<NewShare> {
    return this.#post(`${sessionPath(sessionId)}/shares`, { kind, ...(hours !== undefined && { hours }) });
  }

  async shares(sessionId: string): Promise<ShareSummary[]> {
    const answer = await this.#request<ShareList>("GET", `${sessionPath(sessionId)}/shares`);
    return answer.shares;
  }

  revokeShare(sessionId: string, shareId: string): Promise<unknown> {
    return this.#request("DELETE", `${sessionPath(sessionId)}/shares/${encodeURIComponent(shareId)}`);
  }

  /** The log of the session that a link leads to. */
  sharedStreamUrl(token: string, after: number, who: GuestNames, last?: number): string {
    const query = new URLSearchParams({ view: "events", after: String(after), ...who });
    if (last !== undefined) query.set("last", String(last));
    return `${this.#config.baseUrl}${sharedPath(token)}/stream?${query}`;
  }

  sharedHistory(token: string, before: number, last: number, who: GuestNames): Promise<HistoryPage> {
    const query = new URLSearchParams({ before: String(before), last: String(last), ...who });
    return this.#request("GET", `${sharedPath(token)}/history?${query}`);
  }

  /** What a link allows, and who its holder is. */
  sharedLink(token: string, who: GuestNames): Promise<SharedLink> {
    return this.#request("GET", `${sharedPath(token)}/link?${new URLSearchParams({ ...who })}`);
  }

  /** Does something by a link. */
  shared(token: string, who: GuestNames, verb: string, body: unknown = {}, key?: string): Promise<MinimalAnswer> {
    const path = `${sharedPath(token)}/${verb}?${new URLSearchParams({ ...who })}`;
    return this.#post(path, body, { ...BRIEF, ...(key !== undefined && { "Idempotency-Key": key }) });
  }

  // -- watching -----------------------------------------------------------------------------------------------

  /** What one's own sessions used in the last thirty days, by `day`, `session`, `agent`, `provider`, `model`. */
  usage(by: string): Promise<UsageReport> {
    return this.#request("GET", `/api/usage?by=${encodeURIComponent(by)}`);
  }

  /** What everybody used. */
  allUsage(by: string): Promise<UsageReport> {
    return this.#request("GET", `/api/admin/usage?by=${encodeURIComponent(by)}`);
  }

  /** The same as a table, for a browser to download. */
  usageTableUrl(by: string): string {
    return `${this.#config.baseUrl}/api/admin/usage?${new URLSearchParams({ by, format: "csv" })}`;
  }

  overview(): Promise<Overview> {
    return this.#request("GET", "/api/admin/overview");
  }

  watchedSessions(): Promise<WatchedSessions> {
    return this.#request("GET", "/api/admin/sessions?limit=200");
  }

  refusedHosts(): Promise<RefusedHostTable> {
    return this.#request("GET", "/api/admin/egress");
  }

  people(): Promise<PeopleList> {
    return this.#request("GET", "/api/admin/people?limit=100");
  }

  /** Stops an idle session's worker, or ends it whatever it does; `key` is the internal one. */
  endWorker(key: string, how: "park" | "kill"): Promise<Acted> {
    return this.#post(`/api/admin/sessions/${encodeURIComponent(key)}/${how}`, {});
  }

  drain(): Promise<DrainBegun> {
    return this.#post("/api/admin/drain", {});
  }

  // -- streams ------------------------------------------------------------------------------------------------

  /**
   * The address of a session's stream: its event log, or without `after` whole States. `last`: a stream that begins
   * anew begins with so many messages, the last ones.
   */
  streamUrl(sessionId: string, after?: number, last?: number): string {
    const query = new URLSearchParams({ session_id: sessionId });
    if (after !== undefined) {
      query.set("view", "events");
      query.set("after", String(after));
    }
    if (last !== undefined) query.set("last", String(last));
    return `${this.#config.baseUrl}/api/chat/stream?${query}`;
  }

  /** The same for an EventSource, which sends no headers: the address carries a visitor's token. */
  eventSourceUrl(sessionId: string): string | Promise<string> {
    const url = this.streamUrl(sessionId);
    const visitor = this.#visitor;
    if (visitor === null) return url;
    return this.authState().then(() => {
      const token = visitor.storage.getItem(visitor.key);
      return token === null ? url : `${url}&${new URLSearchParams({ visitor: token })}`;
    });
  }

  headers(): Record<string, string> {
    return this.#config.headers?.() ?? {};
  }

  /** A stream was refused for want of a credential. */
  unauthorized(): void {
    this.#config.onUnauthorized?.();
  }

  /** A stream ended because its session has moved. */
  moved(): void {
    this.#config.onMoved?.();
  }

  #post<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
    return this.#request("POST", path, body, headers);
  }

  async #request<T>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<T> {
    const response = await this.#send(method, path, body, headers);
    if (response.status === 204) return undefined as T;
    try {
      return (await response.json()) as T;
    } catch {
      throw new ApiError(response.status, "not_json", "The gateway's answer could not be read.");
    }
  }

  async #send(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    const sent: Record<string, string> = { Accept: "application/json", ...this.headers(), ...headers };
    if (this.csrfToken !== null && !SAFE.has(method)) sent["X-CSRF-Token"] = this.csrfToken;
    const init: RequestInit = { method, headers: sent, ...(signal && { signal }) };
    if (body instanceof Blob) init.body = body;
    else if (body !== undefined) {
      sent["Content-Type"] = "application/json";
      init.body = JSON.stringify(body);
    }
    let response: Response;
    try {
      response = await this.fetch(this.#config.baseUrl + path, init);
    } catch {
      throw new ApiError(0, "unreachable", "The gateway cannot be reached.");
    }
    hearDate(response.headers.get("Date"));
    if (response.ok) return response;
    const error = await errorOf(response);
    if (error.status === 401 && error.code !== SIGN_IN_FAILED) this.unauthorized();
    throw error;
  }
}

/** The one 401 that says nothing about who is here already. */
const SIGN_IN_FAILED = "sign_in_failed";

function sharedPath(token: string): string {
  return `/api/shared/${encodeURIComponent(token)}`;
}

function sessionPath(sessionId: string): string {
  return `/api/sessions/${encodeURIComponent(sessionId)}`;
}

async function errorOf(response: Response): Promise<ApiError> {
  const retry = retryAfterMs(response.headers.get("Retry-After"), Infinity);
  let body: { error?: Partial<ErrorBody["error"]>; request_id?: string } = {};
  try {
    body = (await response.json()) as typeof body;
  } catch {
    // A proxy's page; the status says enough.
  }
  const code = body.error?.code ?? `http_${response.status}`;
  const message = body.error?.message ?? `The gateway answered ${response.status}.`;
  const { limit, used, allowed } = body.error ?? {};
  const quota = limit && used !== undefined && allowed !== undefined ? { limit, used, allowed } : null;
  return new ApiError(response.status, code, message, body.request_id ?? null, retry, quota);
}
