/**
 * How much is drawn at a time, so that the page answers to its reader whatever an agent said.
 *
 * Guarantees: between two frames no more is admitted than MOST_WEIGHT characters and, but for the last piece, twice as much
 * time of making them as the browser took for the frame before (LEAST_MS to MOST_MS): where frames are expensive, few of
 * them are made; what waits is admitted by its rank, and in the order in which it asked; one piece a frame is always
 * admitted.
 */

/** Characters whose layout takes a few milliseconds. */
export const MOST_WEIGHT = 16_000;
export const LEAST_MS = 8;
export const MOST_MS = 40;
/** What is drawn may be less tall than was thought, and then more is in sight. */
const ROUNDS = 4;
/** Behind everything that is drawn. */
export const LAST = Number.POSITIVE_INFINITY;

export interface FrameClock {
  now(): number;
  /** Calls once a frame was drawn, with the milliseconds that this took, or soon where none are. */
  afterFrame(call: (took: number) => void): void;
  /** Calls once what was changed is on the page: only then it is known how long that took. */
  afterChange(call: () => void): void;
}

interface Waiting {
  weight: number;
  rank: number;
  go(): void;
}

export class Slices {
  /** True while what is drawn is before the reader in the next frame: what is not admitted is shown as plain text. */
  isHurried = false;
  readonly #clock: FrameClock;
  #queue: Waiting[] = [];
  #spent = 0;
  #began = 0;
  #most = LEAST_MS;
  #isArmed = false;

  constructor(clock: FrameClock) {
    this.#clock = clock;
  }

  /** True if so many characters may be drawn before the next frame. */
  admits(weight: number): boolean {
    if (this.#spent > 0) {
      if (this.#spent + weight > MOST_WEIGHT || this.#clock.now() - this.#began > this.#most) return false;
    } else {
      this.#began = this.#clock.now();
    }
    this.#spent += Math.max(1, weight);
    this.#arm();
    return true;
  }

  /**
   * The reader is somewhere else at once, where nothing is drawn. `look` says whether it found something that has to be
   * drawn there before the next frame; it looks again once that is on the page, ROUNDS times at most.
   */
  hurry(look: () => boolean, rounds = ROUNDS): void {
    this.#most = LEAST_MS; // its plain text is there at once
    this.isHurried = true;
    const isMore = look() && rounds > 1;
    this.#clock.afterChange(() => {
      this.isHurried = false;
      if (isMore) this.hurry(look, rounds - 1);
    });
  }

  /** Calls once so much was admitted, a lower rank first. What is returned takes that back. */
  later(weight: number, go: () => void, rank = 0): () => void {
    const waiting = { weight, go, rank };
    const place = this.#queue.findIndex((one) => one.rank > rank);
    this.#queue.splice(place < 0 ? this.#queue.length : place, 0, waiting);
    this.#arm();
    return () => {
      this.#queue = this.#queue.filter((one) => one !== waiting);
    };
  }

  #arm(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    this.#clock.afterFrame((took) => this.#frame(took));
  }

  #frame(took: number): void {
    this.#isArmed = false;
    this.#spent = 0;
    this.#most = Math.min(MOST_MS, Math.max(LEAST_MS, 2 * took));
    this.#next();
  }

  #next(): void {
    const next = this.#queue[0];
    if (!next) return;
    if (!this.admits(next.weight)) return this.#arm();
    this.#queue.shift();
    next.go();
    this.#clock.afterChange(() => this.#next());
  }
}

/** A hidden tab is given no frames. */
const NO_FRAME_MS = 150;

export const slices = new Slices({
  now: () => performance.now(),
  afterFrame: (call) => {
    let isDue = true;
    const once = (took: number): void => {
      if (!isDue) return;
      isDue = false;
      call(took);
    };
    // Behind the frame's own layout, in a task of its own.
    requestAnimationFrame(() => {
      const began = performance.now();
      setTimeout(() => once(performance.now() - began));
    });
    setTimeout(() => once(0), NO_FRAME_MS);
  },
  // Components are drawn in a microtask that was asked for before this one.
  afterChange: (call) => queueMicrotask(call),
});
