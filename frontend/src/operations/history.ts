/** The lines of the charts: a day by the minute from the gateway, then what is polled here. No DOM, no framework. */

import type { Overview, OverviewHistory } from "../core/index.ts";

/** Half an hour of polling. */
export const HISTORY_MOST = 900;
const MINUTE_SECONDS = 60;
/** A time axis is never shorter. */
const SHORTEST_SECONDS = 10 * 60;
const MINUTES_MOST = 24 * 60;

/** A column for each line of a chart; `null` where nothing was known. */
export type Column = (number | null)[];

/** The lines that are drawn: the name of each on the wire, and by what it is multiplied to be drawn. */
export const LINES = {
  sessions: ["sessions", 1],
  workers: ["workers", 1],
  turns: ["turns_running", 1],
  starts: ["starts_per_minute", 1],
  turnRate: ["turns_per_minute", 1],
  errors: ["errors_per_minute", 1],
  startP50: ["start_p50_seconds", 1000],
  startP99: ["start_p99_seconds", 1000],
  firstP50: ["first_token_p50_seconds", 1000],
  firstP99: ["first_token_p99_seconds", 1000],
  workerMemory: ["worker_memory_bytes", 1e-6],
  gatewayMemory: ["gateway_memory_bytes", 1e-6],
} as const;
export type Line = keyof typeof LINES;
const NAMES = Object.keys(LINES) as Line[];

/** What is drawn: the times, and a column for each line; the time axis goes from `from` to `to`. */
export interface ChartData {
  from: number;
  to: number;
  times: number[];
  columns: Record<Line, Column>;
}

interface Point {
  at: number;
  values: Column;
}

export class Series {
  /** By the minute, the oldest first; a hole is a point without values. */
  #minutes: Point[] = [];
  #polled: Point[] = [];
  #lastMinute = 0;

  /** Takes over what the gateway has kept. */
  restore(history: OverviewHistory): void {
    const step = history.step_seconds || MINUTE_SECONDS;
    this.#minutes = [];
    history.at.forEach((milliseconds, index) => {
      const at = milliseconds / 1000;
      const before = this.#minutes.at(-1)?.at ?? at;
      if (at - before > 3 * step) this.#minutes.push({ at: before + step, values: NAMES.map(() => null) });
      const values = NAMES.map((name) => drawn(history.lines[LINES[name][0]]?.[index], name));
      this.#minutes.push({ at, values });
    });
    this.#lastMinute = this.#minutes.at(-1)?.at ?? this.#lastMinute;
  }

  /** Adds what was polled; `errors` are failed answers a minute, if that is known. */
  add(at: number, overview: Overview, errors: number | null): void {
    const now = { ...overview, errors_per_minute: errors } as unknown as Record<string, number | null>;
    if (this.#minutes.length + this.#polled.length === 0) this.#lastMinute = at;
    this.#polled.push({ at, values: NAMES.map((name) => drawn(now[LINES[name][0]], name)) });
    while (this.#polled.length > HISTORY_MOST) this.#thin(this.#polled.shift());
  }

  /** Seconds since 1970, growing. */
  get times(): number[] {
    return this.#points(-Infinity).map((point) => point.at);
  }

  get columns(): Record<Line, Column> {
    return columnsOf(this.#points(-Infinity));
  }

  /** What is drawn of the time since `from`; of a gateway that is younger, since it began. */
  since(from: number, to: number): ChartData {
    const points = this.#points(from);
    const times = points.map((point) => point.at);
    const began = Math.min(times[0] ?? to, to - SHORTEST_SECONDS);
    return { from: Math.max(from, began), to, times, columns: columnsOf(points) };
  }

  #points(from: number): Point[] {
    const first = this.#polled[0]?.at ?? Infinity;
    const minutes = this.#minutes.filter((point) => point.at < first);
    return [...minutes, ...this.#polled].filter((point) => point.at >= from);
  }

  /** Of what is too old to be kept as it was polled, one point a minute stays. */
  #thin(point: Point | undefined): void {
    if (!point || point.at - this.#lastMinute < MINUTE_SECONDS) return;
    this.#lastMinute = point.at;
    this.#minutes.push(point);
    if (this.#minutes.length > MINUTES_MOST) this.#minutes.shift();
  }
}

function columnsOf(points: readonly Point[]): Record<Line, Column> {
  return Object.fromEntries(
    NAMES.map((name, index) => [name, points.map((point) => point.values[index] ?? null)]),
  ) as unknown as Record<Line, Column>;
}

function drawn(value: number | null | undefined, name: Line): number | null {
  return typeof value === "number" ? value * LINES[name][1] : null;
}
