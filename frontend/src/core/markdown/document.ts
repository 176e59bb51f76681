/**
 * The blocks of a text that may still grow, made a few at a time.
 *
 * Guarantees: the same blocks as if the text had come at once; what was made of finished blocks stays; a text that
 * grows costs its last block, not its length; no more than BLOCKS_MOST blocks and about ELEMENTS_MOST elements are
 * made, the text behind them is one plain block; a block that cannot be made is shown as its plain text, so nothing that was said is missing.
 */

import { BLOCKS_MOST, ELEMENTS_MOST, Work } from "./bounds.ts";
import { BlockReader, type TopBlock } from "./blocks.ts";
import { addDefinitions, type Links } from "./links.ts";

export interface Maker<T> {
  block(block: TopBlock, raw: string, links: Links, work: Work): T;
  plain(text: string): T;
  /** How many elements it is made of. */
  elements(made: T): number;
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
  #made: { end: number; isContinued: boolean; elements: number }[] = [];
  #elements = 0;
  #reader: BlockReader = new BlockReader("");
  #next: TopBlock | null = null;
  #isDone = true;

  constructor(maker: Maker<T>) {
    this.#maker = maker;
  }

  get isDone(): boolean {
    return this.#isDone;
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
  }

  /** Keeps the blocks that a line before `place` has ended. */
  #keep(place: number): void {
    while ((this.#made.at(-1)?.end ?? -1) >= place && this.#made.length > 0) this.#drop();
  }

  #drop(): void {
    let dropped = this.#made.pop();
    for (; dropped; dropped = dropped.isContinued ? this.#made.pop() : undefined) this.#elements -= dropped.elements;
  }

  /** Makes blocks as long as each is admitted with its weight. True once all are made. */
  advance(admits: (weight: number) => boolean): boolean {
    while (!this.#isDone) {
      this.#next ??= this.#read();
      if (this.#next === null) this.#finish();
      else if (!admits(this.nextWeight)) return false;
      else this.#make(this.#next);
    }
    return true;
  }

  #read(): TopBlock | null {
    if (this.#made.length >= BLOCKS_MOST || this.#elements > ELEMENTS_MOST) return this.#rest();
    try {
      return this.#reader.next();
    } catch {
      return this.#rest();
    }
  }

  /** Everything that is left, as it is. */
  #rest(): TopBlock | null {
    const start = this.#made.at(-1)?.end ?? 0;
    const end = this.#text.length;
    return start >= end ? null : { node: { kind: "rule" }, start, end, isContinued: true, weight: 1, isPlain: true };
  }

  #make(block: TopBlock): void {
    const raw = this.#text.slice(block.start, block.end);
    const made = block.isPlain ? this.#maker.plain(raw) : this.#blockOf(block, raw);
    const elements = this.#maker.elements(made);
    this.#elements += elements;
    this.blocks[this.#made.length] = made;
    this.#made.push({ end: block.end, isContinued: block.isContinued, elements });
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
