/** Time as the core sees it; a test hands in its own. */

export interface Clock {
  now(): number;
  /** Calls back once, later; the answer cancels it. */
  after(milliseconds: number, call: () => void): () => void;
  random(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(milliseconds, call) {
    const timer = setTimeout(call, milliseconds);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

/** Tells if the page is on screen. A hidden page gives its connection back: a browser has six for one origin. */
export interface Visibility {
  isHidden(): boolean;
  /** Calls back on each change; the answer ends that. */
  onChange(call: () => void): () => void;
}

export const alwaysVisible: Visibility = { isHidden: () => false, onChange: () => () => undefined };

/** Less than this is the network's time, or does not matter. */
const SKEW_LEAST_MS = 60_000;
let gatewayAheadMs = 0;

/** Takes the `Date` of an answer of the gateway's: this machine's clock may be wrong, or be set anew. */
export function hearDate(date: string | null): void {
  const ahead = Date.parse(date ?? "") - Date.now();
  if (Number.isFinite(ahead)) gatewayAheadMs = Math.abs(ahead) < SKEW_LEAST_MS ? 0 : ahead;
}

/** The time by the gateway's clock, with which its moments are compared. */
export function gatewayNow(): number {
  return Date.now() + gatewayAheadMs;
}
