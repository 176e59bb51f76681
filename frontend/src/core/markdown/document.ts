/**
 * The blocks of a text that may still grow, made a few at a time.
 *
 * Guarantees: the same blocks as if the text had come at once; what was made of finished blocks stays; a text that
 * grows costs its last block, not its length; no more than BLOCKS_MOST blocks are made, the text behind them is plain
 * blocks, piece by piece; a block that cannot be made is shown as its plain text, so nothing that was said is missing.
 */

import { BLOCKS_MOST, READ_AT_ONCE, Work } from "./bounds.ts";
import { BlockReader, type TopBlock } from "./blocks.ts";
import { addDefinitions, type Links } from "./links.ts";
import { endOfPiece } from "../pieces.ts";

export interface Maker<T> {
  block(block: TopBlock, raw: string, links: Links, work: Work): T;
  plain(text: string): T;
}

/** Where a block is in its text, and how heavy it is to draw. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly weight: number;
}

export class MarkdownDocument<T> {
  /** What is made so far; behind it what an earlier, shorter text had there, until it is made anew. */
  readonly blocks: T[] = [];
  readonly work = new Work();
  readonly #maker: Maker<T>;
  #text = "";
  #links: Links = new Map();
  /** Up to here definitions were read. */
  #defined = 0;
  /** Of `blocks`, those that are of this text, with where they are in it. */
  #made: (Span & { isContinued: boolean })[] = [];
  #reader: BlockReader = new BlockReader("");
  #next: TopBlock | null = null;
  #isDone = true;
  /** What follows is plain: it could not be read. */
  #isPlain = false;
  /** So many blocks are as they were when `unchanged` was asked for last. */
  #unchanged = 0;

  constructor(maker: Maker<T>) {
    this.#maker = maker;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** Of each block that is made, in order. */
  get spans(): readonly Span[] {
    return this.#made;
  }

  /** How many blocks at the beginning are as they were when this was asked last. */
  unchanged(): number {
    const before = this.#unchanged;
    this.#unchanged = this.#made.length;
    return before;
  }

  /** How heavy the block is that comes next. */
  get nextWeight(): number {
    return this.#next?.weight ?? 1;
  }

  /** Gives the text. If it goes on from the one before, only its end is read again. */
  set(text: string, isWhole: boolean): void {
    const grows = text.startsWith(this.#text);
    if (grows && text.length === this.#text.length && !isWhole) return;
    if (!grows) {
      this.#links = new Map();
      this.#defined = 0;
    }
    const last = isWhole ? text.length : text.lastIndexOf("\n") + 1;
    const hasNew = last > this.#defined && addDefinitions(this.#links, text.slice(this.#defined, last));
    this.#defined = Math.max(this.#defined, last);
    if (grows && text.length === this.#text.length && !hasNew) return;
    this.#keep(grows && !hasNew ? this.#text.lastIndexOf("\n") + 1 : 0);
    this.#text = text;
    this.#reader = new BlockReader(text, this.#made.at(-1)?.end ?? 0, this.work);
    this.#next = null;
    this.#isDone = false;
    this.#isPlain = false;
  }

  /** Keeps the blocks that a line before `place` has ended. */
  #keep(place: number): void {
    while ((this.#made.at(-1)?.end ?? -1) >= place && this.#made.length > 0) this.#drop();
  }

  #drop(): void {
    let dropped = this.#made.pop();
    while (dropped?.isContinued) dropped = this.#made.pop();
    this.#unchanged = Math.min(this.#unchanged, this.#made.length);
  }

  /** Makes blocks as long as each is admitted with its weight. True once all are made. */
  advance(admits: (weight: number) => boolean): boolean {
    while (!this.#isDone) {
      // A long block is read in parts, each with its turn.
      if (this.#next === null && !this.#hasRead()) {
        if (!admits(READ_AT_ONCE)) return false;
        continue;
      }
      this.#next ??= this.#read();
      if (this.#next === null) this.#finish();
      else if (!admits(this.nextWeight)) return false;
      else this.#make(this.#next);
    }
    return true;
  }

  /** Reads on. True once the next block is known, or that there is none. */
  #hasRead(): boolean {
    try {
      return this.#isPlain || this.#made.length >= BLOCKS_MOST || this.#reader.read(READ_AT_ONCE);
    } catch {
      return true; // it throws again when the block is asked for
    }
  }

  #read(): TopBlock | null {
    if (this.#isPlain || this.#made.length >= BLOCKS_MOST) return this.#rest();
    try {
      return this.#reader.next();
    } catch {
      this.#isPlain = true;
      return this.#rest();
    }
  }

  /** The next piece of what is left, as it is. */
  #rest(): TopBlock | null {
    const start = this.#made.at(-1)?.end ?? 0;
    if (start >= this.#text.length) return null;
    const end = endOfPiece(this.#text, start);
    return { node: { kind: "rule" }, start, end, isContinued: true, weight: end - start, isPlain: true };
  }

  #make(block: TopBlock): void {
    const raw = this.#text.slice(block.start, block.end);
    const made = block.isPlain ? this.#maker.plain(raw) : this.#blockOf(block, raw);
    const { start, end, weight, isContinued } = block;
    this.blocks[this.#made.length] = made;
    this.#made.push({ start, end, weight, isContinued });
    this.#next = null;
    if (block.end >= this.#text.length && block.isPlain) this.#finish();
  }

  #blockOf(block: TopBlock, raw: string): T {
    try {
      return this.#maker.block(block, raw, this.#links, this.work);
    } catch {
      return this.#maker.plain(raw);
    }
  }

  #finish(): void {
    this.blocks.length = this.#made.length;
    this.#isDone = true;
  }
}
