/** What operators watch: the gateway's figures, polled, with a history for charts. No DOM, no framework. */

import {
  type Api,
  ApiError,
  type Clock,
  type GatewayHealth,
  type Overview,
  type RefusedHostRow,
  Subscribable,
  type WatchedSession,
} from "../core/index.ts";
import * as admin from "./admin.ts";
import { Series } from "./history.ts";

export const MONITOR_POLL_MS = 2000;
/** The health is asked for in every so many rounds. */
const HEALTH_ROUNDS = 5;
export const NO_FILTER: admin.SessionFilter = { q: "", state: "", agent: "", tenant: "" };

/** What there is to choose from when sessions are filtered. */
export interface SessionChoices {
  agents: readonly string[];
  tenants: readonly string[];
  states: Readonly<Record<string, number>>;
}

export class Monitor extends Subscribable {
  overview: Overview | null = null;
  health: GatewayHealth | null = null;
  sessions: WatchedSession[] = [];
  total = 0;
  choices: SessionChoices = { agents: [], tenants: [], states: {} };
  refused: RefusedHostRow[] = [];
  /** What the caller may do; empty until it is known. */
  scopes: readonly string[] = [];
  error: ApiError | null = null;
  filter: admin.SessionFilter = NO_FILTER;
  readonly series = new Series();
  readonly #api: Api;
  readonly #clock: Clock;
  #cancel: () => void = () => undefined;
  #isStopped = true;
  #rounds = 0;

  constructor(api: Api, clock: Clock) {
    super();
    this.#api = api;
    this.#clock = clock;
  }

  /** True once the gateway has let this caller see anything. */
  get isKnown(): boolean {
    return this.#rounds > 0;
  }

  /** Seconds since 1970. */
  get now(): number {
    return this.#clock.now() / 1000;
  }

  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    void this.#round();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** Shows other sessions from now on. */
  async choose(filter: admin.SessionFilter): Promise<void> {
    this.filter = filter;
    this.changed();
    try {
      this.#show(await admin.watched(this.#api, filter), filter);
    } catch {
      return; // the next round says why
    }
    this.changed();
  }

  /** Reads everything now; a failure is kept to be shown, and the next round tries again. */
  async refresh(): Promise<void> {
    const filter = this.filter;
    try {
      const [overview, watched, refused] = await Promise.all([
        this.#api.overview().catch((error: unknown) => this.#withoutOverview(error)),
        admin.watched(this.#api, filter),
        this.#api.refusedHosts(),
      ]);
      this.#show(watched, filter);
      this.refused = refused.hosts;
      this.error = null;
      if (this.#rounds++ % HEALTH_ROUNDS === 0) await this.#readHealth();
      if (overview) {
        this.overview = overview;
        this.series.add(this.now, overview, this.#errorRate());
      }
    } catch (error) {
      this.error = error instanceof ApiError ? error : new ApiError(0, "error", String(error));
    }
    this.changed();
  }

  #show(watched: Awaited<ReturnType<typeof admin.watched>>, filter: admin.SessionFilter): void {
    if (filter !== this.filter) return; // somebody has typed on meanwhile
    this.sessions = watched.sessions;
    this.total = watched.total;
    const { agents = [], tenants = [], states = {} } = watched;
    this.choices = { agents, tenants, states };
  }

  /** Operators of one tenant see its sessions, and nothing of the whole gateway. */
  #withoutOverview(error: unknown): null {
    if (error instanceof ApiError && error.status === 403 && this.overview === null) return null;
    throw error;
  }

  /** What an older gateway does not know costs nothing else. */
  async #readHealth(): Promise<void> {
    this.health = await admin.health(this.#api).catch(() => this.health);
    if (this.#rounds > 1) return;
    const [history, auth] = await Promise.all([
      admin.history(this.#api).catch(() => null),
      this.#api.authState().catch(() => null),
    ]);
    if (history) this.series.restore(history);
    this.scopes = auth?.me?.scopes ?? [];
  }

  #errorRate(): number | null {
    return this.health === null ? null : this.health.failed_answers / 5;
  }

  async #round(): Promise<void> {
    await this.refresh();
    if (!this.#isStopped) this.#cancel = this.#clock.after(MONITOR_POLL_MS, () => void this.#round());
  }
}
