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
