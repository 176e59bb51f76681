import { expect, it } from "vitest";
import { Highlighter, LENGTH_MOST, SPANS_MOST, type Thread } from "../../src/page/highlighter.ts";
import { LAST, LEAST_MS, MOST_MS, MOST_WEIGHT, Slices } from "../../src/page/slices.ts";

class Frames {
  time = 0;
  #due: ((took: number) => void)[] = [];
  now = (): number => this.time;
  afterFrame = (call: (took: number) => void): void => {
    this.#due.push(call);
  };
  afterChange = (call: () => void): void => call();
  frame(took = 0): void {
    const due = this.#due;
    this.#due = [];
    for (const call of due) call(took);
  }
}

it("admits so many characters a frame, and one piece always", () => {
  const frames = new Frames();
  const slices = new Slices(frames);
  expect(slices.admits(10 * MOST_WEIGHT)).toBe(true);
  expect(slices.admits(1)).toBe(false);
  frames.frame();
  expect(slices.admits(MOST_WEIGHT - 10)).toBe(true);
  expect(slices.admits(10)).toBe(true);
  expect(slices.admits(1)).toBe(false);
});

it("admits nothing more once a frame's time is over", () => {
  const frames = new Frames();
  const slices = new Slices(frames);
  expect(slices.admits(1)).toBe(true);
  frames.time += 100;
  expect(slices.admits(1)).toBe(false);
  frames.frame();
  expect(slices.admits(1)).toBe(true);
});

it("lets what waits go in order, frame by frame, and forgets what was taken back", () => {
  const frames = new Frames();
  const slices = new Slices(frames);
  const gone: number[] = [];
  const wait = (n: number): (() => void) => slices.later(MOST_WEIGHT / 2, () => gone.push(n));
  [wait(1), wait(2), wait(3), wait(4)][2]?.();
  frames.frame();
  expect(gone).toEqual([1, 2]);
  frames.frame();
  expect(gone).toEqual([1, 2, 4]);
});

it("looks again while there is more in sight, but not for ever, and is hurried no longer than that", () => {
  const hurried: boolean[] = [];
  for (const [found, times] of [[[true, true, false], 3], [[true, true, true, true, true, true], 4], [[false], 1]] as const) {
    const changed: (() => void)[] = [];
    const frames = Object.assign(new Frames(), { afterChange: (call: () => void) => changed.push(call) });
    const slices = new Slices(frames);
    let count = 0;
    slices.hurry(() => {
      hurried.push(slices.isHurried);
      return found[count++] === true;
    });
    expect(slices.isHurried).toBe(true);
    while (changed.length > 0) changed.shift()?.();
    expect([count, slices.isHurried]).toEqual([times, false]);
  }
  expect(hurried.every(Boolean)).toBe(true);
});

it("lets what waits go by its rank", () => {
  const frames = new Frames();
  const slices = new Slices(frames);
  const gone: string[] = [];
  for (const [name, rank] of [["last", LAST], ["2", 2], ["1", 1], ["0", 0], ["1 too", 1]] as const)
    slices.later(1, () => gone.push(name), rank);
  frames.frame();
  expect(gone).toEqual(["0", "1", "1 too", "2", "last"]);
});

it("counts how long each piece took before it lets the next one go, and gives more time where frames are slow", () => {
  const frames = new Frames();
  const slices = new Slices(frames);
  let gone = 0;
  const makes = (): void => {
    gone += 1;
    frames.time += 5;
  };
  for (let count = 0; count < 100; count += 1) slices.later(1, makes);
  const inFrame = (took: number): number => {
    const before = gone;
    frames.frame(took);
    return gone - before;
  };
  expect(inFrame(0)).toBe(Math.floor(LEAST_MS / 5) + 1);
  expect(inFrame(10)).toBe(20 / 5 + 1);
  expect(inFrame(1_000)).toBe(MOST_MS / 5 + 1);
  expect(MOST_MS).toBeLessThan(50);
});

class Threads {
  started = 0;
  ended = 0;
  asked: { code: string; answer: (html: string | null) => void }[] = [];
  timers = new Set<() => void>();
  start = (): Thread => {
    this.started += 1;
    return {
      ask: (code, _language, answer) => this.asked.push({ code, answer }),
      end: () => {
        this.ended += 1;
      },
    };
  };
  after = (_milliseconds: number, call: () => void): (() => void) => {
    this.timers.add(call);
    return () => this.timers.delete(call);
  };
}

it("ends a thread that does not answer in time, and colours the next code with a new one", () => {
  const threads = new Threads();
  const highlighter = new Highlighter(threads.start, threads.after);
  const got: (string | null)[] = [];
  highlighter.colour("endless", "js", (html) => got.push(html));
  highlighter.colour("fine", "js", (html) => got.push(html));
  expect(threads.asked.map((one) => one.code)).toEqual(["endless"]);
  for (const call of [...threads.timers]) call();
  expect([threads.started, threads.ended]).toEqual([2, 1]);
  threads.asked[0]?.answer("too late");
  threads.asked[1]?.answer("<span>fine</span>");
  expect(got).toEqual([null, "<span>fine</span>"]);
  expect(threads.timers.size).toBe(0);
});

it("leaves code without colours that is too long or would be too many spans", () => {
  const threads = new Threads();
  const highlighter = new Highlighter(threads.start, threads.after);
  const got: (string | null)[] = [];
  highlighter.colour("x".repeat(LENGTH_MOST + 1), "js", (html) => got.push(html));
  highlighter.colour("x", "js", (html) => got.push(html));
  threads.asked[0]?.answer("<span>x</span>".repeat(SPANS_MOST + 1));
  expect(got).toEqual([null, null]);
});

it("asks nothing for code that is gone", () => {
  const threads = new Threads();
  const highlighter = new Highlighter(threads.start, threads.after);
  const got: (string | null)[] = [];
  highlighter.colour("one", "js", (html) => got.push(html));
  highlighter.colour("two", "js", (html) => got.push(html))();
  threads.asked[0]?.answer("1");
  expect(got).toEqual(["1"]);
  expect(threads.asked).toHaveLength(1);
});
