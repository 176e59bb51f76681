/** A place in a line, in characters and in columns: a tab reaches to the next fourth column. */

export class Cursor {
  readonly line: string;
  at = 0;
  column = 0;
  /** Columns of a tab that was taken in part. */
  #left = 0;

  constructor(line: string) {
    this.line = line;
  }

  /** The first sign that is no blank, and how many columns are before it. */
  next(): { at: number; indent: number } {
    let at = this.at;
    let column = this.column;
    for (; at < this.line.length; at += 1) {
      const sign = this.line.charCodeAt(at);
      if (sign === 32) column += 1;
      else if (sign === 9) column += at === this.at && this.#left > 0 ? this.#left : 4 - (column % 4);
      else break;
    }
    return { at, indent: column - this.column };
  }

  /** Takes so many columns of blanks. */
  skip(columns: number): void {
    let left = columns;
    while (left > 0 && this.at < this.line.length) {
      const sign = this.line.charCodeAt(this.at);
      if (sign === 32) {
        this.at += 1;
        this.column += 1;
        left -= 1;
      } else if (sign === 9) {
        const wide = this.#left > 0 ? this.#left : 4 - (this.column % 4);
        const taken = Math.min(wide, left);
        this.column += taken;
        left -= taken;
        this.#left = wide - taken;
        if (this.#left === 0) this.at += 1;
      } else return;
    }
  }

  /** Goes to a sign behind blanks, and so many signs further. */
  moveTo(at: number, signs = 0): void {
    const { indent } = this.next();
    this.skip(indent);
    this.at = at + signs;
    this.column += signs;
    this.#left = 0;
  }

  /** The line from here, with what is left of a tab as spaces. */
  rest(): string {
    return this.#left > 0 ? " ".repeat(this.#left) + this.line.slice(this.at + 1) : this.line.slice(this.at);
  }
}
