/**
 * How much is drawn at a time, so that the page answers to its reader whatever an agent said.
 *
 * Guarantees: between two frames no more is admitted than MOST_WEIGHT characters and, but for the last piece, MOST_MS
 * of making them; what waits is admitted in the order in which it asked; one piece a frame is always admitted.
 */

/** Characters whose layout takes a few milliseconds. */
export const MOST_WEIGHT = 16_000;
const MOST_MS = 8;

export interface FrameClock {
  now(): number;
  /** Calls once a frame was drawn, or soon where none are. */
  afterFrame(call: () => void): void;
}

interface Waiting {
  weight: number;
  go(): void;
}

export class Slices {
  readonly #clock: FrameClock;
  #queue: Waiting[] = [];
  #spent = 0;
  #began = 0;
  #isArmed = false;

  constructor(clock: FrameClock) {
    this.#clock = clock;
  }

  /** True if so many characters may be drawn before the next frame. */
  admits(weight: number): boolean {
    if (this.#spent > 0) {
      if (this.#spent + weight > MOST_WEIGHT || this.#clock.now() - this.#began > MOST_MS) return false;
    } else {
      this.#began = this.#clock.now();
    }
    this.#spent += Math.max(1, weight);
    this.#arm();
    return true;
  }

  /** Calls once so much was admitted. What is returned takes that back. */
  later(weight: number, go: () => void): () => void {
    const waiting = { weight, go };
    this.#queue.push(waiting);
    this.#arm();
    return () => {
      this.#queue = this.#queue.filter((one) => one !== waiting);
    };
  }

  #arm(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    this.#clock.afterFrame(() => this.#frame());
  }

  #frame(): void {
    this.#isArmed = false;
    this.#spent = 0;
    let next = this.#queue[0];
    while (next && this.admits(next.weight)) {
      this.#queue.shift();
      next.go();
      next = this.#queue[0];
    }
    if (next) this.#arm();
  }
}

/** A hidden tab is given no frames. */
const NO_FRAME_MS = 150;

export const slices = new Slices({
  now: () => performance.now(),
  afterFrame: (call) => {
    let isDue = true;
    const once = (): void => {
      if (!isDue) return;
      isDue = false;
      call();
    };
    // Behind the frame's own layout, in a task of its own.
    requestAnimationFrame(() => setTimeout(once));
    setTimeout(once, NO_FRAME_MS);
  },
});
