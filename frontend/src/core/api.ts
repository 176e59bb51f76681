/** The gateway's HTTP verbs, typed. Every failure is an ApiError; nothing else is thrown but an abort. */

import type { State } from "./events.ts";
import { newId } from "./ids.ts";
import type { Overview, WatchedSession } from "./operations.ts";
import { retryAfterMs } from "./stream.ts";

export interface SessionRow {
  session_id: string;
  title: string | null;
  state: string;
  agent: string | null;
  created_at: string;
  last_active_at: string;
  messages: number;
}

export interface AgentRow {
  name: string;
  title?: string | null;
  is_default: boolean;
  missing_api_key: boolean;
}

export interface SessionCounts {
  active_sessions: number;
  live: number;
  parked: number;
}

export interface DeleteReceipt {
  session_id: string;
  deleted: boolean;
  receipt?: { processes: number; survivors: number; bytes_freed: number; milliseconds: number } | null;
}

export interface CommandAnswer {
  success: boolean;
  message: string;
  data: unknown;
}

export interface ApiConfig {
  /** Where the gateway is; "" is this page's own origin. */
  baseUrl: string;
  fetch?: typeof fetch;
  /** Headers of every request, a credential for example. */
  headers?(): Record<string, string>;
}

/** What the gateway (or the network, with status 0 and code `unreachable`) answered instead of a result. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string | null = null,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message);
  }
}

export class Api {
  readonly #config: ApiConfig;
  readonly #fetch: typeof fetch;

  constructor(config: ApiConfig) {
    this.#config = { ...config, baseUrl: config.baseUrl.replace(/\/+$/, "") };
    this.#fetch = config.fetch ?? globalThis.fetch.bind(globalThis);
  }

  /** The same key and body never run a second turn, so a send may be tried again. */
  chat(sessionId: string, message: string, idempotencyKey: string = newId()): Promise<State> {
    const body = { message, session_id: sessionId };
    return this.#post("/api/chat", body, { "Idempotency-Key": idempotencyKey });
  }

  state(sessionId: string): Promise<State> {
    return this.#request("GET", `/api/state?session_id=${encodeURIComponent(sessionId)}`);
  }

  interrupt(sessionId: string): Promise<State> {
    return this.#post("/api/interrupt", { session_id: sessionId });
  }

  system(sessionId: string, message: string): Promise<State> {
    return this.#post("/api/system", { message, session_id: sessionId });
  }

  command(sessionId: string, command: string, args: Record<string, unknown>): Promise<CommandAnswer> {
    return this.#post("/api/mcp-command", { command, args, session_id: sessionId });
  }

  async sessions(): Promise<SessionRow[]> {
    const answer = await this.#request<{ sessions: SessionRow[] }>("GET", "/api/sessions");
    return answer.sessions;
  }

  createSession(wanted: { agent?: string; session_id?: string }): Promise<{ session_id: string; agent: string }> {
    return this.#post("/api/sessions", wanted);
  }

  renameSession(sessionId: string, title: string): Promise<unknown> {
    return this.#request("PATCH", sessionPath(sessionId), { title });
  }

  deleteSession(sessionId: string): Promise<DeleteReceipt> {
    return this.#request("DELETE", sessionPath(sessionId));
  }

  answerPermission(sessionId: string, permissionId: string, optionId: string): Promise<unknown> {
    return this.#post(`${sessionPath(sessionId)}/permission`, {
      permission_id: permissionId,
      option_id: optionId,
    });
  }

  queue(sessionId: string, action: "send" | "drop", messageId?: string): Promise<unknown> {
    const body = messageId === undefined ? { action } : { action, message_id: messageId };
    return this.#post(`${sessionPath(sessionId)}/queue`, body);
  }

  async export(sessionId: string, format: "jsonl" | "markdown"): Promise<Blob> {
    const response = await this.#send("GET", `${sessionPath(sessionId)}/export?format=${format}`);
    return response.blob();
  }

  counts(): Promise<SessionCounts> {
    return this.#request("GET", "/api/sessions/count");
  }

  async agents(): Promise<AgentRow[]> {
    const answer = await this.#request<{ agents: AgentRow[] }>("GET", "/api/agents");
    return answer.agents;
  }

  overview(): Promise<Overview> {
    return this.#request("GET", "/api/admin/overview");
  }

  watchedSessions(): Promise<{ sessions: WatchedSession[]; total: number }> {
    return this.#request("GET", "/api/admin/sessions?limit=200");
  }

  /** Stops an idle session's worker, or ends it whatever it does; `key` is the internal one. */
  endWorker(key: string, how: "park" | "kill"): Promise<{ state: string; had_worker: boolean }> {
    return this.#post(`/api/admin/sessions/${encodeURIComponent(key)}/${how}`, {});
  }

  drain(): Promise<{ grace_seconds: number }> {
    return this.#post("/api/admin/drain", {});
  }

  /** The address of a session's stream: its event log, or without `view` whole States. */
  streamUrl(sessionId: string, after?: number): string {
    const query = new URLSearchParams({ session_id: sessionId });
    if (after !== undefined) {
      query.set("view", "events");
      query.set("after", String(after));
    }
    return `${this.#config.baseUrl}/api/chat/stream?${query}`;
  }

  headers(): Record<string, string> {
    return this.#config.headers?.() ?? {};
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
  ): Promise<Response> {
    const init: RequestInit = { method, headers: { Accept: "application/json", ...this.headers(), ...headers } };
    if (body !== undefined) {
      init.headers = { ...init.headers, "Content-Type": "application/json" };
      init.body = JSON.stringify(body);
    }
    let response: Response;
    try {
      response = await this.#fetch(this.#config.baseUrl + path, init);
    } catch {
      throw new ApiError(0, "unreachable", "The gateway cannot be reached.");
    }
    if (!response.ok) throw await errorOf(response);
    return response;
  }
}

function sessionPath(sessionId: string): string {
  return `/api/sessions/${encodeURIComponent(sessionId)}`;
}

async function errorOf(response: Response): Promise<ApiError> {
  const retry = retryAfterMs(response.headers.get("Retry-After"));
  let body: { error?: { code?: string; message?: string }; request_id?: string } = {};
  try {
    body = (await response.json()) as typeof body;
  } catch {
    // A proxy's page; the status says enough.
  }
  const code = body.error?.code ?? `http_${response.status}`;
  const message = body.error?.message ?? `The gateway answered ${response.status}.`;
  return new ApiError(response.status, code, message, body.request_id ?? null, retry);
}
