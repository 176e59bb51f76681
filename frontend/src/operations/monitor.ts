/** What operators watch: the gateway's figures, polled, with a history for charts. No DOM, no framework. */

import {
  type Api,
  ApiError,
  type Clock,
  type Overview,
  type RefusedHostRow,
  Subscribable,
  type WatchedSession,
} from "../core/index.ts";

export const MONITOR_POLL_MS = 2000;
/** Half an hour of polling. */
export const HISTORY_MOST = 900;

/** A column for each line of a chart; `null` where nothing was known. */
export type Column = (number | null)[];

/** The lines that are drawn, by name. */
export const LINES = {
  sessions: (o: Overview) => o.sessions,
  workers: (o: Overview) => o.workers,
  turns: (o: Overview) => o.turns_running,
  starts: (o: Overview) => o.starts_per_minute,
  turnRate: (o: Overview) => o.turns_per_minute,
  startP50: (o: Overview) => milliseconds(o.start_p50_seconds),
  startP99: (o: Overview) => milliseconds(o.start_p99_seconds),
  firstP50: (o: Overview) => milliseconds(o.first_token_p50_seconds),
  firstP99: (o: Overview) => milliseconds(o.first_token_p99_seconds),
  workerMemory: (o: Overview) => o.worker_memory_bytes / 1e6,
  gatewayMemory: (o: Overview) => o.gateway_memory_bytes / 1e6,
} as const;
export type Line = keyof typeof LINES;

function milliseconds(seconds: number | null): number | null {
  return seconds === null ? null : seconds * 1000;
}

export class Monitor extends Subscribable {
  overview: Overview | null = null;
  sessions: WatchedSession[] = [];
  total = 0;
  refused: RefusedHostRow[] = [];
  error: ApiError | null = null;
  readonly times: number[] = [];
  readonly columns = Object.fromEntries(Object.keys(LINES).map((name) => [name, []])) as unknown as Record<
    Line,
    Column
  >;
  readonly #api: Api;
  readonly #clock: Clock;
  #cancel: () => void = () => undefined;
  #isStopped = true;

  constructor(api: Api, clock: Clock) {
    super();
    this.#api = api;
    this.#clock = clock;
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

  /** Reads everything now; a failure is kept to be shown, and the next round tries again. */
  async refresh(): Promise<void> {
    try {
      const [overview, watched, refused] = await Promise.all([
        this.#api.overview(),
        this.#api.watchedSessions(),
        this.#api.refusedHosts(),
      ]);
      this.overview = overview;
      this.sessions = watched.sessions;
      this.total = watched.total;
      this.refused = refused.hosts;
      this.error = null;
      this.#keep(overview);
    } catch (error) {
      this.error = error instanceof ApiError ? error : new ApiError(0, "error", String(error));
    }
    this.changed();
  }

  async #round(): Promise<void> {
    await this.refresh();
    if (!this.#isStopped) this.#cancel = this.#clock.after(MONITOR_POLL_MS, () => void this.#round());
  }

  #keep(overview: Overview): void {
    this.times.push(this.#clock.now() / 1000);
    for (const [name, of] of Object.entries(LINES)) this.columns[name as Line].push(of(overview));
    if (this.times.length <= HISTORY_MOST) return;
    this.times.shift();
    for (const column of Object.values(this.columns)) column.shift();
  }
}
